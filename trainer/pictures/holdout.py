"""Which pictures of a run are held out: never trained on, so that the loss on them tells what was learned."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

from trainer.pictures.gather import Picture

LEAST_PICTURES = 40  # below, every one is worth more as something to learn from than as a measure
AUTO_SHARE, AUTO_MOST = 0.1, 32


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


def held_out(pictures: Sequence[Candidate], share: float | Literal["auto"], seed: int) -> frozenset[str]:
    """The contents that are held out.

    They are the first in an order that depends on the seed and each content alone: where pictures are added, few
    change sides. A content that is there twice is held out twice; one that regularisation shows too is not held out.

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
        if all(left[group] > number for group, number in taken.items()):
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
