"""Captions as lists of tags, and changes to the captions of many pictures.

A change is a function for `album.edit`, and can be looked at before it is made (`preview`). A picture without a caption
stays without one, except where a tag is added to it: it is trained with its trigger and class word. A caption that
becomes empty is none any more.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import regex

from trainer.contract.errors import UserError
from trainer.pictures.album import Entry
from trainer.pictures.captions import MOST_LETTERS, fold, with_trigger

Edit = Callable[[Entry], Entry]
KEEP_MARK = "|||"  # kohya's: tags before the first, and behind the second, keep their places
LONGEST_TAG = 5  # words; "looking at viewer", "long hair over one eye"
MEAN_TAG = 3.0
# What sentences have and lists of tags do not. "the" only counts inside a tag: "the legend of zelda" is one.
_SENTENCE = re.compile(r"\b(a|an|is|are|was|were|his|her|their|its)\s|\S\s+the\s|\w\.$", re.IGNORECASE)
SEARCH_SECONDS = 0.5  # for one caption; a pattern that takes longer would take for ever on another
EDIT_SECONDS = 5.0  # for all captions together: an ordinary pattern needs a tenth of it on ten thousand
_WORDY = re.compile(r"[^\W_]{2}")  # "long_hair" has it, "^_^" and "o_o" have not


class Changed(NamedTuple):
    """A picture whose captions an edit would change: its name, its captions now and then, a line for each."""

    name: str
    before: str
    after: str


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


def frequencies(pictures: Iterable[Iterable[str]]) -> Counter[str]:
    """Count in how many pictures a tag is, in lower case.

    Parts of a caption that are longer than a tag (`LONGEST_TAG` words) are sentences and do not count.

    Args:
        pictures: the captions of each.
    """
    found = Counter[str]()
    for captions in pictures:
        tags = {tag.lower() for caption in captions for tag in all_tags(caption)}
        found.update(tag for tag in tags if len(tag.split()) <= LONGEST_TAG)
    return found


def by_tag(caption: str, how: Callable[[list[str]], list[str]]) -> str:
    """Change a caption's tags, those around a mark apart; a caption whose tags stay as they are is not touched."""
    parts = list(map(split_tags, caption.split(KEEP_MARK)))
    after = list(map(how, parts))
    return caption if after == parts else _join(after)


def tidy(caption: str) -> str:
    """A caption with one comma and one space between its tags, and no empty ones."""
    return _join(map(split_tags, caption.split(KEEP_MARK)))


def all_tags(caption: str) -> list[str]:
    """The tags of a caption, on both sides of a mark."""
    return split_tags(caption.replace(KEEP_MARK, ","))


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


def preview(entries: Iterable[Entry], edit: Edit) -> list[Changed]:
    """What an edit would change, before it is made.

    Raises:
        UserError: what `edit` raises.
    """
    pairs = ((entry, edit(entry)) for entry in entries)
    return [
        Changed(entry.name, "\n".join(entry.captions), "\n".join(after.captions))
        for entry, after in pairs
        if after.captions != entry.captions
    ]


def set_captions(text: str) -> Edit:
    """Give pictures the captions of an editor: one on each line."""
    captions = tuple(filter(None, map(fold, text.splitlines())))
    return lambda entry: entry.model_copy(update={"captions": captions})


