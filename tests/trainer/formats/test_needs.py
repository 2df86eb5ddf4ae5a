"""What a run takes, told from layers alone: held against the layers that a real run trains and the file it writes."""

import pytest

from tests.trainer.test_run import make_run
from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.ladder import RUNGS
from trainer.formats.bases import find_base
from trainer.formats.needs import layers_of, learning, needs_of

GIB = 2**30


def config(**sections):
    return compose([{"dataset": {"path": "-"}, "training": {"steps": 1}, **sections}])


@pytest.mark.parametrize(("family", "unet", "encoders"), [("sd1", 192, 72), ("sd2", 192, 138), ("sdxl", 722, 264)])
def test_the_layers_that_learn_are_as_many_as_kohya_trains(family, unet, encoders):
    layers = layers_of(None, family, practice=False)
    assert len(learning(layers, config())) == unet
    assert len(learning(layers, config(adapter={"text_encoder": True}))) == unet + encoders


def test_the_file_is_as_large_as_the_one_that_a_run_writes(tmp_path, tiny_sd, tiny_set):
    run = make_run(tmp_path, tiny_sd, tiny_set, steps=1)
    layers = layers_of(find_base(str(tiny_sd)), "sd1", practice=False)
    need = needs_of(layers, run.config(), "sd1", 64, None)
    assert main(["train", str(run.path)]) == 0
    start = next(event for event in run.events() if event["kind"] == "start")
    assert start["modules"] == len(learning(layers, run.config()))
    metadata = 30_000  # what is told of the run, and a cover
    assert 0 < need.file <= run.adapter_file.stat().st_size <= need.file * 1.2 + metadata


def test_less_memory_takes_a_leaner_rung_and_more_than_all_of_it_is_said():
    layers, xl = layers_of(None, "sdxl", practice=False), config(training={"steps": 1, "batch_size": 1})
    found = {gib: needs_of(layers, xl, "sdxl", 128 * 128, gib * GIB) for gib in (80, 10, 8, 5, 3, 1)}
    order = [list(RUNGS).index(need.rung) for need in found.values()]
    assert order == sorted(order) and found[80].rung == "none" and found[1].rung == "streaming"
    assert [need.fits for need in found.values()] == [True] * 5 + [False]
    assert all(need.memory <= gib * GIB for gib, need in found.items() if need.fits)
    wide = needs_of(layers, xl, "sdxl", 4 * 128 * 128, 80 * GIB)
    assert wide.memory > found[80].memory and wide.file == found[80].file
