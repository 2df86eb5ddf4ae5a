"""What text a picture is trained with: drawn anew at every view, from its captions as the user wrote them.

Nothing here touches a file. A picture with several captions shows one of them; `{red|blue}` becomes one of the two; of
captions made of comma tags the order is shuffled and some tags are left out; the trigger is put in where it is missing.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, NamedTuple

from trainer.pictures.captions import fold, has_trigger
from trainer.pictures.tags import KEEP_MARK, affix, is_tags, join_tags, split_tags

Choose = Callable[[Sequence[str]], str]

WORDINGS = 8  # texts of a picture whose text varies: drawn once, so that their embeddings can be kept

_MARKS = re.compile(r"\\[{}|]|[{}|]|[^\\{}|]+|\\")
_ESCAPED = {r"\{", r"\|", r"\}"}


@dataclass(frozen=True)
class Wording:
    """How captions become texts.

    Attributes:
        trigger: word put in front of captions that lack it; never moved behind a free tag, never left out.
        class_word: what the pictures show; with the trigger it is the text of a picture without a caption.
        prefix, suffix: put around every text, with a space; a comma is written by whoever wants one. Wildcards work.
        shuffle: whether tags change places: "auto" where a caption is made of them (see `is_tags`) or has `|||`.
        keep: tags at the front that stay there, the trigger counted; `|||` in a caption comes before it.
        tag_dropout: share of the free tags that a view leaves out; only of captions made of tags.
    """

    trigger: str = ""
    class_word: str = ""
    prefix: str = ""
    suffix: str = ""
    shuffle: Literal["auto", "on", "off"] = "auto"
    keep: int = 0
    tag_dropout: float = 0.0


class _Parts(NamedTuple):
    """A text taken apart: only the free tags change places or are left out."""

    prefix: str
    fixed: list[str]
    free: list[str]
    tail: list[str]
    suffix: str


def word(captions: Sequence[str], wording: Wording, seed: int, key: str | int, draw: int) -> str:
    """Return the text of a picture for one view.

    It depends on the arguments and on nothing else, on any machine and any version of Python.

    Args:
        captions: of the picture; blank ones do not count.
        wording: how they are put.
        seed: of the run.
        key: of the picture.
        draw: number of the view.
    """
    generator = _generator(seed, key, draw)
    parts = _take_apart(captions, wording, lambda options: options[int(generator.random() * len(options))])
    free = [tag for tag in parts.free if generator.random() >= wording.tag_dropout]
    if wording.shuffle != "off":
        free.sort(key=lambda _: generator.random())
    text = join_tags([*parts.fixed, *free, *parts.tail])
    return affix(text, parts.prefix, parts.suffix)


def varies(captions: Sequence[str], wording: Wording) -> bool:
    """Return whether a picture's text may differ from view to view; where it is False, it never does."""
    open_choices: list[Sequence[str]] = []

    def first(options: Sequence[str]) -> str:
        if len(set(options)) > 1:
            open_choices.append(options)
        return options[0]

    free = _take_apart(captions, wording, first).free
    dropped = bool(free) and wording.tag_dropout > 0
    shuffled = wording.shuffle != "off" and len(set(free)) > 1
    return bool(open_choices) or dropped or shuffled


def wordings(captions: Sequence[str], wording: Wording) -> int:
    """How many texts of a picture are drawn: each caption gets as many as the others, and at least one."""
    present = _present(captions) or [""]
    rounds = WORDINGS // len(present) if any(varies([caption], wording) for caption in present) else 1
    return max(1, rounds) * len(present)


def draw_texts(captions: Sequence[str], wording: Wording, seed: int, key: str, count: int) -> tuple[str, ...]:
    """The texts that a picture is trained with, `count` of them or a few less so that all captions get as many.

    The captions take turns, the rest is drawn. A text may stand there several times: it is then as likely as that.
    """
    present = _present(captions) or [""]
    count -= count % len(present) if count > len(present) else 0
    return tuple(word([present[draw % len(present)]], wording, seed, key, draw) for draw in range(count))


def plain_text(captions: Sequence[str], wording: Wording, key: str) -> tuple[str]:
    """The one text of a picture that nothing is drawn for: its first caption, whole and in its order."""
    still = replace(wording, shuffle="off", tag_dropout=0.0)
    return (word((_present(captions) or [""])[:1], still, seed=0, key=key, draw=0),)


def expand(text: str, choose: Choose) -> str:
    r"""Replace every `{a|b|c}`, from the innermost, by what `choose` takes of its options.

    A backslash makes `\{`, `\|` and `\}` ordinary characters. A brace without its partner is one as well.
    """
    levels = [[""]]  # of open braces: the options so far, the last one unfinished
    for mark in _MARKS.findall(text):
        inside = len(levels) > 1
        if mark == "{":
            levels.append([""])
        elif mark == "}" and inside:
            options = levels.pop()
            levels[-1][-1] += choose(options)
        elif mark == "|" and inside:
            levels[-1].append("")
        else:
            levels[-1][-1] += mark[1] if mark in _ESCAPED else mark
    return "{".join("|".join(options) for options in levels)


def _take_apart(captions: Sequence[str], wording: Wording, choose: Choose) -> _Parts:
    present = _present(captions)
    text = fold(expand(choose(present), choose)) if present else fold(wording.class_word)
    prefix, suffix = (fold(expand(words, choose)) for words in (wording.prefix, wording.suffix))
    trigger = fold(wording.trigger)
    added = [] if not trigger or has_trigger(affix(text, prefix, suffix), trigger) else [trigger]
    if not present:
        thing = [] if has_trigger(trigger, text) else [text]
        return _Parts(prefix, [" ".join([*added, *thing]).strip()], [], [], suffix)
    pieces = text.split(KEEP_MARK, 2)
    if len(pieces) > 1:
        head, free, tail = (split_tags(piece) for piece in (*pieces, "")[:3])
        head = [*added, *head]
    elif is_tags(text) or wording.shuffle == "on":
        tags = [*added, *split_tags(text)]
        head, free, tail = tags[: wording.keep], tags[wording.keep :], []
    else:
        return _Parts(prefix, [*added, text], [], [], suffix)
    words = split_tags(trigger)  # a trigger of several tags stays with all of them
    held = [tag for tag in free if any(has_trigger(tag, piece) for piece in words)]
    return _Parts(prefix, [*head, *held], [tag for tag in free if tag not in held], tail, suffix)


def _present(captions: Sequence[str]) -> list[str]:
    return [caption for caption in captions if caption.strip()]


def _generator(seed: int, key: str | int, draw: int) -> random.Random:
    """Only `random()` of it is used: the one method whose numbers Python promises to keep."""
    digest = blake2b(repr((seed, key, draw)).encode("utf-8", errors="backslashreplace"), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "little"))
