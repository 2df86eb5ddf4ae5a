"""From what a person calls a captioner to a folder with its files."""

from pathlib import Path

from trainer.contract.errors import UserError
from trainer.formats.bases import HUB_ID
from trainer.formats.header import PICKLE_SUFFIXES
from trainer.formats.hub import Sought, hub_error

WHERE, PIN = "--model", "--revision"
ALLOWED = (
    "Give a folder, or a Hub id such as florence-community/Florence-2-base, Salesforce/blip-image-captioning-large "
    "or SmilingWolf/wd-vit-tagger-v3."
)
TAGS, TAGGER = "selected_tags.csv", "model.onnx"  # a tagger is told by its table of tags
ABOUT = ["*.json", "*.txt", "*.csv", "*.model", "*.jinja"]  # small files, by which the kind of a model is told
WEIGHTS = ["*.safetensors"]
ELSEWHERE = ["*/*", "*.fp16.safetensors"]  # other forms of the same weights


def find_captioner(name: str, revision: str = "") -> Path:
    """Find a captioner, fetched where it is on the Hub.

    Raises:
        UserError: it cannot be found or fetched, or its weights are pickled.
    """
    path = _on_this_machine(name)
    if path is None:
        folder = _from_hub(name, revision or None, ABOUT)
        path = _from_hub(name, revision or None, [*ABOUT, TAGGER] if is_tagger(folder) else [*ABOUT, *WEIGHTS])
    elif revision:
        raise UserError(f"'{name}' is on this machine, and only a model from the Hub has revisions", PIN, ALLOWED)
    if is_tagger(path):
        _check_tagger(path, name)
    elif not list(path.glob("*.safetensors")):
        raise _without_weights(path, name)
    return path


def is_tagger(folder: Path) -> bool:
    """Whether a folder is a tagger's."""
    return (folder / TAGS).is_file()


def _on_this_machine(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long for a file, somebody's home that is none, a NUL
        raise UserError(f"'{name[:80]}' cannot be a path: {error}", WHERE, ALLOWED) from error
    if path.exists():
        raise UserError(f"'{name}' is a file; a captioner is a folder of files", WHERE, ALLOWED)
    return None


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download  # noqa: PLC0415 - half a second to import

    match = HUB_ID.fullmatch(name)
    if match is None or match["file"]:
        raise UserError(f"there is no captioner '{name}'", WHERE, ALLOWED)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=ELSEWHERE))
    except (OSError, ValueError, errors.HTTPError) as error:
        raise hub_error(error, Sought(name, revision, WHERE, PIN, ALLOWED)) from error


def _check_tagger(path: Path, name: str) -> None:
    if not (path / TAGGER).is_file():
        fix = f"Fetch the whole of it: hf download OWNER/NAME {TAGGER} {TAGS} --local-dir FOLDER"
        raise UserError(f"'{name}' has a table of tags ({TAGS}) and no model ({TAGGER})", WHERE, fix)


def _without_weights(path: Path, name: str) -> UserError:
    if not (path / "config.json").is_file():
        found = ", ".join(sorted(item.name for item in path.iterdir())[:5]) or "nothing"
        return UserError(f"'{name}' is no captioner: it has no config.json and no {TAGS}, but {found}", WHERE, ALLOWED)
    pickled = sorted(item.name for item in path.iterdir() if item.suffix.lower() in PICKLE_SUFFIXES)
    has = f"it has only {', '.join(pickled[:3])}, and a pickle file can run any program hidden in it"
    problem = f"the weights of '{name}' must be .safetensors files: {has if pickled else 'there are none'}"
    fix = "Take a model whose weights are in safetensors (some have them on another revision, such as refs/pr/N)."
    return UserError(problem, WHERE, fix)
