"""How near pictures are to a set in colour, edges and patches, and which strength of an adapter is the best by that.

Statistics of our own: they see palette, contrast, line and texture, and know nothing of what is shown. No model of
meaning, such as CLIP, is asked; whoever reads the advice is told so.

Shapes: N pictures, F features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

SIDE = 128  # pixels in which all pictures are compared
NEAR = 0.05  # of the way from the base to the set: a strength that gains less over a smaller one is not worth it
LEAST = 0.1  # of the way; what comes no nearer was not learnt, or not seen by these statistics
SPREAD = 0.25  # of the usual spread of a feature: one in which all pictures of a set agree counts no more than so much
Floats = npt.NDArray[np.float64]
HOW = "by colours, edges and patches alone; no model that knows what a picture shows was asked"


@dataclass(frozen=True)
class Advice:
    """What a sweep says.

    Attributes:
        strength: the one to use; None where no strength comes nearer to the set.
        shares: strength -> share of the way from the base's pictures to the set's, 1 for all of it.
        reason: a sentence.
    """

    strength: float | None
    shares: Mapping[float, float]
    reason: str


def advise(sweep: Mapping[float, Sequence[Image.Image]], taught: Sequence[Image.Image]) -> Advice:
    """Choose the smallest strength that is about as near to the set as any.

    Args:
        sweep: strength -> pictures of the same prompts and seeds; 0 must be among them.
        taught: pictures of the set, at least two.
    """
    wanted = {name: _all(view, taught) for name, view in VIEWS.items()}
    found = {strength: _distances(images, wanted) for strength, images in sweep.items()}
    base = found[0.0]
    # A view in which the base is as near as the set's pictures are to each other says nothing.
    told = [name for name in VIEWS if base[name] > 1] or list(VIEWS)
    shares = {
        strength: 1 - float(np.mean([own[name] / max(base[name], 1e-9) for name in told]))
        for strength, own in sorted(found.items())
    }
    best = max(shares.values())
    if best < LEAST:
        reason = f"No strength brings the pictures nearer to the set than the base's are, {HOW}."
        return Advice(None, shares, reason)
    strength = min((one for one, share in shares.items() if share >= best - NEAR), key=abs)
    return Advice(strength, shares, _reason(strength, shares))


def _reason(strength: float, shares: Mapping[float, float]) -> str:
    way = f"At {strength:g} the pictures are {shares[strength]:.0%} of the way from the base's to the set's"
    beyond = [one for one in shares if abs(one) > abs(strength)]
    if not beyond:
        return f"{way}, and no larger strength was tried; judged {HOW}."
    best, last = max(beyond, key=shares.__getitem__), max(beyond)
    more = f"more gains little ({best:g}: {shares[best]:.0%})" if shares[best] > shares[strength] else ""
    less = f"more leads away again ({last:g}: {shares[last]:.0%})" if shares[last] < shares[strength] - NEAR else ""
    tail = less or more or f"more comes no nearer ({last:g}: {shares[last]:.0%})"
    return f"{way}; {tail}. Judged {HOW}."


def _distances(images: Sequence[Image.Image], wanted: Mapping[str, Floats]) -> dict[str, float]:
    """View -> how far the mean of some pictures is from the set's, in spreads of the set."""
    return {name: _distance(_all(VIEWS[name], images), features) for name, features in wanted.items()}


def _distance(mine: Floats, theirs: Floats) -> float:
    spread = theirs.std(axis=0)
    spread = np.maximum(spread, SPREAD * spread.mean() + 1e-6)
    # The mean of a few pictures strays by this much from that of all, without being another kind of picture.
    noise = spread * np.sqrt(1 / len(mine) + 1 / len(theirs))
    return float((np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) / noise).mean())


def _all(view: Callable[[Floats], Floats], images: Sequence[Image.Image]) -> Floats:
    return np.stack([view(_pixels(image)) for image in images])


def _pixels(image: Image.Image) -> Floats:
    """[3, SIDE, SIDE]: lightness and two colour differences, 0 to 1."""
    fitted = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(fitted.convert("YCbCr"), np.float64).transpose(2, 0, 1) / 255


def colours(pixels: Floats) -> Floats:
    """Square roots of each channel's histogram: [48]."""
    counts = [np.histogram(channel, 16, (0, 1))[0] / channel.size for channel in pixels]
    found: Floats = np.sqrt(np.concatenate(counts))
    return found


def edges(pixels: Floats) -> Floats:
    """How strong edges are and which way they run, at three scales: [42]."""
    grey, found = pixels[0], []
    for _ in range(3):
        down, across = np.gradient(grey)
        size = np.hypot(down, across)
        strong = np.histogram(size, (0, 0.01, 0.03, 0.06, 0.12, 0.25, 1))[0] / size.size
        way = np.histogram(np.arctan2(down, across) % np.pi, 8, (0, np.pi), weights=size)[0] / (size.sum() + 1e-9)
        found += [np.sqrt(strong), way]
        grey = grey.reshape(grey.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
    return np.concatenate(found)


def patches(pixels: Floats) -> Floats:
    """Logarithms of the energies of 8 x 8 patches, by frequency (discrete cosine transform), of each channel: [42]."""
    return np.concatenate([_bands(channel) for channel in pixels])


_PLACE = np.arange(8)
_COSINE = np.cos(np.pi * (_PLACE[None] + 0.5) * _PLACE[:, None] / 8) / 2
_COSINE[0] /= np.sqrt(2)
_BAND = np.add.outer(_PLACE, _PLACE)  # coefficients of about one frequency


def _bands(channel: Floats) -> Floats:
    blocks = channel.reshape(SIDE // 8, 8, SIDE // 8, 8).transpose(0, 2, 1, 3)
    energy = np.square(_COSINE @ blocks @ _COSINE.T).mean(axis=(0, 1))
    return np.array([np.log(energy[band == _BAND].mean() + 1e-7) for band in range(1, 15)])


VIEWS: dict[str, Callable[[Floats], Floats]] = {"colours": colours, "edges": edges, "patches": patches}
