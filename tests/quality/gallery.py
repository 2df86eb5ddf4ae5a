"""What a verdict on the demo's style needs beside the adapter: drawn and learned once."""

from functools import cached_property
from pathlib import Path

import numpy as np

from tests.quality.classify import Classifier, train
from tests.quality.draws import Studio, read, restyled
from tests.quality.judge import STRENGTHS, Evidence
from tests.quality.prompts import SEEDS, THINGS
from trainer.contract.home import demo_folder

LABELS = np.arange(len(THINGS))
VIEWS = 2  # pictures of each thing the classifier learns from


class Gallery:
    """Pictures of things that the style set lacks, by the base, and who can name them."""

    def __init__(self) -> None:
        self.studio = Studio()

    @cached_property
    def shown(self) -> np.ndarray:
        """[VIEWS * things, H, W, 3]: what the base draws, from seeds of its own."""
        return np.concatenate(
            [self.studio.draw(THINGS, [100 * view + label for label in LABELS]) for view in range(VIEWS)]
        )

    @cached_property
    def classifier(self) -> Classifier:
        """Names the things, plain and restyled."""
        return train(np.concatenate([self.shown, restyled(self.shown)]), np.tile(LABELS, 2 * VIEWS))

    @cached_property
    def restyled(self) -> np.ndarray:
        """[things, H, W, 3]: what the base draws for the prompts, restyled by the set's script."""
        return self.studio.rebuilt(restyled(self.studio.draw(THINGS, SEEDS)))

    def evidence(self, adapter: Path) -> Evidence:
        """An adapter at every strength, on prompts that it was not trained on."""
        training, captions = read(demo_folder() / "style")
        assert not set(captions) & set(THINGS), "no prompt was trained on"
        sweep = {strength: self.studio.draw(THINGS, SEEDS, adapter, strength) for strength in STRENGTHS}
        return Evidence(sweep, LABELS, training, self.restyled, self.classifier)
