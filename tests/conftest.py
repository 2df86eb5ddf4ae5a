"""Settings for every test process, made before torch is loaded."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # several test processes share two cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
