"""Presets: partial configs in files, each in three lengths, with what people are told of them. No torch.

A file is a layer of `compose` with two tables more. `[about]` is an `About`; `[lengths]` has a layer over the others
for every length that the file offers. A file of one's own needs neither.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.compose import Layer, compose, read_toml
from trainer.contract.errors import UserError

DEFAULT_PRESET, DEFAULT_LENGTH = "style", "good"
LENGTHS = ("draft", DEFAULT_LENGTH, "best")
PICTURES = 20  # of the set that times are told for
# "Choose the rate for me": Prodigy finds it (arXiv 2306.06101), and 1 is where its authors leave its own.
AUTO_RATE: Layer = {"optimizer": {"name": "prodigy", "learning_rate": 1.0}}


class About(BaseModel):
    """What people are told of a preset.

    Attributes:
        when: to use it, a sentence.
        machine: on which the rate was measured.
        rate: pictures learned in a second there.
        start: seconds before the first step.
        memory: that it takes.
        source: of the preset's numbers and of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: str
    machine: str
    rate: float
    start: float
    memory: str
    source: str


@dataclass(frozen=True)
class Preset:
    """A preset, read.

    Attributes:
        layer: what all its lengths share.
        lengths: length -> layer over it.
        about: None where the file says nothing.
    """

    layer: Layer
    lengths: Mapping[str, Layer]
    about: About | None

    def layers(self, length: str = "") -> list[Layer]:
        """Layers for `compose`.

        Args:
            length: of `lengths`; "" is `good`, where the file has lengths.

        Raises:
            UserError: it has no such length.
        """
        if length and length not in self.lengths:
            known = f"Lengths: {', '.join(self.lengths)}." if self.lengths else "This preset has none."
            fix = f"{known} Any other: --set training.views=60, or training.steps, or training.epochs."
            raise UserError(f"there is no length '{length}'", "--length", fix)
        chosen = self.lengths.get(length or DEFAULT_LENGTH)
        return [self.layer, *([chosen] if chosen else [])]

    def seconds(self, length: str) -> float:
        """How long `PICTURES` pictures take, from the start of the process to the file, without samples."""
        assert self.about is not None
        training = compose([*self.layers(length), {"dataset": {"path": "-"}}]).training
        assert training.views is not None
        return self.about.start + PICTURES * training.views / self.about.rate

    def time_words(self) -> str:
        """Such as "20 pictures take about 40 s (draft), 1 min (good), 2 min (best) on an NVIDIA H200"."""
        assert self.about is not None
        times = ", ".join(f"{rounded(self.seconds(length))} ({length})" for length in self.lengths)
        return f"{PICTURES} pictures take about {times} on {self.about.machine}"


def rounded(seconds: float) -> str:
    """As precise as a measurement on another machine can be.

    >>> rounded(33), rounded(64), rounded(220)
    ('30 s', '1 min', '3.5 min')
    """
    return f"{max(10, round(seconds, -1)):g} s" if seconds < 55 else f"{round(seconds / 30) / 2:g} min"


def presets(shelf: str) -> dict[str, Path]:
    """Return the presets of a shelf, name -> file; see `trainer.formats.bases.preset_shelf` for a base's."""
    folder = Path(str(resources.files("presets"))) / shelf
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_preset(name: str, shelf: str) -> Preset:
    """Read a preset by its name, or a `.toml` file by its path.

    Raises:
        UserError: no such preset, with the nearest right name; or its file is wrong.
    """
    known = presets(shelf)
    if name not in known and not (name.endswith(".toml") and Path(name).is_file()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(
            f"there is no preset '{name}'.{hint}", "--preset", f"Presets: {', '.join(known)}; or a .toml file."
        )
    table: dict[str, Any] = dict(read_toml(known.get(name, Path(name))))
    about, lengths = table.pop("about", None), table.pop("lengths", {})
    return Preset(table, _lengths(lengths, name), None if about is None else _about(about, name))


def _lengths(given: Any, name: str) -> dict[str, Layer]:
    if not isinstance(given, Mapping) or not all(isinstance(layer, Mapping) for layer in given.values()):
        fix = "Write [lengths] and lines such as draft = { training.views = 20 }."
        raise UserError("[lengths] is not a table of settings for each length", name, fix)
    return {length: given[length] for length in sorted(given, key=_place)}


def _place(length: str) -> tuple[int, str]:
    return (LENGTHS.index(length) if length in LENGTHS else len(LENGTHS)), length


def _about(given: Any, name: str) -> About:
    try:
        return About.model_validate(given)
    except ValidationError as error:
        lines = [f"about.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UserError("\n".join(lines), name, f"[about] has: {', '.join(About.model_fields)}.") from None
