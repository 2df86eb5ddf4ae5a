"""What the doctor of sets is asked and says; see `trainer.pictures.doctor`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainer.pictures.album import Album, Entry
from trainer.pictures.captions import fold
from trainer.pictures.looks import Look
from trainer.pictures.remedies import Fix
from trainer.pictures.wording import Wording

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Options:
    """What a set is meant for.

    Attributes:
        resolution: side of the square whose area pictures are brought to, in pixels.
        trigger: of the run, for pictures whose set names none.
        class_word: likewise.
        tokens: longest caption.
    """

    resolution: int = 512
    trigger: str = ""
    class_word: str = ""
    tokens: int = 75


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: its name for scripts.
        severity: "error" cannot be trained on, "warning" harms the result, "note" is good to know.
        title: what it is, in a few words.
        why: why it matters and what is meant to be done, in a sentence or two.
        value: what was found on each picture, by its id; {} where it is about the whole set.
        groups: ids of pictures that belong together, the best first; () where they stand alone.
        about: what was found on the whole set, "" where the pictures say it.
        fixes: what can be done, the usual one first.
    """

    kind: str
    severity: Severity
    title: str
    why: str
    value: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[tuple[str, ...], ...] = ()
    about: str = ""
    fixes: tuple[Fix, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The pictures that it is about."""
        return tuple(self.value)


@dataclass(frozen=True)
class Findings:
    """What the doctor has to say.

    Attributes:
        pictures: that can be trained on.
        excluded: that are left out by the user, and were not looked at.
        findings: the worst first.
        sizes: upright (width, height) in pixels, by id.
        skipped: files that cannot be trained on, and why: unreadable ones, and of kinds that are not known.
    """

    pictures: int
    excluded: int
    findings: tuple[Finding, ...]
    sizes: Mapping[str, tuple[int, int]]
    skipped: tuple[tuple[Path, str], ...] = ()

    def of(self, kind: str) -> Finding | None:
        """The finding of a kind."""
        return next((finding for finding in self.findings if finding.kind == kind), None)


@dataclass(frozen=True)
class Case:
    """All that a check may look at.

    Attributes:
        entries: pictures that are not left out and can be read.
        looks: what was measured on them, by id.
        faults: why others cannot be read, by id.
        foreign: files that a person takes for pictures, of kinds that are not known.
    """

    folder: Path
    album: Album
    options: Options
    entries: tuple[Entry, ...]
    looks: Mapping[str, Look]
    faults: Mapping[str, str]
    foreign: tuple[Path, ...] = ()

    def taught(self) -> list[Entry]:
        """The pictures without those of regularisation."""
        return [entry for entry in self.entries if not self.album.concept_of(entry).regularisation]

    def wording(self, entry: Entry) -> Wording:
        """The trigger and class word of a picture."""
        concept = self.album.concept_of(entry)
        if concept.regularisation:
            return Wording(class_word=concept.class_word)
        trigger, thing = concept.trigger or self.options.trigger, concept.class_word or self.options.class_word
        return Wording(trigger=fold(trigger), class_word=fold(thing), shuffle="off")

    def each(self, say: Callable[[Entry, Look], str]) -> dict[str, str]:
        """What `say` finds on pictures, without those where it finds nothing."""
        said = {entry.id: say(entry, self.looks[entry.id]) for entry in self.entries}
        return {name: text for name, text in said.items() if text}
