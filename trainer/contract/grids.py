"""Tables of pictures: what may vary along an axis, and the pictures that follow. No torch: the page reads it too."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationError

from trainer.contract.errors import UserError
from trainer.contract.requests import Asked, GenerateRequest, Picture, Prompt, Shared, Strength

Kind = Literal[
    "adapter", "checkpoint", "strength", "text_encoder", "blocks", "seed", "prompt", "cfg", "sampler", "steps"
]
MOST_CELLS = 256  # as a request has pictures


class Axis(Asked):
    """What varies.

    Attributes:
        kind: see `AXES`.
        values: of each column or row, numbers as text too. Files for `adapter` and `checkpoint`, "" for none; a preset
            or numbers with commas for `blocks`.
        adapter: which of the request's adapters it is about, where it is about one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    kind: Kind
    values: tuple[Prompt, ...] = Field(min_length=1, max_length=64)
    adapter: Annotated[int, Field(ge=0)] = 0


class GridRequest(Shared):
    """A table of pictures: `<out>/<id>-0.png`, ... row by row, and all of them with labels as `<out>/<id>-sheet.png`.

    Attributes:
        picture: what all cells have in common.
        x, y: what varies across and down.
    """

    picture: Picture
    x: Axis
    y: Axis | None = None


class Label(NamedTuple):
    """What is written beside a column or row."""

    what: str
    value: str


@dataclass(frozen=True)
class Cell:
    """One picture and its adapters, a strength of the picture for each."""

    picture: Picture
    adapters: tuple[str, ...]

    def shows(self, **changes: object) -> "Cell":
        """The same with something else of the picture; all is checked again."""
        return replace(self, picture=Picture(**{**self.picture.model_dump(), **changes}))

    def strength(self, place: int, **changes: object) -> "Cell":
        """The same with something else of an adapter's strength."""
        given = self.picture.strengths[place]
        plain = given if isinstance(given, Strength) else Strength(unet=given)
        made = Strength(**{**plain.model_dump(), **changes})
        strengths = list(self.picture.strengths)
        strengths[place] = made.unet if made == Strength(unet=made.unet) else made
        return self.shows(strengths=tuple(strengths))


@dataclass(frozen=True)
class AxisRow:
    """What may vary.

    Attributes:
        title: as a label says it.
        change: (cell, value, place of the adapter) -> the cell with it.
        of_adapter: whether it is about an adapter.
        said: value -> what a label says of it.
    """

    title: str
    change: Callable[[Cell, str, int], Cell]
    of_adapter: bool = False
    said: Callable[[str], str] = str


def _file(cell: Cell, value: str, place: int) -> Cell:
    if not value:
        return cell.strength(place, unet=0.0, text_encoder=None)
    files = list(cell.adapters)
    files[place] = value
    return replace(cell, adapters=tuple(files))


def _step(value: str) -> str:
    """Of a checkpoint's file; that of the end has no step in its name."""
    found = re.search(r"-s(\d+)$", Path(value).stem)
    return f"step {int(found[1])}" if found else "the end" if value else "base"


def _blocks(cell: Cell, value: str, place: int) -> Cell:
    text = value.strip()
    return cell.strength(place, blocks=text if text.isalpha() else tuple(text.split(",")))


AXES: dict[Kind, AxisRow] = {
    "adapter": AxisRow("", _file, True, lambda value: Path(value).stem or "base"),
    "checkpoint": AxisRow("", _file, True, _step),
    "strength": AxisRow("strength", lambda cell, value, place: cell.strength(place, unet=value), True),
    "text_encoder": AxisRow("text encoder", lambda cell, value, place: cell.strength(place, text_encoder=value), True),
    "blocks": AxisRow("blocks", _blocks, True),
    "seed": AxisRow("seed", lambda cell, value, _: cell.shows(seed=value)),
    "prompt": AxisRow("", lambda cell, value, _: cell.shows(prompt=value)),
    "cfg": AxisRow("CFG", lambda cell, value, _: cell.shows(guidance=value)),
    "sampler": AxisRow("", lambda cell, value, _: cell.shows(sampler=value)),
    "steps": AxisRow("steps", lambda cell, value, _: cell.shows(steps=value)),
}


OF_FILES: tuple[Kind, ...] = ("adapter", "checkpoint")  # kinds whose values are adapter files, "" for none


def files_on(axes: Iterable[Axis]) -> list[str]:
    """The adapter files that some axes name, in their order."""
    return [value for axis in axes if axis.kind in OF_FILES for value in axis.values if value]


def labels(axis: Axis) -> list[Label]:
    """Of an axis' values."""
    row = AXES[axis.kind]
    return [Label(row.title, row.said(value)) for value in axis.values]


def cells(request: GridRequest) -> GenerateRequest:
    """The table as one request, row by row.

    Raises:
        UserError: an axis has a value that is none of its kind, or cannot be.
    """
    _check(request)
    start = Cell(request.picture, request.adapters)
    down = [start] if request.y is None else _along(start, request.y)
    found = [cell for row in down for cell in _along(row, request.x)]
    files = tuple(dict.fromkeys(file for cell in found for file in cell.adapters))
    pictures = [cell.picture.model_copy(update={"strengths": _placed(cell, files)}) for cell in found]
    same = request.model_dump(include=set(Shared.model_fields) - {"adapters"})
    return GenerateRequest(**same, adapters=files, pictures=tuple(pictures))


def _along(cell: Cell, axis: Axis) -> list[Cell]:
    row = AXES[axis.kind]
    found = []
    for value in axis.values:
        try:
            found.append(row.change(cell, value, axis.adapter))
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            fix = f"Values of '{axis.kind}' are as in a single picture."
            raise UserError(f"'{value}' is no value of the axis '{axis.kind}': {why}", "axis", fix) from None
    return found


def _placed(cell: Cell, files: Sequence[str]) -> tuple[float | Strength, ...]:
    own = dict(zip(cell.adapters, cell.picture.strengths, strict=True))
    return tuple(own.get(file, 0.0) for file in files)


def _check(request: GridRequest) -> None:
    axes = [axis for axis in (request.x, request.y) if axis]
    count, given = len(request.adapters), len(request.picture.strengths)
    if count != given:
        raise UserError(f"{given} strengths for {count} adapters", "strengths", "Give each adapter a strength.")
    for axis in axes:
        if AXES[axis.kind].of_adapter and axis.adapter >= count:
            raise UserError(f"the axis '{axis.kind}' needs an adapter", "axis", "Add one, or vary something else.")
    if len({(AXES[axis.kind].change, axis.adapter) for axis in axes}) < len(axes):
        raise UserError(f"both axes are '{axes[0].kind}'", "axis", "Choose two different things.")
    if (size := len(request.x.values) * len(request.y.values if request.y else "x")) > MOST_CELLS:
        raise UserError(f"{size} pictures are too many", "axis", f"A grid has at most {MOST_CELLS} cells.")


def parse_axis(text: str) -> Axis:
    """Read KIND=VALUE,VALUE,...; prompts and numbers of blocks are parted by "|" where they have commas.

    Raises:
        UserError: it is none.
    """
    kind, mark, listed = text.partition("=")
    values = [part.strip() for part in listed.split("|" if "|" in listed else ",")]
    try:
        return Axis(kind=kind.strip().replace("-", "_"), values=tuple(values) if mark else ())
    except ValidationError:
        fix = f"Write KIND=VALUE,VALUE with one of {', '.join(AXES)}; such as strength=0,0.5,1 or prompt=a cat|a dog."
        raise UserError(f"'{text}' is no axis", "axis", fix) from None
