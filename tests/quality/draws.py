"""Pictures from the embedded base, with an adapter at any strength."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from presets.demo.make.style import restyle
from tests.quality.measure import stack
from trainer.contract.config import ModelSection
from trainer.contract.requests import GenerateRequest, Picture
from trainer.preview.answer import preview_engine
from trainer.sampling import to_images

STEPS = 16
BATCH = 8  # by default the engine draws one picture at a time on a CPU; here it matters more that it is a little faster


class Studio:
    """The embedded base, loaded once."""

    def __init__(self) -> None:
        self.engine = preview_engine(ModelSection(base="demo"))
        self.engine.batch = BATCH

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], adapter: Path | None = None, strength: float = 1.0
    ) -> np.ndarray:
        """[N, H, W, 3] in 0..1, one picture for each prompt and its seed."""
        strengths = (strength,) if adapter else ()
        pictures = tuple(
            Picture(prompt=prompt, seed=seed, strengths=strengths) for prompt, seed in zip(prompts, seeds, strict=True)
        )
        request = GenerateRequest(
            id="quality",
            adapters=tuple(map(str, filter(None, [adapter]))),
            pictures=pictures,
            steps=STEPS,
            out="unused",
        )
        assert not self.engine.use(request.adapters), "the adapter must fit wholly"
        drawn = sorted(self.engine.draw(request), key=lambda one: one.place)  # it plans its passes as it likes
        return stack([one.image for one in drawn])

    @torch.no_grad()
    def rebuilt(self, pictures: np.ndarray) -> np.ndarray:
        """[N, H, W, 3]: the pictures through the base's VAE, which is all of them that any adapter could draw."""
        family = self.engine.family
        tensors = (torch.from_numpy(picture).permute(2, 0, 1) * 2 - 1 for picture in pictures)
        latents = torch.cat([family.encode_pictures(one[None]).mean for one in tensors])
        return stack(to_images(family.decode(latents)))


def restyled(pictures: np.ndarray) -> np.ndarray:
    """The pictures [N, H, W, 3] by the hand of the demo's style set."""
    return stack(restyle(Image.fromarray((picture * 255).round().astype(np.uint8))) for picture in pictures)


def read(folder: Path) -> tuple[np.ndarray, list[str]]:
    """The pictures of a sample set and their captions."""
    files = sorted(folder.glob("*.png"))
    return stack(map(Image.open, files)), [file.with_suffix(".txt").read_text("utf-8").strip() for file in files]
