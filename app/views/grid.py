"""The pictures of a set as tiles: which are shown, and their HTML. A small copy is made when its tile is looked at."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from app.views import sets
from trainer.pictures.album import Album, Entry, locate
from trainer.pictures.tags import all_tags

PAGE = 60  # tiles at once: a page of a thousand pictures answers as fast as one of sixty
EXACT = "tag:"  # how the filter asks for a whole tag
CONCEPT = "concept:"

KINDS: dict[str, tuple[str, Callable[[Entry], bool]]] = {
    "all": ("all pictures", lambda entry: True),
    "bare": ("without a caption", lambda entry: not entry.captions),
    "several": ("with several captions", lambda entry: len(entry.captions) > 1),
    "excluded": ("left out", lambda entry: entry.excluded),
    "focus": ("with a focus point", lambda entry: entry.focus is not None),
    "mask": ("with a mask", lambda entry: entry.mask is not None),
}


def kinds(album: Album) -> list[tuple[str, str]]:
    """Return (title, key) of what the pictures can be filtered by."""
    fixed = [(title, key) for key, (title, _) in KINDS.items()]
    return fixed + [(f"concept: {name}", CONCEPT + name) for name in album.concepts]


def matching(album: Album, text: str, kind: str) -> list[Entry]:
    """Return the pictures that a filter lets through.

    Args:
        album: the set.
        text: is in the name or in a caption, in any case; `tag:red hair` asks for that whole tag.
        kind: a key of `kinds`.
    """
    wanted = " ".join(text.casefold().split())
    if kind.startswith(CONCEPT):
        entries = [entry for entry in album.entries if entry.concept == kind.removeprefix(CONCEPT)]
    else:
        entries = list(filter(KINDS.get(kind, KINDS["all"])[1], album.entries))
    if wanted.startswith(EXACT):
        tag = wanted.removeprefix(EXACT).strip()
        return [entry for entry in entries if any(tag in all_tags(caption.casefold()) for caption in entry.captions)]
    return [entry for entry in entries if any(wanted in text.casefold() for text in (entry.name, *entry.captions))]


def source(folder: Path, entry: Entry, side: str = "small") -> str:
    """Address of a picture's copy; it changes with the file, so that a browser may keep it for ever."""
    try:
        version = locate(folder, entry.file).stat().st_mtime_ns
    except OSError:
        version = 0
    return html.escape(f"/sets/{quote(folder.name, safe='')}/{entry.id}/{side}?v={version}")


def tile_html(folder: Path, entry: Entry) -> str:
    """HTML of one picture with the beginning of its caption."""
    caption = next(iter(entry.captions), "")
    more = f" +{len(entry.captions) - 1}" if len(entry.captions) > 1 else ""
    state = " out" if entry.excluded else ""
    words = html.escape(caption) + more if caption else "no caption"
    return (
        f'<div class="tile{state}" data-id="{entry.id}" title="{html.escape(entry.name)}">'
        f'<img src="{source(folder, entry)}" loading="lazy" decoding="async" alt="{html.escape(entry.name)}">'
        f'<span class="{"" if caption else "none"}">{words}</span></div>'
    )


def grid_html(folder: Path, found: Sequence[Entry], total: int, number: int) -> str:
    """HTML of one page of tiles, with the way to the other pages.

    Args:
        folder: of the set.
        found: what the filter lets through.
        total: pictures of the whole set.
        number: of the page, from 0.
    """
    if not found:
        return '<div class="tiles-head"><span>No picture is like that.</span></div>'
    first = number * PAGE
    tiles = "".join(tile_html(folder, entry) for entry in found[first : first + PAGE])
    of = f"{len(found)} of {sets.count(total, 'picture')}" if len(found) < total else sets.count(total, "picture")
    turn = turn_html(number, last_page(found), f"{first + 1}–{min(first + PAGE, len(found))}")
    head = f'<div class="tiles-head"><span>{of}</span><span class="turn">{turn}</span></div>'
    return f'{head}<div class="tiles">{tiles}</div>'


def turn_html(number: int, last: int, shown: str) -> str:
    """HTML: the way to the pages before and after; "" where there is only one.

    Args:
        number, last: of this page and of the last, from 0.
        shown: what is on it, in words.
    """
    if not last:
        return ""
    ways = (("pages before", "‹", number - 1, number == 0), ("pages after", "›", number + 1, number >= last))
    back, forth = (
        f'<button data-page="{to}" aria-label="{label}"{" disabled" if off else ""}>{sign}</button>'
        for label, sign, to, off in ways
    )
    return f"{back}<span>{shown}</span>{forth}"


def last_page(found: Sequence[object], size: int = PAGE) -> int:
    """Number of the last page."""
    return max(0, len(found) - 1) // size


def page_of(found: Sequence[Entry], picture: str) -> int | None:
    """Number of the page that a picture is on, None where it is not among them."""
    return next((place // PAGE for place, entry in enumerate(found) if entry.id == picture), None)


def neighbour(found: Sequence[Entry], picture: str, step: int) -> str:
    """Id of the picture `step` places on, round and round; the first where `picture` is not among them."""
    place = next((place for place, entry in enumerate(found) if entry.id == picture), None)
    if not found:
        return ""
    return found[0 if place is None else (place + step) % len(found)].id


def span(found: Sequence[Entry], one: str, other: str) -> list[str]:
    """Ids from one picture to another, both included."""
    ids = [entry.id for entry in found]
    if one not in ids or other not in ids:
        return [other]
    first, last = sorted((ids.index(one), ids.index(other)))
    return ids[first : last + 1]


def marks_html(opened: str, chosen: Sequence[str]) -> str:
    """HTML: a rule that marks the open picture, and one for those that are selected."""
    rules = _rule([opened], "outline: var(--tile-opened)") + _rule(chosen, "box-shadow: var(--tile-chosen)")
    return f"<style>{rules}</style>"


def _rule(ids: Sequence[str], what: str) -> str:
    where = ",".join(f'#dataset-grid .tile[data-id="{key}"]' for key in ids if key.isalnum())
    return f"{where}{{{what}}}" if where else ""
