"""A tiny base and a tiny set, made once for each test process."""

import pytest

from tests.tiny import make_pictures, make_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("set") / "pictures")
