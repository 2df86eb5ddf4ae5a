"""Sheets that other tabs ask Preview for: which kind, of which adapter."""

import time
from pathlib import Path

STRENGTHS, CHECKPOINTS = "strengths", "checkpoints"


def ask(kind: str, adapter: Path) -> str:
    """A value for `Page.sheet`; a new one each time, so that it is an event each time."""
    return f"{kind} {time.time_ns()} {adapter}"


def asked(word: str) -> tuple[str, str]:
    """Kind and path of the adapter file; "" where nothing is asked for."""
    kind, _, rest = (word or "").partition(" ")
    return kind, rest.partition(" ")[2]
