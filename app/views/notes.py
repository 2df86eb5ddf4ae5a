"""What is to be said at single fields of the form: that one has no effect, is hardly meant, or is wrong.

A note is a CSS rule for its field, so that all of them are one small piece of HTML, whatever the form holds.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from trainer.contract.compose import setting_names
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.remarks import remarks
from trainer.contract.rules import CLASHES, idle

COLOURS = {"idle": "var(--border-color-primary)", "remark": "#d97706", "wrong": "#dc2626"}


class Note(NamedTuple):
    """A sentence at a field.

    Attributes:
        setting: `section.key`.
        kind: why it is there; it decides the look.
        text: the sentence.
    """

    setting: str
    kind: Literal["idle", "remark", "wrong"]
    text: str


def notes(config: RunConfig, steps: int | None) -> list[Note]:
    """What is to be said at the fields of a config; `steps` is its length, where that is known."""
    found = [Note(name, "idle", f"No effect now: counts {rule.words()}.") for name, rule in idle(config).items()]
    return [*found, *(Note(one.setting, "remark", one.text) for one in remarks(config, steps))]


def notes_of(error: UserError) -> list[Note]:
    """What an error says, at the fields that it names."""
    known, found = set(setting_names()), list[Note]()
    for line in str(error).splitlines():
        name, _, text = line.partition(": ")
        if name in known:
            others = next((clash.settings for clash in CLASHES if line.startswith(f"{name}: {clash.problem}")), (name,))
            found += [Note(other, "wrong", text) for other in others]
    return found


def style(said: Iterable[tuple[str, Note]]) -> str:
    """HTML: the rules that show notes at their fields.

    Args:
        said: (id of the field's element in the page, its note).
    """
    rules = []
    for element, note in said:
        rules.append(
            f"#{element}::after{{content:{_quoted(note.text)};display:block;margin-top:4px;padding-left:8px;"
            f"border-left:3px solid {COLOURS[note.kind]};font-size:var(--text-sm);white-space:normal}}"
        )
        rules.append(f"#{element}>*{{height:auto!important}}")  # a list's box takes all of the field's height
        if note.kind == "idle":
            rules.append(f"#{element}>*{{opacity:.5}}")
    return f"<style>{''.join(rules)}</style>" if rules else ""


def _quoted(text: str) -> str:
    """A CSS string; whatever is not a plain character is written by its number, so that it ends neither it nor HTML."""
    return '"' + re.sub(r"[^\w .,:;=/()+-]", lambda found: f"\\{ord(found[0]):x} ", text) + '"'
