"""The base models that can be chosen: built in, found on this machine, offered from the Hub; what is told of each."""

import html
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from app import owners
from app.clients import models
from app.settings import load_settings
from app.views import headers
from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.formats.bases import HUB_ID, PIPELINES, BaseFacts, describe_base, find_base, preset_shelf, read_json
from trainer.formats.glance import BASE
from trainer.formats.hub import hub_cache

NO_BASE = "-"  # stands in a config while none is chosen
AT_ONCE = 30  # headers that are read while one waits; the others are there when the list is opened again
MOST = 200  # bases that are listed of a place
_PRACTICE = "<b>Practice base:</b> small and quick, to see how it goes. Files made with it work only here."
_NONE = "<b>No base is chosen yet.</b> The adapter will work with this model and with those that were made from it."


class Offer(NamedTuple):
    """A base that can be had from the Hub; licence and size are those of its page there.

    Attributes:
        id: on the Hub.
        title: name as people write it.
        size: of what is fetched, in bytes, about.
        licence: name of its licence.
    """

    id: str
    title: str
    size: float
    licence: str


OFFERED = (
    Offer("stable-diffusion-v1-5/stable-diffusion-v1-5", "Stable Diffusion 1.5", 4.3e9, "CreativeML OpenRAIL-M"),
    Offer("stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors", "Stable Diffusion XL", 6.9e9,
          "CreativeML OpenRAIL++-M"),
)  # fmt: skip
PRACTICE = ("Practice base: its files work only here", "demo")


def choices(home: Path) -> list[tuple[str, str]]:
    """Return (title, base) of all that can be chosen: the practice base, what is on this machine, what is offered."""
    here = {base: title for find in FINDERS for title, base in find(home)}
    offered = [(f"{one.title} ({one.size / 1e9:.0f} GB download, {one.licence})", one.id) for one in OFFERED]
    found = [(title, base) for base, title in here.items()]
    return [PRACTICE, *found, *(pair for pair in offered if pair[1] not in here)]


def in_hub_cache(home: Path) -> Iterator[tuple[str, str]]:
    """Bases that were fetched from the Hub by whatever program."""
    for snapshot in sorted(hub_cache().glob("models--*--*/snapshots/*"))[:MOST]:
        name = snapshot.parents[1].name.removeprefix("models--").replace("--", "/")
        files = [snapshot] if (snapshot / "model_index.json").is_file() else sorted(snapshot.glob("*.safetensors"))
        for file in files:
            base = name if file is snapshot else f"{name}/{file.name}"
            if cached(base) == file and (words := _words(file)):
                yield f"{base} ({words})", base


def named(home: Path) -> Iterator[tuple[str, str]]:
    """Bases in the files and folders that the settings name."""
    for place in map(Path, load_settings(home).bases):
        own = [place] if place.is_file() or (place / "model_index.json").is_file() else sorted(place.glob("*"))[:MOST]
        for path in own:
            model = path.suffix == ".safetensors" or (path / "model_index.json").is_file()
            if model and (words := _words(path)):
                yield f"{path.name} ({words})", str(path)


def in_clients(home: Path) -> Iterator[tuple[str, str]]:
    """Bases of other programs on this machine, for whoever runs it."""
    if owners.bounded():
        return
    found = [one for client in load_settings(home).clients for one in models.bases(client)]
    files = [(one, headers.stamp(one.path)) for one in found if one.path.is_file()]
    unread = [headers.Wanted(one.path, stamp) for one, stamp in files if headers.known(home, one.path, stamp) is None]
    headers.read(home, unread, AT_ONCE)
    stamps = {one.path: stamp for one, stamp in files}
    for one in found:
        seen = headers.known(home, one.path, stamps[one.path]) if one.path in stamps else None
        family = seen.family if seen and seen.kind == BASE else "" if one.path in stamps else _family_of(one.path)
        if family:
            yield f"{one.inside} ({one.client.title}, {family})", str(one.path)


def _family_of(folder: Path) -> str:
    """Of a diffusers folder, as far as its index tells; "" for one that cannot be trained."""
    try:
        found = PIPELINES.get(str(read_json(folder, "model_index.json").get("_class_name")), "")
    except UserError:
        return ""
    return FAMILIES[found].title if found else ""


# Every place on this machine where bases may lie: what finds them there, (title, base) of each.
FINDERS: tuple[Callable[[Path], Iterator[tuple[str, str]]], ...] = (in_hub_cache, named, in_clients)


def _words(path: Path) -> str:
    """Family and kind of a base; "" for what is none."""
    try:
        return _facts_of(path).describe()
    except UserError:
        return ""


def cached(base: str) -> Path | None:
    """Where a Hub id lies on this machine, in the Hub's cache; None where it, or a part of it, is not there."""
    match = HUB_ID.fullmatch(base)
    if match is None:
        return None
    folder = hub_cache() / f"models--{match['repository'].replace('/', '--')}"
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()
        path = snapshot / match["file"] if match["file"] else snapshot
        return path if path.is_file() or (path / "model_index.json").is_file() else None
    except (OSError, ValueError):
        return None


def wanting(base: str | None) -> bool:
    """Whether a base has to be fetched from the Hub before it can be used."""
    name = (base or "").strip()
    try:
        return bool(name) and find_base(name) is None and not _words(cached(name) or Path())
    except UserError:
        return False


def note_html(base: str | None) -> str:
    """HTML: what one should know of a base: its kind as its files tell it, or why it cannot be used."""
    name = (base or "").strip()
    said = _PRACTICE if name == "demo" else _told(name) if name else _NONE
    return f'<div class="base-note">{said}</div>'


def _told(base: str) -> str:
    try:
        found = facts(base)
    except UserError as error:
        return f"{html.escape(error.problem.rstrip('.'))}. {html.escape(error.fix)}"
    return html.escape(found.describe()) if found else _offer(base)


def _offer(base: str) -> str:
    """HTML: what a base on the Hub takes, as far as it is known before it is asked."""
    free = shutil.disk_usage(_existing(hub_cache())).free
    room = f"{free / 1e9:.0f} GB are free on the disk that it goes to"
    known = next((one for one in OFFERED if one.id == base), None)
    if known is None:
        return f"From the Hub: size and licence are told when it is fetched; {room}."
    short = "" if free > known.size * 1.1 else " <b>That is too little.</b>"
    return f"From the Hub: about {known.size / 1e9:.1f} GB, licence {html.escape(known.licence)}; {room}.{short}"


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def facts(base: str) -> BaseFacts | None:
    """What the files of a base tell; None where it must be fetched first. A file is read again only when it changed.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    path = find_base(base)
    if path is None and (path := cached(base)) is not None and not _words(path):
        return None  # a part of it is still to come
    return None if path is None else _facts_of(path)


def _facts_of(path: Path) -> BaseFacts:
    """Raises UserError for what is no base, or not all of one."""
    if path.is_dir():
        return describe_base(path)
    stamp = path.stat()
    found = _described(path, stamp.st_mtime_ns, stamp.st_size)
    if isinstance(found, UserError):
        raise found
    return found


@lru_cache(maxsize=256)
def _described(path: Path, changed: int, size: int) -> BaseFacts | UserError:
    """The header of a checkpoint is megabytes of JSON, and the form asks at every key."""
    try:
        return describe_base(path)
    except UserError as error:
        return error


def shelf(base: str) -> str:
    """As `preset_shelf`, without reading a file again that was read before."""
    try:
        found = facts(base) if base != "demo" else None
    except UserError:
        return "sd"  # as there: it is still being typed
    return FAMILIES[found.family].shelf if found else preset_shelf(base)
