"""Which pictures of a run are held out: never trained on, so that the loss on them tells what was learned."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trainer.contract.config import LEAST_PICTURES
from trainer.pictures.gather import Picture
from trainer.pictures.hashes import SIDE, find_alike
from trainer.pictures.looks import look_at

AUTO_SHARE, AUTO_MOST = 0.1, 32
TWINS = 2  # so many of a content are held out even where one is wanted


class Candidate(NamedTuple):
    """A picture of a run.

    Attributes:
        content: tells what it shows from what others show, wherever it lies and whatever it is called.
        group: that it belongs to; one picture of each is always left to learn from.
        prior: whether it is of regularisation.
    """

    content: str
    group: str
    prior: bool


def candidate(picture: Picture, content: str) -> Candidate:
    """A picture of a run, by whatever its content is known by."""
    group = picture.share.concept if picture.share else picture.key.partition("/")[0]
    return Candidate(content, group, picture.prior)


def by_look(paths: Mapping[str, Path], told: Callable[[int, int], None] = lambda done, total: None) -> dict[str, str]:
    """Content -> the first content that looks the same: smaller, stored otherwise, or mirrored, it is the same thing.

    Args:
        paths: content -> a picture that shows it.
        told: hears (pictures done, pictures in all).
    """
    looks, _ = look_at(paths, SIDE, told)
    contents, shown = list(looks), {content: content for content in paths}
    if contents:
        for group in find_alike(np.stack([looks[content].thumb() for content in contents])).groups:
            shown |= {contents[place]: contents[group[0]] for place in group}
    return shown


def held_out(pictures: Sequence[Candidate], share: float | Literal["auto"], seed: int) -> frozenset[str]:
    """The contents that are held out.

    They are the first in an order that depends on the seed and each content alone: where pictures are added, few
    change sides. A content that is there twice is held out twice; one that regularisation shows too is not held out,
    nor one that more pictures show than are wanted in all.

    Args:
        pictures: all of the run.
        share: see `trainer.contract.config.ValidationSection`.
        seed: chooses.
    """
    learned = [one for one in pictures if not one.prior]
    contents = {one.content for one in learned}
    wanted, chosen = count(len(contents), share), set[str]()
    left = Counter(one.group for one in learned)
    for content in sorted(contents - {one.content for one in pictures if one.prior}, key=lambda it: _place(seed, it)):
        if len(chosen) == wanted:
            break
        taken = Counter(one.group for one in learned if one.content == content)
        few = sum(taken.values()) <= max(wanted, TWINS)
        if few and all(left[group] > number for group, number in taken.items()):
            left -= taken
            chosen.add(content)
    return frozenset(chosen)


def count(contents: int, share: float | Literal["auto"]) -> int:
    """How many are held out of so many."""
    if share == "auto":
        return min(round(contents * AUTO_SHARE), AUTO_MOST) if contents >= LEAST_PICTURES else 0
    return max(1, round(contents * share)) if share else 0


def _place(seed: int, content: str) -> bytes:
    return blake2b(f"{seed}/{content}".encode(), digest_size=16).digest()
