"""Uploads of whole folders: files streamed to disk into the tree they had, without a path of the sender being opened.

The sender first says what is coming: names with their folders, and sizes. Each gets a place under names made safe here;
after that it is known by its number alone.
"""

import functools
import hashlib
import json
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app import room
from app.views import sets
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.pictures.listing import visible

MOST_FILES = 200_000
LONGEST_NAME, DEEPEST = 200, 32  # bytes of one part, folders above a file
STALE = 24 * 3600.0
PLAN, TREE = "plan.json", "tree"
TOKEN = re.compile(r"[0-9a-f]{32}")
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]|[. ]$|%(?=[0-9A-Fa-f]{2})')


def place(home: Path) -> Path:
    """Folder of all uploads that have not been imported yet."""
    return home / ".cache" / "uploads"


def begin(home: Path, names: Sequence[str], sizes: Sequence[int], into: str = "") -> tuple[str, list[int]]:
    """Make room for an upload.

    Args:
        home: the data folder.
        names: of the files, with "/" between folders.
        sizes: in bytes.
        into: name of the set that was open when the sender began; "" for a new one.

    Returns:
        Its token, and the numbers of the files that are wanted: hidden ones are not.

    Raises:
        UserError: there is too much of it, or no such set, or there is no room for it.
        OSError: the disk cannot be written.
    """
    if len(names) != len(sizes) or not 0 < len(names) <= MOST_FILES or min(sizes) < 0:
        raise UserError(f"Between 1 and {MOST_FILES} files can be sent at once.", "", "Send the folder in parts.")
    _set(home, into)
    root = place(home)
    root.mkdir(parents=True, exist_ok=True)
    _drop_stale(root)
    wanted = [number for number, name in enumerate(names) if all(map(visible, name.split("/")))]
    room.check(home, sum(sizes[number] for number in wanted))
    token = secrets.token_hex(16)
    (root / token / TREE).mkdir(parents=True)
    plan = {"into": into, "files": [list(row) for row in zip(_safe_names(names), sizes, strict=True)]}
    write_atomic(root / token / PLAN, json.dumps(plan))
    return token, wanted


async def receive(home: Path, token: str, first: int, count: int, stream: AsyncIterator[bytes]) -> None:
    """Write some files as they come, one behind the other: their sizes, which were announced, tell where each ends.

    Raises:
        UserError: nobody announced them, or what came is not as long as announced; files that came whole stay.
        OSError: one cannot be written.
    """
    folder = _folder(home, token)
    _, plan = _plan(folder / PLAN)
    if not 0 <= first < first + count <= len(plan):
        raise UserError("These files were not announced.", f"{first} to {first + count - 1}")
    pieces = _Pieces(stream)
    for number in range(first, first + count):
        name, size = plan[number]
        target, partial = folder / TREE / name, folder / f"{number}.part"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                done = sum([file.write(piece) async for piece in pieces.take(size)])
            if done != size:
                raise UserError(f"{name} did not arrive whole ({done} of {size} bytes).", "", "Send it again.")
            if number + 1 == first + count and [piece async for piece in pieces.take(1)]:
                raise UserError("More has come than was announced.", "", "Send it again.")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


class _Pieces:
    """A stream of bytes, to be cut where one likes."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream, self._left = aiter(stream), b""

    async def take(self, size: int) -> AsyncIterator[bytes]:
        """The next `size` bytes as they come; fewer where the stream ends."""
        while size:
            piece = self._left or await anext(self._stream, b"")
            if not piece:
                return
            yield piece[:size]
            self._left, size = piece[size:], size - len(piece[:size])


def arrived(home: Path, token: str) -> Path:
    """Folder with the tree of what was sent.

    Raises:
        UserError: there is no such upload, or nothing of it came.
    """
    tree = _folder(home, token) / TREE
    if not any(tree.iterdir()):
        raise UserError("Nothing has arrived.", "", "Choose pictures, a folder with pictures, or a zip.")
    return tree


def destination(home: Path, token: str) -> Path | None:
    """Folder of the set that the upload was begun for, None for a new one. Raises UserError where it is gone."""
    into, _ = _plan(_folder(home, token) / PLAN)
    return _set(home, into)


def _set(home: Path, name: str) -> Path | None:
    """A set by its name, which the sender gives: it is looked up, never made a path of."""
    found = next((path for path in sets.own(home) if path.name == name), None)
    if name and found is None:
        raise UserError(f"There is no set called '{name}'.", "Set of pictures", "Choose a set, and send it again.")
    return found


def end(home: Path, token: str) -> None:
    """Delete what is left of an upload."""
    shutil.rmtree(_folder(home, token), ignore_errors=True)


def _folder(home: Path, token: str) -> Path:
    folder = place(home) / token
    if not TOKEN.fullmatch(token) or not folder.is_dir():
        raise UserError("This upload is not known any more.", "", "Begin it again.")
    return folder


@functools.lru_cache(maxsize=4)
def _plan(file: Path) -> tuple[str, list[tuple[str, int]]]:
    plan = json.loads(file.read_text("utf-8"))
    return plan["into"], [(name, size) for name, size in plan["files"]]


def _drop_stale(root: Path) -> None:
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > STALE:
            shutil.rmtree(old, ignore_errors=True)


def _safe_names(names: Sequence[str]) -> list[str]:
    """Turn names of the sender into relative paths that can be made anywhere; no two are one, in any case.

    A name that comes again is put into a tree of its own, so that a picture and its caption stay together.
    """
    taken: set[str] = set()
    times: Counter[str] = Counter()
    out = []
    for name in names:
        parts = [part for part in name.split("/") if part not in ("", ".", "..")][-DEEPEST:] or ["unnamed"]
        safe = "/".join(_safe(part) for part in parts)
        key = wanted = safe.casefold()
        while key in taken:
            times[wanted] += 1
            safe_again = f"again-{times[wanted] + 1}/{safe}"
            key = safe_again.casefold()
        out.append(safe if key == wanted else safe_again)
        taken.add(key)
    return out


def _safe(part: str) -> str:
    escaped = UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
    data = escaped.encode("utf-8", errors="replace")
    if len(data) <= LONGEST_NAME:
        return data.decode()
    stem, suffix = data[: LONGEST_NAME - 30].decode(errors="ignore"), Path(escaped).suffix[-10:]
    key = escaped.removesuffix(suffix) if suffix else escaped  # a picture and its caption are cut alike
    return f"{stem}-{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:12]}{suffix}"
