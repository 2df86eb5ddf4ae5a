"""What the page remembers for this data folder: `<home>/settings.toml`."""

import logging
import tomllib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.clients.layouts import Client
from trainer.contract.files import write_atomic


class Settings(BaseModel):
    """The app's own settings; nothing here changes a training.

    Attributes:
        theme: look of the page.
        base: base model that was used last.
        own_base: base other than the practice base that was used last; "" before there is one.
        preset: what was taught last.
        quota_gib: of sets, runs and library together, for each user where there is a login; 0: what the disk holds.
        bases: files and folders with base models that every user may train on, where there is a login.
        clients: programs on this machine whose models are shown, and which files can be sent to.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    theme: Literal["system", "light", "dark"] = "system"
    base: str = "demo"
    own_base: str = ""
    preset: str = "style"
    quota_gib: float = Field(0.0, ge=0)
    bases: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()

    @property
    def shared(self) -> tuple[str, ...]:
        """Places of base models that every user may use: those that are named, and the one that is chosen here."""
        return tuple(base for base in (self.base, *self.bases) if Path(base).expanduser().is_absolute())


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
