"""The planned sample pictures of a run, as its events tell of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.contract.rundir import RunDir


class Shot(NamedTuple):
    """A sample picture.

    Attributes:
        step: that it was drawn at.
        prompt, seed, strength: that it was drawn with.
        file: a PNG.
    """

    step: int
    prompt: str
    seed: int
    strength: float
    file: Path


def sheet_at(run: RunDir, step: int) -> list[Shot]:
    """The last round of samples up to a step, row by row: prompts down, strengths across. Empty where there is none.

    What somebody asked for meanwhile is no part of it, nor a row that is not whole.
    """
    told: dict[str, Shot] = {}
    for event in run.events():
        if event["kind"] == "sample" and "id" not in event and int(event["step"]) <= step:
            file = run.samples / Path(str(event["file"])).name
            drawn = int(event["step"]), str(event["prompt"]), int(event["seed"]), float(event.get("strength", 1.0))
            told[file.name] = Shot(*drawn, file)
    there = [shot for shot in told.values() if shot.file.is_file()]
    last = max((shot.step for shot in there), default=0)
    rows: dict[int, list[Shot]] = {}
    for shot in there:
        if shot.step == last:
            rows.setdefault(shot.seed, []).append(shot)
    widest = max(map(len, rows.values()), default=0)
    return [shot for _, row in sorted(rows.items()) if len(row) == widest for shot in row]


def cover_of(sheet: Sequence[Shot]) -> Shot | None:
    """The first prompt's picture nearest to strength 1."""
    row = [shot for shot in sheet if shot.seed == sheet[0].seed]
    return min(row, key=lambda shot: abs(shot.strength - 1), default=None)
