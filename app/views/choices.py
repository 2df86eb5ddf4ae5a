"""The adapters that a row can be given: files, and the newest one of a run that goes on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.jobs import queue
from app.jobs.model import BUSY
from app.views import adapters, headers
from app.views.adapters import Adapter
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir
from trainer.formats.glance import Glance

RUN = "run:"  # begins what stands for the newest file of a run
AT_ONCE = 30  # headers that are read while one waits; the others are there when the list is opened again


def listed(home: Path) -> list[dict[str, Any]]:
    """What can be chosen, with the trigger words of each and the strength that its maker advises."""
    found = adapters.adapters(home)
    unread = [one for one in found if headers.known(home, one.path, one.stamp) is None]
    headers.read(home, [headers.Wanted(one.path, one.stamp, adapters.beside(one, ".json")) for one in unread], AT_ONCE)
    return [*_going(home, found), *(_choice(home, one, str(one.path), _title(one)) for one in found)]


def _going(home: Path, found: list[Adapter]) -> Iterator[dict[str, Any]]:
    """The runs that go on and have saved something."""
    busy = {item.run.name for item in queue.entries(home) if item.shown in BUSY}
    for name in sorted(busy):
        if files := [one for one in found if one.run and one.run.name == name]:
            newest = max(files, key=lambda one: one.modified)
            yield _choice(home, newest, f"{RUN}{name}", f"{name}: the newest save, it goes on")


def _choice(home: Path, item: Adapter, value: str, title: str) -> dict[str, Any]:
    seen = headers.known(home, item.path, item.stamp) or Glance()
    group = f"run {item.run.name}" if item.run else item.client.title if item.client else "Library"
    group = "Running now" if value.startswith(RUN) else group
    return {"value": value, "title": title, "group": group, "words": seen.triggers, "strength": seen.strength}


def _title(item: Adapter) -> str:
    step = f" (step {item.step})" if item.step is not None else ""
    return f"{item.inside or item.name}{step}"


def path_of(home: Path, chosen: str) -> Path:
    """The file that a choice stands for.

    Raises:
        UserError: there is none any more, or none yet.
    """
    if not chosen.startswith(RUN):
        return adapters.find(home, chosen).path
    run = queue.entry(home, chosen.removeprefix(RUN)).run
    found = newest(run)
    if found is None:
        fix = "Wait for its first save, or press Save now in the Queue tab."
        raise UserError(f"run '{run.name}' has saved nothing yet", "Adapter", fix)
    return found


def newest(run: RunDir) -> Path | None:
    """The file that a run wrote last, at its end or on its way."""
    files = [path for path in (run.adapter_file, *run.step_files().values()) if path.is_file()]
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)


def following(home: Path, chosen: Sequence[str]) -> str:
    """A word that becomes another one when a run that is followed has saved; "" where none is."""
    found = []
    for one in chosen:
        item = queue.known(home, one.removeprefix(RUN)) if one.startswith(RUN) else None
        if item and (file := newest(item.run)):
            found.append(f"{file.name} {file.stat().st_mtime_ns}")
    return " ".join(found)


def called(home: Path, name: str) -> Iterator[Path]:
    """The first adapter of a name, as a prompt says it; nothing where there is none."""
    found = next((one.path for one in adapters.adapters(home) if one.path.stem == name), None)
    if found:
        yield found
