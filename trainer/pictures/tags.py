"""Captions as lists of tags, and what can be done to many of them at once."""

import re
from collections.abc import Iterable

from trainer.pictures.captions import fold

LONGEST_TAG = 5  # words; "looking at viewer", "long hair over one eye"
MEAN_TAG = 3.0
# What sentences have and lists of tags do not. "the" only counts inside a tag: "the legend of zelda" is one.
_SENTENCE = re.compile(r"\b(a|an|is|are|was|were|his|her|their|its)\s|\S\s+the\s|\w\.$", re.IGNORECASE)


def is_tags(caption: str) -> bool:
    """Return whether a caption is a list of tags rather than a sentence.

    The rule: three or more parts between commas, none of more than five words, at most three words on average, and in
    none of them an article, a possessive, a form of "to be" or a full stop at the end. "1girl, solo, red hair" is;
    "ohwx, a dog in the snow, photo" is not.
    """
    tags = split_tags(caption)
    if len(tags) < 3 or any(_SENTENCE.search(tag) for tag in tags):
        return False
    lengths = [len(tag.split()) for tag in tags]
    return max(lengths) <= LONGEST_TAG and sum(lengths) / len(lengths) <= MEAN_TAG


def split_tags(caption: str) -> list[str]:
    """The parts of a caption between its commas, without empty ones."""
    return [tag for tag in map(fold, caption.split(",")) if tag]


def join_tags(tags: Iterable[str]) -> str:
    """A caption of tags."""
    return ", ".join(tag for tag in tags if tag)


def affix(caption: str, prefix: str, suffix: str) -> str:
    """Put words around a caption, with single spaces; none before a suffix that begins with a comma or a full stop."""
    front = fold(f"{prefix} {caption}")
    return front + suffix if suffix.startswith((",", ".", ";", ":")) else fold(f"{front} {suffix}")
