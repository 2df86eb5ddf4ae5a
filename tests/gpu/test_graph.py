"""What only a GPU can show: `pytest -m gpu -n 0`. Tiny models, so that it takes a minute."""

import pytest
import torch
from PIL import Image

from tests.tiny import make_pictures, make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.__main__ import main
from trainer.assemble import assemble
from trainer.console import reporter
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run, steps
from trainer.device import choose_engine
from trainer.families.locate import find_source, load_family
from trainer.formats.header import read_header

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

MAKERS = {"sd1": make_tiny_sd, "sdxl": make_tiny_sdxl}


@pytest.fixture(scope="module", params=MAKERS)
def base(request, tmp_path_factory):
    return MAKERS[request.param](tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of two shapes, so that two graphs are recorded."""
    folder = make_pictures(tmp_path_factory.mktemp("set") / "pictures", 4)
    make_pictures(folder / "wide", 3, (128, 64))
    return folder


def trained(home, base, pictures, name, engine, dtype="auto", **adapter):
    """Train 12 steps; return (hash of the file's tensors, losses)."""
    layer = {
        "model": {"base": str(base), "dtype": dtype},
        "dataset": {"path": str(pictures), "flip": True, "caption_dropout": 0.2},
        "adapter": {"rank": 4, **adapter},
        "training": {"steps": 12, "batch_size": 2, "accumulation": 2, "save_every": "never"},
        "engine": engine,
        "sampling": {"every": "50%", "steps": 2},
    }
    run = create_run(home, name, compose([layer]))
    assert main(["train", str(run.path)]) == 0
    assert run.engine()["device"] == "cuda"
    return read_header(run.adapter_file).metadata["sshs_model_hash"], [e["loss"] for e in steps(run).values()]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_replayed_steps_are_the_eager_ones_bit_for_bit(tmp_path, base, pictures, layout):
    options = {"deterministic": True, "layout": layout}
    graph, eager = (trained(tmp_path, base, pictures, name, {**options, "graph": name}) for name in ("on", "off"))
    assert graph == eager


def test_with_masks_and_several_texts_replayed_steps_are_the_eager_ones_too(tmp_path, base):
    folder = make_pictures(tmp_path / "masked", 4)
    make_pictures(folder / "wide", 3, (128, 64))
    Image.linear_gradient("L").resize((64, 64)).save(folder / "0-masklabel.png")
    (folder / "1.txt").write_text("one, two, three, four\na {red|blue} box")
    options = {"deterministic": True, "layout": "nchw"}
    graph, eager = (trained(tmp_path, base, folder, name, {**options, "graph": name}) for name in ("on", "off"))
    assert graph == eager
    (folder / "0-masklabel.png").unlink()
    assert trained(tmp_path, base, folder, "plain", {**options, "graph": "on"}) != graph, "the mask counts"


@pytest.mark.parametrize("graph", ["on", "off"])
def test_texts_that_come_with_the_batches_change_nothing(tmp_path, base, pictures, monkeypatch, graph):
    options = {"deterministic": True, "layout": "nchw", "graph": graph}
    on_device = trained(tmp_path, base, pictures, "device", options)
    monkeypatch.setattr("trainer.data.texts.HELD", 0)
    assert trained(tmp_path, base, pictures, "host", options) == on_device


def test_the_loop_never_waits_for_texts_that_come_with_the_batches(tmp_path, base, pictures, monkeypatch):
    monkeypatch.setattr("trainer.data.texts.HELD", 0)
    layer = {"model": {"base": str(base)}, "dataset": {"path": str(pictures)}, "sampling": {"every": "never"}}
    layer |= {"training": {"steps": 12, "batch_size": 2}, "adapter": {"rank": 4}}
    with reporter() as report:
        run = assemble(create_run(tmp_path, "run", compose([layer])), report)
        assert run.restore() == 0 and run.batches.batch(0).hidden is not None
        run.learn(0), run.learn(1), run.learn(2)  # both shapes are recorded
        torch.cuda.set_sync_debug_mode("error")
        try:
            for micro in range(6):
                run.learn(micro)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_pictures_encoded_together_come_out_as_those_encoded_alone(base, tmp_path):
    layer = {"model": {"base": str(base)}, "dataset": {"path": "x"}}
    engine = choose_engine(compose([layer]), {}).apply()
    family = load_family(compose([layer]).model, engine)
    pixels = torch.rand(5, 3, 64, 96) * 2 - 1
    together = family.encode_pictures(pixels)
    alone = [family.encode_pictures(one[None]) for one in pixels]
    torch.testing.assert_close(together.mean, torch.cat([one.mean for one in alone]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together.std, torch.cat([one.std for one in alone]), rtol=1e-3, atol=1e-3)
    assert together.mean.shape == (5, 4, 8, 12)


def test_with_a_text_encoder_replayed_steps_are_the_eager_ones_too(tmp_path, base, pictures):
    options = {"deterministic": True, "layout": "nchw"}
    graph, eager = (
        trained(tmp_path, base, pictures, name, {**options, "graph": name}, text_encoder=True) for name in ("on", "off")
    )
    assert graph == eager


def test_dropout_inside_a_graph_is_drawn_anew_for_every_step_and_again_on_resume(tmp_path, base, pictures):
    options = {"deterministic": True, "layout": "nchw"}
    dropped, again = (trained(tmp_path, base, pictures, name, options, dropout=0.5) for name in ("one", "two"))
    eager = trained(tmp_path, base, pictures, "eager", {**options, "graph": "off"}, dropout=0.5)
    whole = trained(tmp_path, base, pictures, "whole", options)
    assert dropped == again == eager and dropped != whole


def test_in_fp16_the_recorded_steps_see_the_scale_change(tmp_path, base, pictures, monkeypatch):
    monkeypatch.setattr("trainer.optim.scaling.GOOD_STEPS", 3)
    options = {"deterministic": True, "layout": "nchw"}
    graph, eager = (
        trained(tmp_path, base, pictures, name, {**options, "graph": name}, dtype="fp16") for name in ("on", "off")
    )
    assert graph == eager
    monkeypatch.setattr("trainer.optim.scaling.GOOD_STEPS", 2000)
    assert trained(tmp_path, base, pictures, "still", options, dtype="fp16")[1] == pytest.approx(eager[1], rel=0.02)


@pytest.mark.parametrize("share", ["half", "full"])
def test_blocks_that_are_computed_again_change_nothing(tmp_path, base, pictures, share):
    options = {"deterministic": True, "layout": "nchw"}
    kept = trained(tmp_path, base, pictures, "kept", options, dropout=0.2)
    again = trained(tmp_path, base, pictures, "again", {**options, "checkpointing": share}, dropout=0.2)
    assert kept == again


@pytest.mark.parametrize("kernel", ["cudnn", "flash", "efficient", "math"])
def test_every_attention_kernel_trains(tmp_path, base, pictures, kernel):
    _, losses = trained(tmp_path, base, pictures, kernel, {"attention": kernel})
    _, plain = trained(tmp_path, base, pictures, "plain", {})
    assert losses == pytest.approx(plain, rel=0.05)


def test_parts_are_read_onto_the_device_as_the_cpu_reads_them(base):
    source, device = find_source(str(base)), torch.device("cuda")
    for part in ("unet", "vae", "text_encoder"):
        there, here = (source.model(part, torch.bfloat16, place) for place in (device, torch.device("cpu")))
        for name, weight in here.state_dict().items():
            assert there.state_dict()[name].device.type == "cuda"
            assert torch.equal(there.state_dict()[name].cpu(), weight), name
