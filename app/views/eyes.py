"""What the kinds of base see of pictures, for pages that have no base at hand."""

from typing import NamedTuple

from trainer.pictures.crops import CropOptions


class Eye(NamedTuple):
    """How a kind of base sees pictures.

    Attributes:
        title: its name.
        resolution: side of its square in pixels.
        step: picture sides are multiples of this, in pixels: the VAE's factor times the UNet's.
        batch_size: of its presets.
    """

    title: str
    resolution: int
    step: int
    batch_size: int

    @property
    def options(self) -> CropOptions:
        """As training has them where nothing else is asked for."""
        return CropOptions((self.resolution,), self.step)


EYES = {  # by the shelf that a base's presets are on
    "demo": Eye("Practice base, 128 px", 128, 32, 4),
    "sd": Eye("Stable Diffusion 1.5, 512 px", 512, 64, 2),
    "sd-768": Eye("Stable Diffusion 2.1, 768 px", 768, 64, 2),
    "sdxl": Eye("Stable Diffusion XL, 1024 px", 1024, 32, 1),
}
