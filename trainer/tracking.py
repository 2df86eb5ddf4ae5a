"""What a run tells, passed on to TensorBoard and Weights & Biases.

Both are followers of `events.jsonl`: whatever the page shows they have, and the training knows of neither. Another one
is a row here and a switch in the config. Their packages are imported where they are asked for.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from trainer.contract.config import RunConfig
from trainer.contract.rundir import RunDir

Scalars = Mapping[str, float]
Event = Mapping[str, Any]
FLUSH_SECONDS = 5  # how old the files of TensorBoard may be


class Tracker(Protocol):
    """What is told to one, as accelerate's trackers have it (`accelerate.tracking.GeneralTracker`)."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Numbers of a step."""

    def log_images(self, values: dict[str, Any], step: int) -> None:
        """Pictures of a step, each [1, height, width, 3], 0 to 255."""

    def finish(self) -> None:
        """Write what is left and let go."""


class _TensorBoard:
    """A folder of the run; after a crash the steps that are done again replace what was written of them.

    accelerate's tracker imports the whole of TensorBoard where that is installed, half a second before the first step,
    and waits for the disk at every one.
    """

    def __init__(self, run: RunDir, step: int) -> None:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - see above

        again = {"purge_step": step + 1} if step else {}
        place = str(run.path / "tensorboard")
        self._writer = SummaryWriter(place, filename_suffix=f".{step}", flush_secs=FLUSH_SECONDS, **again)

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def log_images(self, values: dict[str, Any], step: int) -> None:
        for name, pixels in values.items():
            self._writer.add_images(name, pixels, step, dataformats="NHWC")

    def finish(self) -> None:
        self._writer.close()


def _wandb(run: RunDir, config: RunConfig, step: int) -> Tracker:
    """One run of theirs for each of ours, which a resume goes on with."""
    from accelerate.tracking import WandBTracker  # noqa: PLC0415 - few ask for it

    own = hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:16]
    settings = config.model_dump(mode="json")
    said = {"name": run.name, "id": own, "resume": "allow", "dir": str(run.path), "config": settings}
    tracker: Any = WandBTracker(config.tracking.project, **said)
    tracker.start()
    return tracker


TRACKERS: dict[str, Callable[[RunDir, RunConfig, int], Tracker]] = {
    "tensorboard": lambda run, config, step: _TensorBoard(run, step),
    "wandb": _wandb,
}


def _step(event: Event) -> Scalars:
    rates = {f"rate/{part}": rate for part, rate in event.get("rates", {}).items()}
    return {"train/loss": event["loss"], "train/gradient_norm": event["norm"], **rates}


def _validation(event: Event) -> Scalars:
    found = {"validation/held_out": event["loss"], "validation/trained_on": event.get("training")}
    return {name: loss for name, loss in found.items() if loss is not None}


def _bands(event: Event) -> Scalars:
    """Loss by amount of noise, little noise first."""
    return {f"bands/{number}": loss for number, loss in enumerate(event["bands"]) if loss is not None}


SCALARS: dict[str, Callable[[Event], Scalars]] = {"step": _step, "validation": _validation, "bands": _bands}


class _Open(NamedTuple):
    name: str
    tracker: Tracker


class Trackers:
    """The trackers of a run; one that fails is left, and the run goes on."""

    def __init__(self, run: RunDir, config: RunConfig, step: int) -> None:
        """Begin after `step` steps, with what is told from now on."""
        self._run, self._offset = run, run.told()
        self._open: list[_Open] = []
        for name, make in TRACKERS.items():
            if getattr(config.tracking, name):
                self._guarded(
                    name, lambda make=make, name=name: self._open.append(_Open(name, make(run, config, step)))
                )

    def follow(self) -> None:
        """Pass on what was told since the last time."""
        if not self._open:
            return
        told = []
        for event, offset in self._run.located(self._offset):
            told.append(event)
            self._offset = offset
        for one in list(self._open):
            self._guarded(one.name, lambda one=one: self._tell(one.tracker, told))

    def close(self) -> None:
        """Pass on the rest, and let go."""
        self.follow()
        for one in list(self._open):
            self._guarded(one.name, one.tracker.finish)
        self._open.clear()

    def _tell(self, tracker: Tracker, told: list[Event]) -> None:
        for event in told:
            if event["kind"] in SCALARS:
                tracker.log(dict(SCALARS[event["kind"]](event)), step=event["step"])
            elif event["kind"] == "sample":
                self._show(tracker, event)

    def _show(self, tracker: Tracker, event: Event) -> None:
        file = self._run.samples / str(event["file"])
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))[None]
        title = f"samples/{event['prompt'][:60]} at {event.get('strength', 1.0):g}"
        tracker.log_images({title: pixels}, step=event["step"])

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        """Whatever goes wrong in another program's library, a training is worth more."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - see above; it is told
            self._open = [one for one in self._open if one.name != name]
            text = f"nothing more goes to {name}: {type(error).__name__}: {str(error)[:200]}"
            self._run.emit("notice", text=text)
