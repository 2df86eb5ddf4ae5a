"""Settings for every test process, made before torch is loaded."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several test processes share two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread gains nothing on models as small as the tests'
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from hypothesis import settings

settings.register_profile("atelier", deadline=None)  # how long an example takes says how laden the machine is
settings.load_profile("atelier")
