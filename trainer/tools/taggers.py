"""Taggers: networks that give a probability to each tag of a table.

They come in the layout of SmilingWolf's WD taggers: `model.onnx`, which reads pictures as (batch, height, width, BGR)
in float32 from 0 to 255, and `selected_tags.csv` with the name and the category of each of its outputs.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.contract.errors import UserError
from trainer.contract.requests import CaptionRequest
from trainer.tools.fetching import TAGGER, TAGS, WHERE

GENERAL, CHARACTER = 0, 4  # Danbooru's categories; 9 are ratings, which say nothing of what is to be seen
# Tags that are drawn with the letter that stands for a space elsewhere.
# fmt: off
FACES = frozenset((
    "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3",
    "6_9", ">_o", "@_@", "^_^", "o_o", "u_u", "x_x", "|_|", "||_||",
))
# fmt: on
WHITE = (255, 255, 255)
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Tags:
    """The table of a tagger: names as they are written in captions, and the least probability of each."""

    names: tuple[str, ...]
    least: np.ndarray


def open_tagger(folder: Path, request: CaptionRequest) -> Callable[[Sequence[Image.Image]], list[str]]:
    """Load a tagger.

    Returns:
        A function from RGB pictures to their tags, separated by commas, the most certain first.

    Raises:
        UserError: the package that runs it is not installed, or the folder is damaged.
    """
    tags, session = read_tags(folder / TAGS, request), _session(folder / TAGGER)
    given = session.get_inputs()[0]
    sizes = given.shape
    if len(sizes) != 4 or not isinstance(sizes[1], int) or sizes[1] != sizes[2] or sizes[3] != 3:
        problem = f"it reads {sizes}, not pictures as (batch, side, side, 3)"
        raise UserError(problem, str(folder / TAGGER), "Take a tagger in the layout of SmilingWolf's.")

    def caption(images: Sequence[Image.Image]) -> list[str]:
        pixels = np.stack([squared(image, sizes[1]) for image in images])
        at_once = sizes[0] if isinstance(sizes[0], int) else len(pixels)
        parts = (pixels[first : first + at_once] for first in range(0, len(pixels), at_once))
        return [words for part in parts for words in _words(session.run(None, {given.name: part})[0], tags)]

    return caption


def read_tags(path: Path, request: CaptionRequest) -> Tags:
    """Read a table of tags.

    Raises:
        UserError: it is none.
    """
    least = {GENERAL: request.threshold, CHARACTER: request.character_threshold}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["name"], int(row["category"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"this table of tags cannot be read: {error!r}", str(path), "Get it anew.") from error
    names = tuple(name if name in FACES else name.replace("_", " ") for name, _ in rows)
    return Tags(names, np.array([least.get(category, np.inf) for _, category in rows]))


def squared(image: Image.Image, side: int) -> np.ndarray:
    """A picture in the middle of a white square, as (side, side, BGR) float32 from 0 to 255."""
    edge = max(image.size)
    square = Image.new("RGB", (edge, edge), WHITE)
    square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    if edge != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(square, np.float32)[:, :, ::-1]


def _words(chances: np.ndarray, tags: Tags) -> list[str]:
    if chances.shape[1] != len(tags.names):
        problem = f"the model has {chances.shape[1]} outputs for the {len(tags.names)} tags of its table"
        raise UserError(problem, WHERE, f"Get {TAGGER} and {TAGS} of the same model.")
    found = (sorted(np.flatnonzero(row > tags.least), key=lambda tag, row=row: -row[tag]) for row in chances)
    return [", ".join(tags.names[tag] for tag in chosen) for chosen in found]


def _session(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError:
        fix = 'Install it: pip install "lora-atelier[captions]"'
        raise UserError("taggers need the package onnxruntime, which is not installed", WHERE, fix) from None
    here = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), providers=here)
    except Exception as error:
        problem = f"this model cannot be loaded: {' '.join(str(error).split())[:300]}"
        raise UserError(problem, str(path), "Get it anew; a pointer of git-lfs is not the file itself.") from error
