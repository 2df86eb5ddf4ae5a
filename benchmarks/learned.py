"""What several trainings learned, as a table with verdicts."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.quality.judge import REMAINING, STROKES_SHARE, StyleFigures

BASE, PLAIN, EQUAL, GOOD = "the base", "plain loop, PEFT", "ours, equal settings", "ours, `good` preset"
BETTER, OF_SEEDS = 0.02, 0.8  # what `good` has to be: so much better than the plain loop, on that share of the seeds


@dataclass(frozen=True)
class Learned:
    """What a training came to.

    Attributes:
        name: what was trained.
        seed: of the training.
        losses: of every held-out picture.
        again: their mean under another draw of noise; the same mean where there was none.
        file: the adapter; "" for the base.
    """

    name: str
    seed: int
    losses: Sequence[float]
    again: float
    file: str

    @property
    def loss(self) -> float:
        """Mean over the pictures."""
        return statistics.fmean(self.losses)

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}: {self.loss:.5f}"


def by_seed(found: Sequence[Learned], name: str) -> dict[int, Learned]:
    """Trainings of one kind."""
    return {one.seed: one for one in found if one.name == name}


def names_of(found: Sequence[Learned]) -> list[str]:
    """What was trained beside the plain loop, in order."""
    return [name for name in dict.fromkeys(one.name for one in found) if name not in (BASE, PLAIN)]


def rows(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rest))


def table(found: Sequence[Learned]) -> str:
    """A row a seed, and for every training its ratio to the plain loop's."""
    plain, names = by_seed(found, PLAIN), names_of(found)
    head = ["seed", PLAIN, *(cell for name in names for cell in (name, "against the plain loop"))]
    lines = []
    for seed, one in plain.items():
        others = [by_seed(found, name)[seed].loss for name in names]
        lines.append([str(seed), f"{one.loss:.5f}", *against(others, [f"{loss:.5f}" for loss in others], one.loss)])
    columns = [[one.loss for one in by_seed(found, name).values()] for name in (PLAIN, *names)]
    means = [statistics.fmean(column) for column in columns]
    spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    said = [f"{mean:.5f} ± {spread:.5f}" for mean, spread in zip(means, spreads, strict=True)]
    lines.append(["mean, deviation", said[0], *against(means[1:], said[1:], means[0])])
    return rows([head, *lines])


def against(losses: Sequence[float], said: Sequence[str], plain: float) -> list[str]:
    """Each loss as it is said, and how it stands to the plain loop's."""
    pairs = ((words, f"{loss / plain - 1:+.1%}") for loss, words in zip(losses, said, strict=True))
    return [cell for pair in pairs for cell in pair]


def content_table(found: Mapping[int, StyleFigures]) -> str:
    """Whether pictures with the preset's adapter have the style and still show what was asked for."""
    head = ["seed of `good`", f"distance to the style left (at most {REMAINING})"]
    head += [f"strokes learnt (at least {STROKES_SHARE})", "things named right by the base, at full strength"]
    lines = [
        [str(seed), f"{one.left:.2f}", f"{one.strokes:.2f}", " → ".join(f"{share:.2f}" for share in one.named),
         ", ".join(one.shortfalls()) or "none"]
        for seed, one in found.items()
    ]  # fmt: skip
    return rows([[*head, "shortfalls"], *lines])


def equal_words(found: Sequence[Learned]) -> str:
    """Whether ours with equal settings comes to what the plain loop comes to, within the spread of seeds."""
    plain, ours = ([one.loss for one in by_seed(found, name).values()] for name in (PLAIN, EQUAL))
    apart = statistics.fmean(ours) - statistics.fmean(plain)
    spread = max(max(plain) - min(plain), max(ours) - min(ours))
    holds = min(plain) <= statistics.fmean(ours) <= max(plain)
    return (
        f"Equal settings: the means are {abs(apart):.5f} apart, the seeds of one kind up to {spread:.5f}; ours lies "
        f"{'within' if holds else 'OUTSIDE'} the plain loop's seeds."
    )


def good_words(found: Sequence[Learned]) -> str:
    """Whether the preset is better on enough seeds."""
    plain, good = by_seed(found, PLAIN), by_seed(found, GOOD)
    better = sum(good[seed].loss <= (1 - BETTER) * one.loss for seed, one in plain.items())
    holds = better >= OF_SEEDS * len(plain)
    return (
        f"`good` is better by {BETTER:.0%} or more on {better} of {len(plain)} seeds: "
        f"{'as it has to be' if holds else 'NOT ENOUGH'}."
    )


def noise_words(found: Sequence[Learned]) -> str:
    """How much a ratio of the first seed moves with another draw of noise."""
    first = next(one for one in found if one.name == PLAIN)
    moved = [
        abs(other.again / first.again - other.loss / first.loss)
        for other in found
        if other.seed == first.seed and other.name not in (BASE, PLAIN)
    ]
    return f"With another draw of noise and timesteps the ratios of seed {first.seed} move by up to {max(moved):.2%}."


def section(
    found: Sequence[Learned], contents: Mapping[int, StyleFigures], command: str, facts: Mapping[str, str], split: str
) -> str:
    """The whole section.

    Args:
        found: what was learned.
        contents: of the preset, seed -> figures of its pictures; may be empty.
        command: as it was typed.
        facts: versions and machine.
        split: the pictures that were held out.
    """
    base = next(one for one in found if one.name == BASE)
    about = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "date")
    told = [noise_words(found)]
    told += [equal_words(found)] if by_seed(found, EQUAL) else []
    told += [good_words(found)] if by_seed(found, GOOD) else []
    return "\n\n".join([
        f"## {facts['date']}, held-out loss of trainings on the practice base, {split} pictures",
        f"    {command}",
        f"{about}, {os.cpu_count()} cores, a thread a training. The loss is the mean squared error of the noise on "
        f"{len(base.losses)} pictures that nobody trained on; the base without an adapter has {base.loss:.5f}.",
        table(found),
        "\n".join(f"- {line}" for line in told),
        *([content_table(contents)] if contents else []),
    ]) + "\n"  # fmt: skip
