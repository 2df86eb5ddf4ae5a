"""What the page remembers for this data folder: `<home>/settings.toml`."""

import logging
import tomllib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.files import write_atomic


class Settings(BaseModel):
    """The app's own settings; nothing here changes a training.

    Attributes:
        theme: look of the page.
        base: base model that was used last.
        preset: what was taught last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    theme: Literal["system", "light", "dark"] = "system"
    base: str = "demo"
    preset: str = "style"


def load_settings(home: Path) -> Settings:
    """Read the settings; a file that was edited into something wrong is passed over with a word in the log."""
    path = home / "settings.toml"
    try:
        return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        logging.warning("%s is not understood and is passed over: %s", path, error)
        return Settings()


def change_settings(home: Path, **changes: Any) -> Settings:
    """Change some settings and keep the others."""
    settings = Settings.model_validate({**load_settings(home).model_dump(), **changes})
    write_atomic(home / "settings.toml", tomli_w.dumps(settings.model_dump()))
    return settings
