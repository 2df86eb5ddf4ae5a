"""What a client does with a file, and how its rules' findings add up to that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from trainer.formats.clients.models import Model
from trainer.formats.clients.sheet import Group, Sheet, by_outputs, module_of

LOADS, LOSSES, NOTHING, REFUSED = "loads", "loads with losses", "no effect", "refused"
MARKS = {LOADS: "✓", LOSSES: "!", NOTHING: "✗", REFUSED: "✗"}
SCRAMBLED = "DoRA lengths of rows are read as those of columns, which scrambles the update."
NAMED = 8  # so many of the modules that are left out are named


@dataclass(frozen=True)
class Verdict:
    """What a client does with a file.

    Attributes:
        client: its name.
        outcome: "loads", "loads with losses", "no effect" or "refused".
        sentence: why, for people.
        applied: modules that take effect.
        left_out: modules that do not, by this client's rules and settings as installed.
        left_out_names: the first of them.
        reasons: everything that is lost or changed, a sentence each.
        remarks: what is worth knowing and costs nothing.
        listed: under which kind of base the client lists the file.
        triggers: words that call it, as the client shows them.
        cover: where its picture comes from, "" for none in the file.
        source: repository, files and version that the rules were read from.
    """

    client: str
    outcome: str
    sentence: str
    applied: int
    left_out: int
    left_out_names: tuple[str, ...]
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    listed: str
    triggers: tuple[str, ...]
    cover: str
    source: str

    @property
    def mark(self) -> str:
        """A sign for the table."""
        return MARKS[self.outcome]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, ready for JSON."""
        return asdict(self)


@dataclass
class Tally:
    """What a client's rules find, module by module.

    Attributes:
        applied: modules that take effect.
        lost: reason -> modules that do not.
        changed: reason -> modules that take effect otherwise than trained.
        refused: why the client loads nothing at all; "" where it does.
    """

    applied: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)
    refused: str = ""

    def lose(self, reason: str, names: Sequence[str]) -> None:
        """Note modules that have no effect; nothing where there are none."""
        if names:
            self.lost.setdefault(reason, []).extend(names)

    def change(self, reason: str, names: Sequence[str]) -> None:
        """Note modules that have another effect; nothing where there are none."""
        if names:
            self.changed.setdefault(reason, []).extend(names)

    def take(self, groups: Sequence[Group], misfit: str, rows: str) -> None:
        """Note whole modules as taking effect, but for those of another size than their layer.

        Args:
            groups: the modules.
            misfit: what the client does with one of another size.
            rows: what becomes of a DoRA whose lengths are those of rows.
        """
        self.lose(f"another size than the layer's; {misfit}.", [group.stem for group in groups if not group.fits])
        self.change(rows, [group.stem for group in groups if "dora_scale" in group.tensors and by_outputs(group)])
        self.applied += [group.stem for group in groups if group.fits]

    def refuse(self, reason: str) -> "Tally":
        """The client stops, and nothing is applied."""
        self.refused = self.refused or reason
        return self


@dataclass(frozen=True)
class Shown:
    """How a client presents a file.

    Attributes:
        listed: under which kind of base.
        hidden: why it is not seen where it belongs; "" where it is.
        triggers, cover, remarks: as in `Verdict`.
    """

    listed: str
    hidden: str = ""
    triggers: tuple[str, ...] = ()
    cover: str = ""
    remarks: tuple[str, ...] = ()


class Client(Protocol):
    """A program that loads adapter files."""

    @property
    def name(self) -> str:
        """As people call it."""

    @property
    def source(self) -> str:
        """Repository, files and version that its rules were read from."""

    def judge(self, sheet: Sheet, model: Model) -> Verdict:
        """Say what it does with a file beside a given base."""


@dataclass(frozen=True)
class Rules:
    """A client made of two rules: which modules it applies, and how it shows the file."""

    name: str
    source: str
    take: Callable[[Sheet, Model], Tally]
    show: Callable[[Sheet, Model], Shown]

    def judge(self, sheet: Sheet, model: Model) -> Verdict:
        """See `Client`."""
        return conclude(self, sheet, self.take(sheet, model), self.show(sheet, model))


def conclude(client: Rules, sheet: Sheet, tally: Tally, shown: Shown) -> Verdict:
    """Add up what was found."""
    found = {reason: _modules(names, sheet) for reason, names in {**tally.lost, **tally.changed}.items()}
    lost = {module for reason in tally.lost for module in found[reason]}
    reasons = tuple(_counted(reason, len(modules)) for reason, modules in found.items())
    applied = len(set(tally.applied))
    if tally.refused:
        reasons, applied, lost = (tally.refused, *reasons), 0, set(sheet.modules)
    if shown.hidden:
        reasons = (*reasons, shown.hidden)
    if tally.refused:
        outcome = REFUSED
    elif not applied:
        outcome = NOTHING
    else:
        outcome = LOSSES if reasons else LOADS
    return Verdict(
        client=client.name,
        outcome=outcome,
        sentence=" ".join(reasons[:2]) or f"All {applied} modules are applied.",
        applied=applied,
        left_out=len(lost),
        left_out_names=tuple(sorted(lost)[:NAMED]),
        reasons=reasons,
        remarks=shown.remarks,
        listed=shown.listed,
        triggers=shown.triggers,
        cover=shown.cover,
        source=client.source,
    )


def _modules(names: Sequence[str], sheet: Sheet) -> set[str]:
    """The modules of names that are tensors' or modules' own."""
    return {sheet.stems.get(name) or module_of(name) for name in names}


def _counted(reason: str, count: int) -> str:
    return f"{count} {'module' if count == 1 else 'modules'}: {reason}"


def first_named(names: Mapping[str, object] | Sequence[str], count: int = 3) -> str:
    """The first of some names, for a sentence."""
    listed = list(names)
    return ", ".join(listed[:count]) + (" ..." if len(listed) > count else "")
