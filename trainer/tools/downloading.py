"""`trainer fetch`: a base model is brought from the Hub into its cache, with word of how far it is.

A start after a stop, or after any end, goes on where that was: whole files are kept, and of the others what came.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.contract.errors import UserError
from trainer.contract.requests import FetchRequest, Progress, parse
from trainer.formats.bases import ALLOWED, HUB_ID, WHERE, describe_base
from trainer.formats.hub import HUB_DUPLICATES, HUB_FILES, Sought, hub_cache, hub_error

Say = Callable[[Progress], None]
LOOK_SECONDS = 0.5
SPARE = 2**30  # bytes that are left free on the disk
Part = tuple[str, int]  # file in the repository, its bytes


def fetch_file(request_file: str) -> None:
    """Answer a request in a file: lines of progress, then one JSON object."""
    request = parse(FetchRequest, Path(request_file).read_text("utf-8"))
    _write(fetch_base(request.base, lambda progress: _write(progress.model_dump())))


def fetch_base(base: str, say: Say) -> dict[str, Any]:
    """Fetch a base and look whether it can be trained.

    Returns:
        `folder`, `bytes`, `licence` and what its files tell of it, `about`.

    Raises:
        UserError: it cannot be found or fetched, there is no room for it, or it is nothing that can be trained.
    """
    from huggingface_hub import HfApi, errors, hf_hub_download  # noqa: PLC0415 - half a second to import

    match = HUB_ID.fullmatch(base)
    if match is None:
        raise UserError(f"'{base}' is no Hub id", WHERE, ALLOWED)
    repository = match["repository"]
    say(Progress(what="asking the Hub"))
    try:
        info = HfApi().model_info(repository, files_metadata=True)
        parts = _parts(info, match["file"], base)
        licence = str((info.card_data or {}).get("license") or "none is named")
        total, missing = sum(size for _, size in parts), _missing(repository, parts)
        _check_room(base, sum(size for _, size in missing))
        with _watched(repository, total, [part for part in parts if part not in missing], licence, say) as done:
            for part in missing:
                hf_hub_download(repository, part[0])
                done.append(part)
        place = Path(hf_hub_download(repository, match["file"] or "model_index.json"))
    except (OSError, ValueError, errors.HTTPError) as error:
        raise hub_error(error, Sought(base, None, WHERE, "", ALLOWED)) from error
    folder = place if match["file"] else place.parent
    return {"folder": str(folder), "bytes": total, "licence": licence, "about": describe_base(folder).describe()}


def _parts(info: Any, file: str | None, base: str) -> list[Part]:
    """The files of a base that are needed, with their sizes."""
    from huggingface_hub.utils import filter_repo_objects  # noqa: PLC0415

    there = {item.rfilename: int(item.size or 0) for item in info.siblings or ()}
    names = (
        [file] if file else list(filter_repo_objects(there, allow_patterns=HUB_FILES, ignore_patterns=HUB_DUPLICATES))
    )
    wanted = "model_index.json" if file is None else file
    if wanted not in there:
        single = next((name for name in there if name.endswith(".safetensors") and "/" not in name), "FILE.safetensors")
        fix = f"If it holds a single checkpoint, name the file: {info.id}/{single}. {ALLOWED}"
        raise UserError(f"'{base}' on the Hub has no {wanted}", WHERE, fix)
    return [(name, there[name]) for name in names]


def _missing(repository: str, parts: Sequence[Part]) -> list[Part]:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

    return [part for part in parts if not isinstance(try_to_load_from_cache(repository, part[0]), str)]


def _check_room(base: str, needed: int) -> None:
    place = hub_cache()
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < needed + SPARE:
        problem = f"'{base}' takes {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free on the disk of {place}"
        raise UserError(problem, WHERE, "Free some, or set HF_HUB_CACHE to a folder on another disk and start again.")


@contextmanager
def _watched(repository: str, total: int, whole: list[Part], licence: str, say: Say) -> Iterator[list[Part]]:
    """While files are fetched, say how many bytes are there; the list is of the files that are whole."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}" / "blobs"
    ended, began = threading.Event(), time.monotonic()
    first = _there(folder, whole)

    def look() -> None:
        done = min(total, _there(folder, whole))
        speed = (done - first) / max(1e-3, time.monotonic() - began)
        left = (total - done) / speed if speed > 0 else None
        say(Progress(what=f"fetching, licence {licence}", done=done, total=total, left=left))

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            look()

    look()
    thread = threading.Thread(target=watch, name="watch-fetch", daemon=True)
    thread.start()
    try:
        yield whole
    finally:
        ended.set()
        thread.join()


def _there(folder: Path, whole: Sequence[Part]) -> int:
    started = sum(path.stat().st_size for path in folder.glob("*.incomplete") if path.exists())
    return started + sum(size for _, size in whole)


def _write(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
