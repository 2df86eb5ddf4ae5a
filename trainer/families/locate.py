"""From what a person calls a base model to a loaded family."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.contract.catalog import FAMILIES, resolve
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.device import Engine
from trainer.families.source import FolderSource, Source
from trainer.formats.bases import ALLOWED, WHERE, describe_base, find_base
from trainer.protocols import Family

HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


def load_family(options: ModelSection, engine: Engine) -> Family:
    """Find a base model, fetch it where it is on the Hub, and open it.

    What the options say of prediction type and zero terminal SNR counts more than what the base says.

    Raises:
        UserError: it cannot be found or fetched, is of no known family, or is not a model.
    """
    source = find_source(options.base, options.revision)
    facts = source.facts
    if options.prediction != "auto":
        facts = replace(facts, prediction=options.prediction)
    if options.zero_terminal_snr != "auto":
        facts = replace(facts, zero_terminal_snr=options.zero_terminal_snr == "on")
    if facts.zero_terminal_snr and facts.prediction == "epsilon":
        problem = "a UNet that predicts the noise cannot learn from pure noise: zero terminal SNR needs v-prediction"
        raise UserError(problem, "model.zero_terminal_snr", "Set it to off, or model.prediction to v_prediction.")
    source.facts = facts
    loader: Any = resolve(FAMILIES[facts.family])
    family: Family = loader(source, engine, options, Path(options.base).stem)
    return family


def find_source(base: str, revision: str | None) -> Source:
    """Find a base by what people call it."""
    return FolderSource(describe_base(find_base(base) or _from_hub(base)))


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
