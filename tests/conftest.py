"""Settings for every test process, made before torch is loaded."""

import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several test processes share two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread gains nothing on models as small as the tests'
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
from hypothesis import settings

# How long an example takes says how laden the machine is; and the same examples for everybody, until a test is changed.
# `--hypothesis-profile=default` looks at others.
settings.register_profile("atelier", deadline=None, derandomize=True)
settings.load_profile("atelier")

HERE = Path(__file__).parent
# One of minutes that comes last would leave the other processes idle.
LONGEST = ("browser/", "test_budgets", "test_readme")
# Where several processes and a browser share two cores with the rest of the tests, and now and then one is starved.
# What passed at its second try only is listed at the end of a run (RERUN), and is a fault to be looked into.
STARVED = (HERE / "browser", HERE / "app" / "jobs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest tests begin first, and try those twice that others may starve."""
    items.sort(key=lambda item: next((at for at, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST)))
    for item in items:
        if any(folder in item.path.parents for folder in STARVED):
            item.add_marker(pytest.mark.flaky(reruns=1))