def find_replace(find: str, replace: str, *, pattern: bool = False, any_case: bool = False) -> Edit:
    r"""Replace a text wherever it stands in a caption. What is left of a tag that went goes with it.

    Args:
        find: the text, or a regular expression.
        replace: what comes in its place; with a pattern, `\1` is its first group.
        pattern: read `find` as a regular expression (Python's, as the `regex` package has them).
        any_case: find capital and small letters alike.

    Raises:
        UserError: nothing to find, or no regular expression; the edit raises it where the search takes too long, on a
            caption or on all of them, or makes a caption far too long.
    """
    if not find:
        raise UserError("There is nothing to find.", "find and replace", "Type the text that is to be replaced.")
    flags = regex.IGNORECASE if any_case else 0
    try:
        wanted = regex.compile(find if pattern else regex.escape(find), flags)
        wanted.sub(replace if pattern else "", "")
        template = replace if pattern else (lambda _: replace)
    except (regex.error, IndexError, OverflowError, RecursionError) as error:
        fix = "Correct it, or switch regular expressions off to look for the text itself."
        raise UserError(
            f"This is no regular expression that can be used: {error}.", f"{find} -> {replace}", fix
        ) from error

    left = EDIT_SECONDS

    def each(caption: str) -> str:
        nonlocal left
        began = time.perf_counter()
        try:
            after = wanted.sub(template, caption, timeout=min(SEARCH_SECONDS, max(left, 0.001)))
        except TimeoutError as error:
            fix = "Make it simpler: nothing repeated inside something repeated, as in (a+)+."
            raise UserError("This regular expression takes too long.", find, fix) from error
        except (regex.error, IndexError) as error:
            fix = r"Use the groups that the pattern has: \1 is the first."
            raise UserError(f"What it is replaced by cannot be used: {error}.", replace, fix) from error
        left -= time.perf_counter() - began
        if len(after) > max(MOST_LETTERS, len(caption)):
            fix = f"Replace it by less: no text encoder reads {MOST_LETTERS} letters."
            raise UserError(f"A caption would become {len(after)} letters long.", find, fix)
        return tidy(after) if _gaps(after) > _gaps(caption) else after

    return _captions(each)


def add(tag: str, *, front: bool = False) -> Edit:
    """Add a tag to captions that lack it, at the end or at the front; a picture without a caption gets one."""
    tag = fold(tag)

    def each(caption: str) -> str:
        if not caption or _has(caption, tag):
            return caption or tag
        return f"{tag}, {caption}" if front else f"{caption.rstrip(' ,')}, {tag}"

    def edit(entry: Entry) -> Entry:
        return entry.model_copy(
            update={"captions": tuple(map(each, entry.captions or ("",))) if tag else entry.captions}
        )

    return edit


def remove(tag: str) -> Edit:
    """Take a tag out, in any case of letters."""
    return _tags(lambda tags: [each for each in tags if not _same(each, tag)])


def rename(tag: str, new: str) -> Edit:
    """Put another tag in a tag's place; one that is there already is not doubled."""

    def each(tags: list[str]) -> list[str]:
        if not any(_same(each, tag) for each in tags):
            return tags
        return _once(name for each in tags for name in (split_tags(new) if _same(each, tag) else [each]))

    return _tags(each)


def move_to_front(tag: str) -> Edit:
    """Bring a tag to the front of the captions that have it."""

    def each(caption: str) -> str:
        if not _has(caption, tag):
            return caption
        rest = by_tag(caption, lambda tags: [each for each in tags if not _same(each, tag)])
        return ", ".join(filter(None, (fold(tag), rest)))

    return _captions(each)


def surround(prefix: str = "", suffix: str = "") -> Edit:
    """Put words before and behind every caption, with a space; write a comma where one is wanted."""
    return _captions(lambda caption: affix(caption, fold(prefix), fold(suffix)))


def inject(trigger: str) -> Edit:
    """Write the trigger into the captions that lack it, at the front."""
    return _captions(lambda caption: with_trigger(caption, trigger))


def dedupe() -> Edit:
    """Leave each tag once: the first."""
    return _tags(_once)


def spaced() -> Edit:
    """Turn underscores within tags of words into spaces; faces such as `^_^` stay."""
    return _tags(lambda tags: [fold(tag.replace("_", " ")) if _WORDY.search(tag) else tag for tag in tags])


def _captions(how: Callable[[str], str]) -> Edit:
    def edit(entry: Entry) -> Entry:
        captions = tuple(filter(None, (fold(how(caption)) for caption in entry.captions)))
        return entry if captions == entry.captions else entry.model_copy(update={"captions": captions})

    return edit


def _tags(how: Callable[[list[str]], list[str]]) -> Edit:
    return _captions(lambda caption: by_tag(caption, how))


def _once(tags: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(tag.casefold(), tag)
    return list(first.values())


def _has(caption: str, tag: str) -> bool:
    return any(_same(each, tag) for each in all_tags(caption))


def _gaps(caption: str) -> int:
    return sum(not part.strip() for part in caption.split(","))


def _same(one: str, other: str) -> bool:
    return fold(one).casefold() == fold(other).casefold()


def _join(parts: Iterable[list[str]]) -> str:
    return fold(f" {KEEP_MARK} ".join(map(join_tags, parts)))
