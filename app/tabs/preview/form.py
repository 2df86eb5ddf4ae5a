"""What stands in the form, as one thing: to a request, from a request, kept with every picture that was drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.preview import new_id
from app.views import choices
from trainer.contract.errors import UserError
from trainer.contract.requests import (
    Asked,
    Factor,
    GenerateRequest,
    Guidance,
    Picture,
    Prompt,
    Seed,
    Steps,
    Strength,
    base_settings,
)
from trainer.formats.prompt import take_tags

NAMES = {"unet": "Strength", "text": "Text encoder", "guidance": "Guidance", "clip_skip": "Clip skip", "size": "Size"}
FIXES = {"size": "Give both sides from 8 to 4096 pixels, multiples of 8; or 0 for the base's own."}


class AdapterRow(Asked):
    """An adapter of the form.

    Attributes:
        file: its path, or `run:NAME` for the newest file of a run; "" for none chosen yet.
        on: whether it is used.
        unet: strength, in the UNet where the text encoders have their own.
        text: strength in the text encoders; None for the same.
        blocks: a preset of block weights, or its numbers with commas; "" for all of them alike.
    """

    file: str = ""
    on: bool = True
    unet: Factor = 1.0
    text: Factor | None = None
    blocks: str = ""

    @property
    def strength(self) -> float | Strength:
        """As a request has it. Raises UserError where block weights are none."""
        if self.text is None and not self.blocks:
            return self.unet
        text = self.blocks.strip()
        try:
            given = text if text.isalpha() or not text else tuple(map(float, text.split(",")))
            return Strength(unet=self.unet, text_encoder=self.text, blocks=given)
        except ValueError:
            fix = "Choose a preset, or write numbers with commas."
            raise UserError(f"'{text[:100]}' are no block weights", "Blocks", fix) from None


class Form(BaseModel):
    """All of it; 0 for a size or a clip skip that is the base's own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Prompt = ""
    negative: Prompt = ""
    base: str = "demo"
    rows: tuple[AdapterRow, ...] = ()
    seed: Seed = 42
    steps: Steps = 20
    guidance: Guidance = 5.0
    sampler: str = "DPM++ 2M"
    size: tuple[int, int] = (0, 0)
    clip_skip: int = 0

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check what stands in the page.

        Raises:
            UserError: something in it cannot be, with its name.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise wrong(error) from None


class Wanted(NamedTuple):
    """A picture that is asked for.

    Attributes:
        request: with one picture, all adapters in it.
        changed: whether that differs from the base's own picture.
        notices: what is to be said of the adapters' runs.
    """

    request: GenerateRequest
    changed: bool
    notices: tuple[str, ...]


def wrong(error: ValidationError) -> UserError:
    """The first mistake, in words of the form."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if not isinstance(part, int)]
    name = next((part for part in reversed(parts) if part in NAMES), parts[0] if parts else "")
    where = NAMES.get(name, name.replace("_", " ").capitalize())
    message = str(first["msg"])
    return UserError(f"{message[:1].lower()}{message[1:]}", where, FIXES.get(name, "Change it there."))


def wanted(home: Path, form: Form, out: Path) -> Wanted:
    """Turn the form into a request.

    Raises:
        UserError: something is missing, or cannot be.
    """
    if not form.prompt.strip():
        raise UserError("there is no prompt", "Prompt", "Write what to draw, a few words are enough.")
    rows = [(choices.path_of(home, row.file), row.strength) for row in form.rows if row.on and row.file]
    tags = take_tags(form.prompt)[1]
    known = {path.stem for path, _ in rows}
    rows += [(path, 0.0) for name in dict.fromkeys(use.name for use in tags) if name not in known
             for path in choices.called(home, name)]  # fmt: skip
    opened, notices = base_settings(form.base, [path for path, _ in rows])
    try:
        picture = Picture(prompt=form.prompt, negative=form.negative, seed=form.seed,
                          strengths=tuple(strength for _, strength in rows))  # fmt: skip
        request = GenerateRequest(
            id=new_id(), base=form.base.strip(), opened=opened, adapters=tuple(str(path) for path, _ in rows),
            pictures=(picture,), steps=form.steps, guidance=form.guidance, sampler=form.sampler,
            size=form.size if any(form.size) else None, clip_skip=form.clip_skip or None, out=str(out),
        )  # fmt: skip
    except ValidationError as error:
        raise wrong(error) from None
    if request.size and any(side % 8 for side in request.size):
        width, height = request.size
        raise UserError(f"{width}x{height} cannot be drawn", "Size", FIXES["size"])
    changed = bool(tags) or any(one.unet or one.text if isinstance(one, Strength) else one for one in picture.strengths)
    return Wanted(request, changed, notices)


def form_of(request: GenerateRequest, place: int = 0) -> Form:
    """The form that asks for a picture of a request; adapters that it does not use are left out."""
    picture = request.pictures[place]
    pairs = zip(request.adapters, picture.strengths, strict=True)
    return Form(
        prompt=picture.prompt, negative=picture.negative, base=request.base, seed=picture.seed,
        rows=tuple(_row(file, strength) for file, strength in pairs if strength or len(request.adapters) == 1),
        steps=request.steps_of(place), guidance=request.guidance_of(place), sampler=request.sampler_of(place),
        size=request.size or (0, 0), clip_skip=request.clip_skip or 0,
    )  # fmt: skip


def _row(file: str, strength: float | Strength) -> AdapterRow:
    if not isinstance(strength, Strength):
        return AdapterRow(file=file, unet=strength)
    blocks = strength.blocks if isinstance(strength.blocks, str) else ",".join(f"{one}" for one in strength.blocks)
    return AdapterRow(file=file, unet=strength.unet, text=strength.text_encoder, blocks=blocks)
