"""What a run tells, in the files of other programs."""

import importlib.util
import struct

import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.packages import check_packages
from trainer.contract.rundir import create_run
from trainer.tracking import Trackers


def written(run):
    """Every (tag, step, value) in the order of the event files; a picture's value is its size."""
    for file in sorted((run.path / "tensorboard").glob("events.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + size])
            place += 16 + size
            for value in event.summary.value:
                shown = (value.image.width, value.image.height) if value.HasField("image") else value.simple_value
                yield value.tag, event.step, shown


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path, "told", compose([{"dataset": {"path": "-"}}]))


def tell(run, step, loss):
    run.emit("step", step=step, loss=loss, norm=0.5, rate=1e-3, rates={"unet": 1e-3})


def test_curves_and_samples_are_passed_on(run):
    trackers = Trackers(run, run.config(), 0)
    run.emit("notice", text="of no concern")
    tell(run, 1, 0.25)
    run.samples.mkdir(exist_ok=True)
    Image.new("RGB", (24, 16)).save(run.samples / "a.png")
    run.emit("sample", step=1, prompt="a cat", seed=1, strength=0.5, file="a.png")
    trackers.follow()
    run.emit("validation", step=2, loss=0.125, bands=[0.125, 0.25], training=None)
    run.emit("bands", step=2, bands=[None, 0.5])
    trackers.close()
    assert list(written(run)) == [
        ("train/loss", 1, 0.25),
        ("train/gradient_norm", 1, 0.5),
        ("rate/unet", 1, pytest.approx(1e-3)),
        ("samples/a_cat_at_0.5", 1, (24, 16)),
        ("validation/held_out", 2, 0.125),
        ("bands/1", 2, 0.5),
    ]


def test_a_resume_tells_only_what_is_new(run):
    first = Trackers(run, run.config(), 0)
    tell(run, 1, 0.5)
    first.close()
    tell(run, 2, 0.5)  # of the steps that a crash cost
    again = Trackers(run, run.config(), 1)
    tell(run, 2, 0.25)
    again.close()
    assert [row[1:] for row in written(run) if row[0] == "train/loss"] == [(1, 0.5), (2, 0.25)]


def test_what_goes_wrong_there_costs_the_run_nothing(run):
    trackers = Trackers(run, run.config(), 0)
    run.emit("sample", step=1, prompt="a cat", seed=1, strength=1, file="is-gone.png")
    trackers.follow()
    tell(run, 2, 0.5)
    trackers.close()
    (notice,) = [event["text"] for event in run.events() if event["kind"] == "notice"]
    assert notice.startswith("nothing more goes to tensorboard: FileNotFoundError")


def test_nothing_is_written_where_it_is_not_wanted(tmp_path):
    run = create_run(tmp_path, "quiet", compose([{"dataset": {"path": "-"}, "tracking": {"tensorboard": False}}]))
    trackers = Trackers(run, run.config(), 0)
    tell(run, 1, 0.5)
    trackers.close()
    assert not (run.path / "tensorboard").exists()


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_package_that_is_missing_is_said_before_the_start(run):
    with pytest.raises(UserError, match="needs the package wandb"):
        check_packages(compose([{"dataset": {"path": "-"}, "tracking": {"wandb": True}}]))
