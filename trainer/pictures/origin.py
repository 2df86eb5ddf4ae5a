"""What a run was made of when it began: settings, base, pictures and captions. A resume that would not be the same run
is told from it, before anything is loaded."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.contract.checkpoints import list_checkpoints
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.files import read_json, write_atomic
from trainer.contract.rundir import RunDir
from trainer.formats.bases import find_base
from trainer.pictures.gather import Picture, gather

NAME = "origin.json"
CHANGEABLE = (
    "training.steps",
    "training.epochs",
    "training.views",
    "training.save_every",
    "training.threads",
    "validation.every",
    "validation.stop_after",
)
SECTIONS = (
    "model",
    "dataset",
    "adapter",
    "optimizer",
    "schedule",
    "objective",
    "training",
    "validation",
)  # the others change no step
SHAPING = ("method", "rank", "text_encoder_rank", "conv_rank", "ranks", "factor", "targets", "text_encoder")
PIECES, PIECE = 8, 64 * 2**10  # of a file, in bytes: enough to tell two apart without reading gigabytes
READERS = 8
NAMED = 3  # differences of a kind that are told one by one
ANOTHER_RUN = "this run cannot go on as the same run"
PICTURES = "the picture or caption"

Origin = dict[str, dict[str, Any]]


def check_origin(run: RunDir) -> None:
    """Write down what a run is made of at its first start; compare later ones with that.

    Where nothing was learned yet, the run begins anew with what is there now.

    Raises:
        UserError: settings, base, pictures or captions are not what the last checkpoint was made with.
    """
    path, before, now = run.path / NAME, _begun_with(run), origin(run.config())
    found = differences(before, now) if before else []
    if found and list_checkpoints(run.checkpoints):
        raise _refusal(run, found)
    if before is None or found:
        for kept in (run.path / "cache").glob("*.json") if found else ():
            kept.unlink()  # the list of the pictures as they were
        write_atomic(path, json.dumps(now))


def _refusal(run: RunDir, found: Sequence[str]) -> UserError:
    anew = f"Or continue as a new run, from what this one has learned: atelier resume {run.name} --as-new. "
    return UserError(
        f"{ANOTHER_RUN}: {'; '.join(found)}",
        run.name,
        f"Put that back as it was. {'' if other_layers(found) else anew}Where only pictures or captions changed, "
        f"--as-begun goes on with those that it began with.",
    )


def check_unchanged(run: RunDir) -> None:
    """As `check_origin`, before anything of the run is touched. Raises UserError where a resume would be refused."""
    if found := changed_since(run):
        raise _refusal(run, found)


def changed_since(run: RunDir) -> list[str]:
    """Say in words why a resume would be refused; nothing where the run can go on, or has learned nothing yet."""
    before = _begun_with(run)
    return differences(before, origin(run.config())) if before and list_checkpoints(run.checkpoints) else []


def check_succession(run: RunDir, config: RunConfig) -> None:
    """Refuse settings under which a new run could take nothing up of what another has learned.

    Args:
        run: the other one.
        config: of the new one.

    Raises:
        UserError: it has other layers or ranks.
    """
    before = (_begun_with(run) or {"settings": _settings(run.config())})["settings"]
    found = [text for text in _changed(before, _settings(config)) if other_layers([text])]
    if found:
        raise UserError(
            f"what {run.name} has learned fits only its own layers and ranks: {'; '.join(found)}",
            found[0].partition(" ")[0],
            "Put that back. A new run can start from a finished file, which a larger rank takes up too: "
            "atelier train --set adapter.start=FILE",
        )


def only_pictures(found: Sequence[str]) -> bool:
    """Whether these differences are of a kind that `accept_pictures` settles."""
    return all(text.startswith(PICTURES) for text in found)


def other_layers(found: Sequence[str]) -> bool:
    """Whether settings among these differences make an adapter of other layers, which takes nothing up of a checkpoint.

    A larger rank takes up what a finished file holds, see `adapter.start`.
    """
    return any(text.startswith(tuple(f"adapter.{key} was " for key in SHAPING)) for text in found)


def _begun_with(run: RunDir) -> Origin | None:
    path = run.path / NAME
    fix = "Remove that file: what the run is made of now is then what it began with."
    return read_json(path, fix) if path.exists() else None


def accept_pictures(run: RunDir) -> None:
    """Let a run go on with the pictures and captions it has kept, although its sets have changed since."""
    if before := _begun_with(run):
        write_atomic(run.path / NAME, json.dumps({**before, "pictures": origin(run.config())["pictures"]}))


def origin(config: RunConfig) -> Origin:
    """What a config names, as it is now: three tables of short texts."""
    return {"settings": _settings(config), "base": _base(config), "pictures": _pictures(config)}


def _settings(config: RunConfig) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section in SECTIONS
        for key, value in config.model_dump(mode="json")[section].items()
        if f"{section}.{key}" not in CHANGEABLE
    }


def differences(before: Origin, now: Origin) -> list[str]:
    """Say in words what changed; a setting that one of the two does not know is of another version and does not count.

    A set or base that cannot be found now does not count either: a run keeps what it needs of its pictures, and of a
    missing base the loader says so.
    """
    said = _changed(before["settings"], now["settings"])
    said += _told("the base model's file", before["base"], now["base"])
    return said + _told(PICTURES, before["pictures"], now["pictures"])


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {before[name]} and is {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def _told(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if not before or not now:
        return []
    kinds = {
        "changed": [name for name in now if name in before and before[name] != now[name]],
        "is new": [name for name in now if name not in before],
        "is gone": [name for name in before if name not in now],
    }
    said = []
    for how, names in kinds.items():
        more = f" (and {len(names) - NAMED} more)" if len(names) > NAMED else ""
        said += [f"{what} {', '.join(sorted(names)[:NAMED])}{more} {how}"] if names else []
    return said


def _base(config: RunConfig) -> dict[str, str]:
    base = find_base(config.model.base)  # None for a Hub id, which its revision tells
    places = [*([base] if base else []), *([Path(config.model.vae).expanduser()] if config.model.vae else [])]
    files: dict[str, Path] = {}
    for place in places:
        own = sorted(place.rglob("*.safetensors")) + sorted(place.rglob("*.json")) if place.is_dir() else [place]
        files |= {path.relative_to(place.parent).as_posix(): path for path in own if path.is_file()}
    return {name: digest_of(path) for name, path in files.items()}


def _pictures(config: RunConfig) -> dict[str, str]:
    try:
        pictures, _ = gather(config.dataset)
    except UserError:
        return {}
    with ThreadPoolExecutor(READERS) as pool:
        return dict(pool.map(_picture, pictures))


def _picture(picture: Picture) -> tuple[str, str]:
    entry = picture.entry
    share = tuple(picture.share) if picture.share else None
    shown = (picture.background, picture.flip, picture.repeats, picture.prior, share, entry.focus)
    files = [digest_of(path) for path in (picture.path, picture.mask) if path]
    what = (entry.captions, asdict(picture.wording), shown, files)
    number = picture.key.partition("/")[0]  # of the set: two may lie in folders of the same name
    place = picture.folder.name if number == "0" else f"{picture.folder.name} ({number})"
    return f"{place}/{entry.name}", hashlib.sha256(json.dumps(what).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 over a file's size and pieces spread over it, its beginning and end among them; "" where it is missing.

    Content counts and dates do not: a copied or newly downloaded file is the same.
    """
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as stream:
            for number in range(PIECES if size > PIECES * PIECE else 1):
                stream.seek(number * (size - PIECE) // (PIECES - 1) if size > PIECES * PIECE else 0)
                digest.update(stream.read(PIECE if size > PIECES * PIECE else size))
    except OSError:
        return ""
    return digest.hexdigest()
