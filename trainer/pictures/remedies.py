"""What the doctor offers to do: changes of a set for `album.change`. Pictures that are gone by then are passed over."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from trainer.pictures.album import Album, Entry
from trainer.pictures.captions import with_trigger
from trainer.pictures.tags import is_tags, join_tags, split_tags

MOST_REPEATS = 9999


@dataclass(frozen=True)
class Fix:
    """One way to put something right.

    Attributes:
        label: what it does, for a button and for undo.
        how: returns the set as it is to be.
    """

    label: str
    how: Callable[[Album], Album]


def leave_out(label: str, ids: Collection[str]) -> Fix:
    """Exclude pictures: they stay in the set and are not trained on."""
    return _each(label, ids, lambda _album, entry: entry.model_copy(update={"excluded": True}))


def write_trigger(ids: Collection[str], spoken: Mapping[str, str]) -> Fix:
    """Write the trigger into captions, at the front; `spoken` has it for each picture."""

    def how(_album: Album, entry: Entry) -> Entry:
        captions = tuple(with_trigger(caption, spoken[entry.id]) for caption in entry.captions if caption.strip())
        return entry.model_copy(update={"captions": captions})

    return _each("Write the trigger into these captions", ids, how)


def write_captions(label: str, captions: Mapping[str, str]) -> Fix:
    """Give pictures one caption each, "" for none."""

    def how(_album: Album, entry: Entry) -> Entry:
        return entry.model_copy(update={"captions": tuple(filter(None, [captions[entry.id]]))})

    return _each(label, captions, how)


def drop_blank(ids: Collection[str]) -> Fix:
    """Take captions without a word away."""

    def how(_album: Album, entry: Entry) -> Entry:
        return entry.model_copy(update={"captions": tuple(filter(str.strip, entry.captions))})

    return _each("Remove the empty captions", ids, how)


def cut(ids: Collection[str], room: int, count: Callable[[Entry, str], int]) -> Fix:
    """Cut captions off behind the last tag, or the last word, that has room.

    Args:
        ids: of the pictures.
        room: tokens of a caption.
        count: tokens of a caption of a picture, with what is put in front of it.
    """

    def how(_album: Album, entry: Entry) -> Entry:
        cut_off = (shorten(caption, room, lambda text: count(entry, text)) for caption in entry.captions)
        return entry.model_copy(update={"captions": tuple(filter(None, cut_off))})

    return _each(f"Cut these captions to {room} tokens", ids, how)


def shorten(caption: str, room: int, count: Callable[[str], int]) -> str:
    """The front of a caption that has at most `room` tokens; one with wildcards, which cannot be cut, as it is."""
    if "{" in caption or count(caption) <= room:
        return caption
    pieces, put = (split_tags(caption), join_tags) if is_tags(caption) else (caption.split(), " ".join)
    kept = bisect_right(range(len(pieces)), room, key=lambda end: count(put(pieces[: end + 1])))
    return put(pieces[:kept]).rstrip(" ,;:")


def even_out() -> Fix:
    """Repeat the pictures of smaller concepts until each is seen about as often as the largest, or those of none."""

    def how(album: Album) -> Album:
        pictures = Counter(entry.concept for entry in album.entries if not entry.excluded)
        measured = {name: own for name, own in album.concepts.items() if own.share is None and not own.regularisation}
        taught = {name: own for name, own in measured.items() if pictures[name]}
        most = max(pictures[""], *(pictures[name] * own.repeats for name, own in taught.items()), 0)
        evened = {
            name: own.model_copy(update={"repeats": min(MOST_REPEATS, max(1, round(most / pictures[name])))})
            for name, own in taught.items()
        }
        return album.model_copy(update={"concepts": album.concepts | evened})

    return Fix("Repeat the smaller concepts more often", how)


def _each(label: str, ids: Collection[str], how: Callable[[Album, Entry], Entry]) -> Fix:
    wanted = frozenset(ids)

    def change(album: Album) -> Album:
        entries = tuple(how(album, entry) if entry.id in wanted else entry for entry in album.entries)
        return album.model_copy(update={"entries": entries})

    return Fix(label, change)
