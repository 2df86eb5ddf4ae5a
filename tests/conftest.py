"""Settings for every test process, made before torch is loaded."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several test processes share two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread gains nothing on models as small as the tests'
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
from hypothesis import settings

LONGEST = (
    "browser/test_journey",
    "browser/test_queue",
    "browser/test_dataset",
    "browser/",
    "test_budgets.py",
    "test_readme",
)

settings.register_profile("atelier", deadline=None)  # how long an example takes says how laden the machine is
settings.load_profile("atelier")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest tests begin first: one of minutes that comes last leaves the other processes idle."""
    items.sort(key=lambda item: next((at for at, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST)))
