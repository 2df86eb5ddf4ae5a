"""Tags and a note that somebody gave an adapter: `NAME.notes.json` beside its file.

Beside the file and not in the database: so they are found again by scanning, go along when the file is copied by hand,
and are gone when it is. What is beside a file for other programs (`NAME.json`) is theirs to write. A run has one for
all of its files.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from app.views.adapters import Adapter
from trainer.contract.files import write_atomic

SUFFIX = ".notes.json"
MOST_TAGS, LONGEST_TAG, LONGEST_NOTE = 24, 40, 10_000


@dataclass(frozen=True)
class Labels:
    """What somebody wrote down of an adapter.

    Attributes:
        tags: words to find it by.
        note: whatever is worth remembering.
    """

    tags: tuple[str, ...] = ()
    note: str = ""


def file(item: Adapter) -> Path | None:
    """Where they are kept; None for another program's file: its folders are read only."""
    if item.client:
        return None
    return (item.run.adapter_file if item.run else item.path).with_suffix(SUFFIX)


def read(item: Adapter) -> Labels:
    """What is written down; nothing where the file is not there or makes no sense."""
    path = file(item)
    try:
        found = json.loads(path.read_text("utf-8")) if path else {}
        return Labels(tuple(map(str, found.get("tags", ()))), str(found.get("note", "")))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Labels()


def write(item: Adapter, tags: str, note: str) -> Labels:
    """Write down tags, given with commas between, and a note; where both are empty, nothing is left of it.

    Raises:
        UserError: it cannot be written.
    """
    parts = (" ".join(part.split())[:LONGEST_TAG] for part in tags.split(","))
    labels = Labels(tuple(dict.fromkeys(filter(None, parts)))[:MOST_TAGS], note.strip()[:LONGEST_NOTE])
    path = file(item)
    if path and labels == Labels():
        path.unlink(missing_ok=True)
    elif path and labels != read(item):
        write_atomic(path, json.dumps({"tags": labels.tags, "note": labels.note}, ensure_ascii=False, indent=1))
    return labels
