"""The check over other programs' loaders sees what is missing, left over, elsewhere or of another size."""

import importlib
from dataclasses import replace

import pytest
import torch

from benchmarks.clients.__main__ import Row, table
from benchmarks.clients.files import VARIANTS, write
from benchmarks.clients.judge import compare
from benchmarks.clients.loaded import Applied, Loaded
from benchmarks.clients.models import Base, layers, plain, skeleton
from benchmarks.clients.shims import stand_in
from trainer.adapters.read import read_adapter
from trainer.protocols import Target

BASE = Base("sd1", narrow=True)
GOOD = {"keys": 576, "applied": 192, "elsewhere": [], "missed": [], "left_over": [], "worst": 1e-7, "at": "x"}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "unet.safetensors"
    write(BASE, VARIANTS[0], path)
    return read_adapter(path, BASE.parts())


def changing(update):
    def change(weight):
        return weight + torch.einsum("or,r...->o...", update.up.flatten(1), update.down).view_as(weight)

    return change


@pytest.fixture(scope="module")
def loaded(ours):
    shapes = {Target("unet", path): tuple(one.weight.shape) for path, one in layers(skeleton("sd1")["unet"])}
    taken = {plain(target): Applied(shapes[target], changing(update)) for target, update in ours.updates.items()}
    return Loaded(taken, ())


def test_a_client_that_does_as_we_do_is_as_it_should_be(loaded, ours):
    found = compare(loaded, ours, BASE)
    assert (found["applied"], found["missed"], found["elsewhere"], found["left_over"]) == (192, [], [], [])
    assert found["worst"] < 1e-6


def test_a_layer_that_is_missed_doubled_or_elsewhere_is_seen(loaded, ours):
    first, second, *_ = loaded.layers
    rest = {target: one for target, one in loaded.layers.items() if target != first}
    elsewhere = compare(Loaded({**rest, Target("unet", "conv_in"): loaded.layers[first]}, ("a.alpha",)), ours, BASE)
    assert (elsewhere["missed"], elsewhere["elsewhere"]) == ([str(first)], ["unet.conv_in"])
    assert elsewhere["left_over"] == ["a.alpha"]
    doubled = replace(
        loaded.layers[second], change=changing(replace(ours.updates[second], up=ours.updates[second].up * 2))
    )
    found = compare(Loaded({**loaded.layers, second: doubled}, ()), ours, BASE)
    assert found["worst"] == pytest.approx(1.0, abs=1e-3) and found["at"] == str(second)
    other = replace(loaded.layers[first], published=(1, 1))
    assert "is of shape (1, 1) there" in compare(Loaded({**loaded.layers, first: other}, ()), ours, BASE)["error"]


@pytest.mark.parametrize(
    "wrong",
    [{"left_over": ["a.alpha"]}, {"missed": ["x"]}, {"elsewhere": ["x"]}, {"worst": 2e-5}, {"worst": float("nan")},
     {"error": "ValueError: no"}],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_a_miss_is_a_miss(wrong):
    row = Row("ComfyUI", "sd1 narrow", "unet", GOOD, 1e-5)
    assert row.good
    assert not replace(row, found=GOOD | wrong).good
    assert "| ComfyUI | sd1 narrow | unet | 576 | 192 | 0 | 0 | 1.0e-07 |" in table([row])


def test_a_stand_in_is_found_only_where_nothing_else_is():
    stand_in(["package_that_nobody_has", "json"])
    made = importlib.import_module("package_that_nobody_has.part")
    assert isinstance(made.Thing, type) and made.Thing is made.Thing
    assert importlib.import_module("json").loads("1") == 1
    with pytest.raises(ImportError):
        importlib.import_module("another_that_nobody_has")
