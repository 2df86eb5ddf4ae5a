"""From what a person calls a base model to a loaded family."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.contract.catalog import FAMILIES, resolve
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.device import Engine
from trainer.families.checkpoint import CheckpointSource
from trainer.families.source import FolderSource, Source
from trainer.formats.bases import ALLOWED, HUB_ID, WHERE, describe_base, find_base
from trainer.formats.hub import HUB_DUPLICATES, HUB_FILES, Sought, hub_error
from trainer.protocols import Family

PIN = "model.revision"


def find_source(base: str, revision: str | None = None) -> Source:
    """Find a base model, fetched where it is on the Hub, with its parts ready to be loaded.

    Args:
        base: `demo`, a diffusers folder, a checkpoint file, or a Hub id (owner/name, owner/name/file.safetensors).
        revision: branch, tag or commit of a Hub id.

    Raises:
        UserError: it cannot be found or fetched, or is nothing that can be trained.
    """
    path = find_base(base)
    if path is not None and revision:
        fix = "Leave it out, or give the base as a Hub id (owner/name)."
        raise UserError(f"'{base}' is on this machine, and only a base from the Hub has revisions", PIN, fix)
    facts = describe_base(path or _from_hub(base, revision or None))
    return CheckpointSource(facts) if facts.path.is_file() else FolderSource(facts)


def load_family(options: ModelSection, engine: Engine) -> Family:
    """Find a base model, fetch it where it is on the Hub, and open it.

    What the options say of prediction type and zero terminal SNR counts more than what the base says.

    Raises:
        UserError: it cannot be found or fetched, is of no known family, or a setting does not fit it.
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
    family: Family = loader(source, engine, options, Path(options.base).name.removesuffix(".safetensors"))
    return family


def _from_hub(base: str, revision: str | None) -> Path:
    """Fetch a Hub id, or find it in the Hub's cache: a diffusers folder or a checkpoint file."""
    from huggingface_hub import errors, hf_hub_download, snapshot_download  # noqa: PLC0415 - half a second to import

    match = HUB_ID.fullmatch(base)
    if match is None:
        raise UserError(f"there is no base model '{base}'", WHERE, ALLOWED)
    repository, file = match["repository"], match["file"]
    try:
        if file:
            return Path(hf_hub_download(repository, file, revision=revision))
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=HUB_DUPLICATES
        )
    except (OSError, ValueError, errors.HTTPError) as error:
        raise hub_error(error, Sought(base, revision, WHERE, PIN, ALLOWED)) from error
    if not (Path(folder) / "model_index.json").is_file():
        fix = f"If it holds a single checkpoint, name the file: {repository}/FILE.safetensors. {ALLOWED}"
        raise UserError(f"'{base}' on the Hub is not a diffusers model (no model_index.json)", WHERE, fix)
    return Path(folder)
