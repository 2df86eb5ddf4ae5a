"""A picture that somebody drops in: the settings it was drawn with go into the form."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from app.preview import new_id
from app.settings import load_settings
from app.tabs.preview.form import Form, form_of
from app.tabs.preview.stage import Shown, inline
from app.views import adapters, bases
from trainer.contract.errors import UserError
from trainer.formats.header import read_header
from trainer.formats.inspect import DEMO
from trainer.formats.parameters import Generation, parse_parameters
from trainer.formats.restore import restored

MOST = 100_000  # signs of a `parameters` text


class Known(Mapping[str, Path]):
    """Name, or digits of the hash that a file tells of itself -> adapter file. Headers are read when a hash is asked.

    Args:
        home: the data folder.
    """

    def __init__(self, home: Path) -> None:
        self._named = {one.path.stem: one.path for one in reversed(adapters.adapters(home))}

    def __getitem__(self, name: str) -> Path:
        if name in self._named:
            return self._named[name]
        for path in self._named.values() if len(name) >= 10 else ():
            try:
                told = read_header(path).metadata.get("sshs_model_hash", "")
            except UserError:
                continue  # a broken file is found by its name only
            if told.startswith(name.lower()):
                return path
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


def text_of(picture: Path) -> str:
    """The `parameters` text of a PNG.

    Raises:
        UserError: it is none, or has none.
    """
    fix = "Give a PNG as A1111, Forge or this program wrote it: copies that a site made have lost the text."
    try:
        with Image.open(picture, formats=("PNG",)) as image:
            text = str(image.info.get("parameters", ""))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UserError("this is no PNG that can be read", picture.name, fix) from None
    if not text.strip():
        raise UserError("this picture does not say how it was drawn", picture.name, fix)
    if len(text) > MOST:
        raise UserError(f"this picture says more than {MOST} signs", picture.name, fix)
    return text


def read(home: Path, text: str, base: str) -> tuple[Form, list[str]]:
    """The form that draws such a picture, and a sentence for everything that cannot be as it was.

    Args:
        home: the data folder.
        text: as A1111 writes it.
        base: that stands in the form; it stays where the text's own is not here.

    Raises:
        UserError: a number in it is none that can be drawn.
    """
    said = parse_parameters(text)
    found, told = _base(home, said, base)
    request, more = restored(said, Known(home), new_id(), found, "")
    return form_of(request), [*told, *more]


def _base(home: Path, said: Generation, base: str) -> tuple[str, list[str]]:
    """The base that a text names, if it is here."""
    if not said.model:
        return base, []
    named = [value for title, value in bases.choices(home) if said.model in (value, Path(value).stem, title)]
    if said.model == DEMO:
        named = ["demo"]
    if named:
        return named[0], []
    default = base or load_settings(home).base
    return default, [f"it was drawn with the base '{said.model}'; the one that stands in the form is taken"]


def shown(picture: Path, form: Form) -> Shown:
    """The picture itself."""
    size = form.size if all(form.size) else (1, 1)
    return Shown("", inline(picture), *size, f"as in {picture.name}")
