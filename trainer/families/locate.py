"""From what a person calls a base model to a loaded family."""

from pathlib import Path
from typing import Any

from trainer.contract.catalog import FAMILIES, resolve
from trainer.contract.errors import UserError
from trainer.device import Engine
from trainer.formats.bases import ALLOWED, WHERE, family_of, find_base
from trainer.protocols import Family

HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


def load_family(base: str, engine: Engine) -> Family:
    """Find a base model, fetch it where it is on the Hub, and load it.

    Raises:
        UserError: it cannot be found or fetched, is of no known family, or is not a model.
    """
    folder = find_base(base) or _from_hub(base)
    loader: Any = resolve(FAMILIES[family_of(folder)])
    family: Family = loader(folder, engine, Path(base).name)
    return family


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - half a second that only a Hub id should cost
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        problem = f"'{name}' could not be fetched from the Hub: {str(error).splitlines()[0]}"
        raise UserError(problem, WHERE, f"Check the name and the network. {ALLOWED}") from error
    if not (folder / "model_index.json").is_file():
        raise UserError(f"'{name}' on the Hub is not a diffusers model", WHERE, ALLOWED)
    return folder
