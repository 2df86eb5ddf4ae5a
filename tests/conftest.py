"""Settings for every test process, made before torch is loaded."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several test processes share two cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
