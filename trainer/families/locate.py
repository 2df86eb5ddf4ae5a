"""From what a person calls a base model to a diffusers folder on disk."""

import json
import re
from pathlib import Path
from typing import Any

from trainer.contract.catalog import FAMILIES, resolve
from trainer.contract.errors import UserError
from trainer.contract.home import demo_folder
from trainer.device import Engine
from trainer.formats.header import refuse_pickle
from trainer.protocols import Family

WHERE = "model.base"
ALLOWED = "Give `demo`, a diffusers folder (with model_index.json), or a Hub id such as owner/name."
PIPELINES = {"StableDiffusionPipeline": "sd"}  # _class_name in model_index.json -> family
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


def load_family(base: str, engine: Engine) -> Family:
    """Find a base model and load it.

    Raises:
        UserError: it cannot be found, is of no known family, or is not a model.
    """
    folder = find_base(base)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    pipeline = index.get("_class_name", "")
    if pipeline not in PIPELINES:
        known = ", ".join(row.title for row in FAMILIES.values())
        raise UserError(f"'{base}' is a {pipeline or 'nameless pipeline'}", WHERE, f"What can be trained: {known}.")
    loader: Any = resolve(FAMILIES[PIPELINES[pipeline]])
    family: Family = loader(folder, engine)
    return family


def find_base(base: str) -> Path:
    """Return the diffusers folder of a base model, fetched from the Hub where it is a Hub id.

    Raises:
        UserError: nothing of that name, or a file that cannot be used.
    """
    if base == "demo":
        return demo_folder() / "base"
    path = Path(base).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            inside = ", ".join(sorted(item.name for item in path.iterdir())[:6]) or "nothing"
            raise UserError(
                f"'{base}' is not a diffusers folder: it has no model_index.json (it holds {inside})", WHERE, ALLOWED
            )
        return path
    if path.suffix:
        refuse_pickle(path)
    if path.is_file():
        raise UserError(
            f"'{base}' is a single file", WHERE, f"Single-file checkpoints cannot be trained yet. {ALLOWED}"
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        return _from_hub(base)
    raise UserError(f"there is no base model '{base}'", WHERE, ALLOWED)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - half a second that only a Hub id should cost
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"'{name}' could not be fetched from the Hub: {reason}", WHERE, f"Check the name and the network. {ALLOWED}"
        ) from error
    if not (folder / "model_index.json").is_file():
        raise UserError(f"'{name}' on the Hub is not a diffusers model", WHERE, ALLOWED)
    return folder
