"""Each test process counts as a machine of its own, as far as the lock goes that lets one training run at a time."""

import os
import tempfile
from pathlib import Path

worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker:
    own = Path(tempfile.gettempdir()) / f"atelier-{worker}"
    own.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
