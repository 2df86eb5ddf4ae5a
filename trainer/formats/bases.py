"""Base models on disk, told apart without loading them."""

import json
import re
from pathlib import Path

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.formats.header import refuse_pickle

WHERE = "model.base"
ALLOWED = "Give `demo`, a diffusers folder (with model_index.json), or a Hub id such as owner/name."
PIPELINES = {"StableDiffusionPipeline": "sd"}  # _class_name in model_index.json -> family


def find_base(base: str) -> Path | None:
    """Return the diffusers folder of a base model, or None where it is a Hub id that must be fetched.

    Raises:
        UserError: nothing of that name, or a file that cannot be used.
    """
    path = demo_folder() / "base" if base == "demo" else Path(base).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            inside = ", ".join(sorted(item.name for item in path.iterdir())[:6]) or "nothing"
            problem = f"'{base}' is not a diffusers folder: it has no model_index.json (it holds {inside})"
            raise UserError(problem, WHERE, ALLOWED)
        return path
    if path.suffix:
        refuse_pickle(path)
    if path.is_file():
        problem = f"'{base}' is a single file, and single-file checkpoints cannot be trained yet"
        raise UserError(problem, WHERE, ALLOWED)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        return None
    raise UserError(f"there is no base model '{base}'", WHERE, ALLOWED)


def family_of(folder: Path) -> str:
    """Return the catalogue's name of the family of a diffusers folder.

    Raises:
        UserError: its index is broken, or it is of no family that can be trained.
    """
    try:
        pipeline = json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise UserError("model_index.json is broken", str(folder), "Get a complete copy of the model.") from None
    if pipeline not in PIPELINES:
        known = ", ".join(row.title for row in FAMILIES.values())
        raise UserError(f"'{folder}' is a {pipeline}", WHERE, f"What can be trained: {known}.")
    return PIPELINES[pipeline]


def check_base(base: str) -> None:
    """Raise UserError for a base that cannot be trained, as far as can be told without fetching or loading it."""
    folder = find_base(base)
    if folder is not None:
        family_of(folder)
