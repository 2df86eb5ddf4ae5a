"""What must hold before one may say that a style or a subject was learnt. The bounds are the project's promise."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tests.quality.classify import Classifier
from tests.quality.measure import Distance, content, copy_distance, style_distance

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
REMAINING = 0.5  # of the distance to the style, at full strength
STROKES_SHARE = 0.5  # of what the base's strokes must change by: a tint changes nothing, restyled pictures all of it
NAMED_AT_ZERO, NAMED_SHARE = 0.6, 0.8  # of things named right: by the base, and at full strength against that
CONTENT_SHARE = 0.5  # of the training set's pixel variance
COPY_SHARE = 0.5  # nearer to a training picture than this share of what other things come to: a copy
WITH_TRIGGER, WITHOUT_TRIGGER = 0.7, 0.15


@dataclass(frozen=True)
class Evidence:
    """What a verdict on a style needs.

    Attributes:
        sweep: {strength: pictures of the prompts, in their order}.
        labels: [N] the class of each prompt.
        training: the style set.
        restyled: the base's pictures of the prompts, restyled by the set's script: what perfect learning gives.
        classifier: knows the things, plain and restyled.
    """

    sweep: dict[float, np.ndarray]
    labels: np.ndarray
    training: np.ndarray
    restyled: np.ndarray
    classifier: Classifier


@dataclass(frozen=True)
class StyleFigures:
    """The figures of a style.

    Attributes:
        distances: to the style, one for each of STRENGTHS.
        floor: the distance of restyled pictures of the same prompts.
        named: share of things named right at strength 0 and at 1.
        content: pixel variance at full strength against the training set's.
        nearest: the least distance of an output to a training picture, at full strength.
        nearest_honest: the same for restyled pictures, which are no copies.
    """

    distances: tuple[Distance, ...]
    floor: Distance
    named: tuple[float, float]
    content: float
    nearest: float
    nearest_honest: float

    def __str__(self) -> str:
        steps = "  ".join(f"{s:g}: {d.style:.3f}" for s, d in zip(STRENGTHS, self.distances, strict=True))
        return (
            f"distance to the style   {steps}  (restyled by script: {self.floor.style:.3f})\n"
            f"of it left at 1         {self.left:.2f}  (at most {REMAINING})\n"
            f"strokes learnt          {self.strokes:.2f}  (at least {STROKES_SHARE})\n"
            f"things named right      {self.named[0]:.2f} at 0, {self.named[1]:.2f} at 1\n"
            f"pixel variance          {self.content:.2f} of the training set's\n"
            f"nearest training one    {self.nearest:.3f}  (restyled by script: {self.nearest_honest:.3f})"
        )

    @property
    def left(self) -> float:
        """The share of the distance that is left at full strength."""
        return self.distances[-1].style / self.distances[0].style

    @property
    def strokes(self) -> float:
        """How far the strokes have come, 0 being the base's and 1 the restyled pictures'. A tint may fall below 0."""
        first, last = self.distances[0].strokes, self.distances[-1].strokes
        return (first - last) / (first - self.floor.strokes)

    def shortfalls(self) -> dict[str, str]:
        """{measure: what is wrong with it}; empty if the style was learnt."""
        falling = all(a.style > b.style for a, b in pairwise(self.distances))
        least = NAMED_SHARE * self.named[0]
        checks = {
            "falling": (falling, "the distance to the style must fall with every strength"),
            "distance": (self.left <= REMAINING, "too far from the style at full strength"),
            "strokes": (self.strokes >= STROKES_SHARE, "the colours of the style without its hand"),
            "classifier": (self.named[0] >= NAMED_AT_ZERO, "the base's own pictures are not named: no verdict"),
            "named": (self.named[1] >= least, "the things are no longer what was asked for"),
            "content": (self.content >= CONTENT_SHARE, "the pictures are emptier than the training set"),
            "copies": (self.nearest >= COPY_SHARE * self.nearest_honest, "a training picture was copied"),
        }
        return {name: text for name, (holds, text) in checks.items() if not holds}


def judge_style(evidence: Evidence) -> StyleFigures:
    """Measure a sweep."""
    first, last = evidence.sweep[STRENGTHS[0]], evidence.sweep[STRENGTHS[-1]]
    named = (evidence.classifier.accuracy(pictures, evidence.labels) for pictures in (first, last))
    return StyleFigures(
        distances=tuple(style_distance(evidence.sweep[strength], evidence.training) for strength in STRENGTHS),
        floor=style_distance(evidence.restyled, evidence.training),
        named=(next(named), next(named)),
        content=content(last) / content(evidence.training),
        nearest=float(copy_distance(last, evidence.training).min()),
        nearest_honest=float(copy_distance(evidence.restyled, evidence.training).min()),
    )


@dataclass(frozen=True)
class SubjectFigures:
    """The figures of a subject: shares of pictures.

    Attributes:
        called: those with the trigger that show the subject, at full strength.
        base: the same prompts without the adapter.
        uncalled: those of other things without the trigger that show it, at full strength.
        named: those other things named right, without the adapter and at full strength.
    """

    called: float
    base: float
    uncalled: float
    named: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"shows the subject       {self.called:.2f} with the trigger (at least {WITH_TRIGGER}), "
            f"{self.base:.2f} from the base\n"
            f"without the trigger     {self.uncalled:.2f} (at most {WITHOUT_TRIGGER})\n"
            f"other things named      {self.named[0]:.2f} by the base, {self.named[1]:.2f} at 1"
        )

    def shortfalls(self) -> dict[str, str]:
        """{measure: what is wrong with it}; empty if the subject was learnt."""
        checks = {
            "called": (self.called >= WITH_TRIGGER, "the trigger does not call the subject"),
            "base": (self.base <= WITHOUT_TRIGGER, "the base shows it already: nothing was learnt, or no verdict"),
            "uncalled": (self.uncalled <= WITHOUT_TRIGGER, "the subject comes uncalled"),
            "named": (self.named[1] >= NAMED_SHARE * self.named[0], "other things are no longer what was asked for"),
        }
        return {name: text for name, (holds, text) in checks.items() if not holds}
