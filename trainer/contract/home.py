"""Where a user's things are: `outputs/` in a checkout, `~/lora-atelier` otherwise, or wherever they say."""

import os
from importlib import resources
from pathlib import Path

from trainer.contract.errors import UserError
from trainer.contract.files import storage_error


def find_home(chosen: str | Path | None = None) -> Path:
    """Return the data folder, made if it is not there: `chosen`, else ATELIER_HOME, else the default.

    Raises:
        UserError: it cannot be made.
    """
    root = Path(__file__).resolve().parents[2]
    default = root / "outputs" if (root / "pyproject.toml").is_file() else Path.home() / "lora-atelier"
    home = Path(chosen or os.environ.get("ATELIER_HOME") or default).expanduser().resolve()
    try:
        for folder in ("datasets", "runs", "library"):
            (home / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, home) from error
    return home


def demo_folder() -> Path:
    """Return `presets/demo`: the embedded base model and its sample pictures."""
    return Path(str(resources.files("presets"))) / "demo"


def find_dataset(home: Path, name: str) -> Path:
    """Find a set of pictures by its name under `home`, by its folder, or by `demo/style` and `demo/subject`.

    Raises:
        UserError: there is none, with the ones there are.
    """
    candidates = [home / "datasets" / name, Path(name).expanduser()]
    if name.startswith("demo/"):
        candidates.append(demo_folder().parent / name)
    for path in candidates:
        if path.is_dir():
            return path.resolve()
    known = ", ".join(sorted(path.name for path in (home / "datasets").glob("*") if path.is_dir())) or "none yet"
    raise UserError(
        f"there is no set of pictures '{name}'",
        "--dataset",
        f"Give a folder of pictures, or one of your sets: {known}.",
    )
