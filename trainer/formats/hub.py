"""The Hub: what is fetched of a base model, where it lies on this machine, and what can go wrong, as sentences."""

from dataclasses import dataclass
from pathlib import Path

from trainer.contract.errors import UserError

# Of a diffusers repository: the folders of a pipeline, in safetensors. The same weights lie there up to five times:
# as pickles, in half precision, with or without EMA, for other runtimes, and as one file at the root.
HUB_FILES = [
    "model_index.json",
    *(f"{part}/{name}" for part in ("unet", "vae", "text_encoder*") for name in ("*.json", "*.safetensors")),
    *(f"{part}/*" for part in ("scheduler", "tokenizer*")),
]
HUB_DUPLICATES = ["*.fp16.*", "*.fp16-*", "*.non_ema.*", "*openvino*", "*.bin", "*.msgpack", "*.onnx*"]


def hub_cache() -> Path:
    """The folder that everything from the Hub is kept in."""
    from huggingface_hub import constants  # noqa: PLC0415 - only where it is asked for

    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True)
class Sought:
    """What was looked for on the Hub.

    Attributes:
        name: Hub id, as it was given.
        revision: branch, tag or commit; None for the main branch.
        where: setting or option that names it.
        pin: setting or option that names its revision.
        allowed: what may be given instead.
    """

    name: str
    revision: str | None
    where: str
    pin: str
    allowed: str


def _sentences(sought: Sought) -> tuple[tuple[type[Exception], str, str, str], ...]:
    """(kind of error, problem, where, fix); the first that fits counts, since some are kinds of others."""
    from huggingface_hub import errors  # noqa: PLC0415 - half a second to import

    name, where = sought.name, sought.where
    token = "`hf auth login` with an account that may read it, or set HF_TOKEN"
    repository = "/".join(name.split("/")[:2])
    return (
        (
            errors.GatedRepoError,
            f"'{name}' on the Hub is gated: its owner gives access on request",
            where,
            f"Accept its terms on its page, then run {token}.",
        ),
        (
            errors.RepositoryNotFoundError,
            f"there is no model '{name}' on the Hub, nor a folder or file of that name here",
            where,
            f"Check the spelling. If it is private, run {token}. {sought.allowed}",
        ),
        (
            errors.RevisionNotFoundError,
            f"'{name}' on the Hub has no revision '{sought.revision}'",
            sought.pin,
            "Give a branch, a tag or a full commit hash from its page, or leave it out.",
        ),
        (
            errors.RemoteEntryNotFoundError,
            f"there is no file '{name}' on the Hub",
            where,
            "Check the file's name on the page of the repository (Files and versions).",
        ),
        (
            errors.OfflineModeIsEnabled,
            f"'{name}' is not on this machine, or not all of it, and HF_HUB_OFFLINE keeps everything from the Hub",
            where,
            "Start again without HF_HUB_OFFLINE; or give a folder or a file.",
        ),
        (
            errors.LocalEntryNotFoundError,
            f"'{name}' is not on this machine, or not all of it, and the Hub cannot be reached",
            where,
            "Check the network, and that HF_HUB_OFFLINE is not set; or give a folder or a file. On a machine that "
            f"reaches the Hub, this makes the folder: hf download {repository} --local-dir FOLDER",
        ),
    )


def hub_error(error: Exception, sought: Sought) -> UserError:
    """An error of the Hub's as a sentence."""
    for kind, problem, place, fix in _sentences(sought):
        if isinstance(error, kind):
            return UserError(problem, place, fix)
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(
        f"'{sought.name}' could not be fetched from the Hub: {reason}",
        sought.where,
        f"Try again later. {sought.allowed}",
    )
