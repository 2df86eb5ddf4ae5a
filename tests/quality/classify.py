"""A small classifier, trained in the test: what is in the picture, whatever hand drew it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.quality.measure import shrunk

SIDE, BATCH, STEPS, RATE = 64, 64, 300, 3e-3


def _net(classes: int) -> nn.Sequential:
    """Four strided convolutions to 4 x 4 cells, and a linear layer over them: about 0.2 M parameters."""
    layers: list[nn.Module] = []
    widths = (3, 24, 48, 64, 96)
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Flatten(), nn.Linear(96 * (SIDE // 16) ** 2, classes))


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(shrunk(pictures, SIDE)).permute(0, 3, 1, 2) * 2 - 1


def _varied(pictures: Tensor) -> Tensor:
    """Each picture mirrored or not, and moved by up to four pixels: where a thing stands does not say what it is."""
    mirrored = torch.rand(len(pictures)) < 0.5
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)
    padded = F.pad(pictures, (4, 4, 4, 4), mode="replicate")
    corners = torch.randint(0, 9, (len(pictures), 2)).tolist()
    return torch.stack([one[:, y : y + SIDE, x : x + SIDE] for one, (y, x) in zip(padded, corners, strict=True)])


@dataclass(frozen=True)
class Classifier:
    """A trained network over the classes it was shown."""

    net: nn.Sequential

    @torch.no_grad()
    def chances(self, pictures: np.ndarray) -> np.ndarray:
        """[N, classes]: how likely each class is, a picture and its mirror image taken together."""
        seen = _tensor(pictures)
        return ((self.net(seen) + self.net(seen.flip(3))) / 2).softmax(1).numpy()

    def accuracy(self, pictures: np.ndarray, labels: np.ndarray) -> float:
        """Share of pictures named right."""
        return float((self.chances(pictures).argmax(1) == labels).mean())


def train(pictures: np.ndarray, labels: np.ndarray, steps: int = STEPS, seed: int = 0) -> Classifier:
    """Train from nothing. The same pictures give the same classifier.

    Args:
        pictures: [N, H, W, 3] in 0..1.
        labels: [N] class numbers from 0 on.
        steps: of BATCH pictures each.
        seed: of weights, order and variations.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _net(int(labels.max()) + 1)
        shown, truth = _tensor(pictures), torch.from_numpy(labels)
        optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(0, len(shown), (BATCH,))
            loss = F.cross_entropy(net(_varied(shown[rows])), truth[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Classifier(net.eval())
