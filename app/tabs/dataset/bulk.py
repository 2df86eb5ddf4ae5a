"""x."""

from app.tabs.dataset.desk import Desk, Words


def build(desk: Desk, words: Words) -> None:
    """x."""
