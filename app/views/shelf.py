"""The Library's cards: what is known of each adapter without opening it, and which are shown in what order."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app import owners
from app.settings import load_settings
from app.views import adapters, headers, labels
from app.views.adapters import Adapter
from app.views.headers import Progress, Wanted
from app.views.labels import Labels
from trainer.contract.errors import UserError
from trainer.formats.glance import Glance
from trainer.formats.inspect import UNKNOWN

PAGE = 60  # cards at once: a library of thousands answers as fast as one of sixty
AT_ONCE = 30  # headers that are read while one waits
ALL = ""
MINE, ADDED = "runs", "library"  # places, as `Adapter.place`
ORDERS: dict[str, tuple[str, Callable[["Card"], Any]]] = {
    "new": ("newest first", lambda card: -card.item.modified),
    "name": ("by name", lambda card: card.name.casefold()),
    "size": ("largest first", lambda card: -card.item.size),
}


@dataclass(frozen=True)
class Card:
    """What is shown of an adapter.

    Attributes:
        item: the adapter; of a run, the first of its files.
        seen: what its header says; None where it has not been read yet.
        labels: what somebody wrote down of it.
    """

    item: Adapter
    seen: Glance | None
    labels: Labels

    @property
    def name(self) -> str:
        """Of the run, or of the file."""
        return self.item.run.name if self.item.run else self.item.name

    @property
    def family(self) -> str:
        """The kind of base it is for; "" where that is not known."""
        return self.seen.family if self.seen and self.seen.family != UNKNOWN else ""

    @property
    def whose(self) -> str:
        """Where it is from, in words."""
        return self.item.client.title if self.item.client else "trained here" if self.item.run else "added"

    @property
    def words(self) -> str:
        """Everything it can be found by."""
        seen = self.seen or Glance()
        told = (self.name, self.item.inside, *self.labels.tags, self.labels.note, *seen.triggers, seen.title, seen.base)
        return "\n".join(told).casefold()


class Sought(NamedTuple):
    """Which cards are to be shown.

    Attributes:
        text: words that are all in it somewhere.
        family, place, tag: "" for all of them.
        order: a key of `ORDERS`.
    """

    text: str = ""
    family: str = ALL
    place: str = ALL
    tag: str = ALL
    order: str = "new"


_lists: dict[tuple[Path, str | None], dict[str, Card]] = {}  # what each viewer was shown last
_lock = threading.Lock()


def cards(home: Path) -> list[Card]:
    """A card for each adapter that one may see, as its files are now."""
    items = adapters.mains(home)
    wanted = [item for item in items if headers.known(home, item.path, item.stamp) is None]
    headers.read(home, [Wanted(item.path, item.stamp, adapters.beside(item, ".json")) for item in wanted], AT_ONCE)
    found = [card(home, item) for item in items]
    with _lock:
        _lists[home, _viewer()] = {one.item.id: one for one in found}
    return found


def card(home: Path, item: Adapter) -> Card:
    """The card of one adapter."""
    return Card(item, headers.known(home, item.path, item.stamp), labels.read(item))


def reading(home: Path) -> Progress:
    """How far the headers are read in the background."""
    return headers.read(home, [], 0)


def shown_before(home: Path) -> list[Card]:
    """The cards as they were when they were looked at last: for a filter, which is asked at every key."""
    with _lock:
        known = _lists.get((home, _viewer()))
    return list(known.values()) if known is not None else cards(home)


def recall(home: Path, name: str) -> Card:
    """The card of an id that the page has, or of a key that an address has; looked for anew where it is not known.

    Raises:
        UserError: there is none.
    """
    with _lock:
        known = _lists.get((home, _viewer()), {})
    if name in known and known[name].item.path.exists():
        return known[name]
    for item in adapters.adapters(home):
        if name in (item.id, item.key):
            return card(home, item)
    raise UserError("there is no such adapter any more", name[:200], "Choose another one in the Library tab.")


def _viewer() -> str | None:
    who = owners.viewer()
    return who.name if who else None


def chosen(found: Iterable[Card], sought: Sought) -> list[Card]:
    """The cards that a filter lets through, in its order."""
    words = (sought.text or "").casefold().split()
    kept = [
        one
        for one in found
        if sought.family in (ALL, one.family)
        and sought.place in (ALL, one.item.place)
        and sought.tag in (ALL, *one.labels.tags)
        and (not words or all(word in one.words for word in words))
    ]
    return sorted(kept, key=ORDERS.get(sought.order, ORDERS["new"])[1])


def families(found: Iterable[Card]) -> list[tuple[str, str]]:
    """(title, value) of the kinds of base there are."""
    return [("every base", ALL), *((name, name) for name in sorted({one.family for one in found} - {""}))]


def places(home: Path, found: Sequence[Card]) -> list[tuple[str, str]]:
    """(title, value) of where they are from: only what there is."""
    here = Counter(one.item.place for one in found)
    titles = {MINE: "trained here", ADDED: "added here"}
    titles |= {client.kind: client.title for client in load_settings(home).clients}
    rows = [(f"{title} ({here[place]})", place) for place, title in titles.items() if here[place]]
    return [("from everywhere", ALL), *rows]


def tags(found: Iterable[Card]) -> list[tuple[str, str]]:
    """(title, value) of the tags that somebody gave, the most frequent first."""
    counts = Counter(tag for one in found for tag in one.labels.tags)
    return [("every tag", ALL), *((f"{tag} ({count})", tag) for tag, count in counts.most_common())]


def look_at(home: Path, item: Adapter) -> None:
    """Read the header of one file now, whatever else is being read."""
    headers.read_one(home, Wanted(item.path, item.stamp, adapters.beside(item, ".json")))
