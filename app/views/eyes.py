"""How a base sees pictures: what a kind of base asks for, or what stands in Train. The page carries it as a text."""

import json
from typing import NamedTuple

from app.views.bases import facts, shelf
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.formats.architecture import resolution_of
from trainer.pictures.crops import Crop, CropOptions


class Eye(NamedTuple):
    """How pictures are seen.

    Attributes:
        title: for people.
        resolutions: sides of the squares in pixels.
        step: picture sides are multiples of this, in pixels: the VAE's factor times the UNet's.
        batch_size: pictures in a forward pass.
        crop, max_upscale: see `CropOptions`.
    """

    title: str
    resolutions: tuple[int, ...]
    step: int
    batch_size: int
    crop: Crop = "focus"
    max_upscale: float = 2.0

    @property
    def options(self) -> CropOptions:
        """As training has them."""
        return CropOptions(self.resolutions, self.step, self.crop, self.max_upscale)


EYES = {  # by the shelf that a base's presets are on; as training has it where nothing else is asked for
    "demo": Eye("Practice base, 128 px", (128,), 32, 4),
    "sd": Eye("Stable Diffusion 1.5, 512 px", (512,), 64, 2),
    "sd-768": Eye("Stable Diffusion 2.1, 768 px", (768,), 64, 2),
    "sdxl": Eye("Stable Diffusion XL, 1024 px", (1024,), 32, 1),
}


def kind_of(base: str) -> str:
    """The key in `EYES` of a base: of its size where its files tell it, else of the shelf that its presets are on."""
    try:
        found = facts(base) if base != "demo" else None
    except UserError:
        found = None  # it is still being typed
    side = resolution_of(found.family, found.prediction) if found else 0
    return next((key for key, eye in EYES.items() if eye.resolutions == (side,)), shelf(base))


def key_of(config: RunConfig, kind: str) -> str:
    """The text of what a config asks for: `kind` where that is what its kind of base has anyway."""
    own, wanted = EYES[kind], config.dataset
    resolutions = wanted.resolutions(own.resolutions[0])
    seen = own._replace(resolutions=resolutions, crop=wanted.crop, max_upscale=wanted.max_upscale)
    seen = seen._replace(batch_size=config.training.batch_size)
    if seen == own or min(resolutions) < own.step:  # too small is said when it is submitted
        return kind
    return json.dumps(seen._replace(title=f"As in Train: {', '.join(map(str, resolutions))} px"))


def eye_of(key: str) -> Eye:
    """What a text of `key_of` stands for."""
    if key in EYES:
        return EYES[key]
    title, resolutions, *more = json.loads(key)
    return Eye(title, tuple(resolutions), *more)
