"""Adapters as cards of the page. Everything that a file says of itself is escaped.

Covers are asked for by the browser when their card comes near, and have their place before they come.
"""

import html
from collections.abc import Sequence

from app.views import grid, sets
from app.views.headers import Progress
from app.views.page import empty
from app.views.shelf import PAGE, Card
from trainer.formats.base_layers import PRACTICE
from trainer.formats.glance import Glance
from trainer.formats.inspect import SD1, SD2, SDXL
from trainer.formats.parameters import decimal_text

EMPTY = empty(
    "No adapters yet",
    "Finished trainings land here by themselves. Files from elsewhere can be added below; those that A1111, Forge, "
    "ComfyUI or InvokeAI have show here when Settings says where these are.",
)
MOST_CHIPS, LONGEST_CHIP = 3, 60
SHORT = {SD1: "SD 1.x", SD2: "SD 2.x", SDXL: "SDXL", PRACTICE: "practice"}
MB = 2**20


def cover(card: Card, side: str = "small") -> str:
    """Address of a cover; it changes with the file, so that a browser may keep it."""
    return f"/covers/{card.item.id}/{side}?v={card.item.stamp[0]:.3f}-{card.item.size}"


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / MB:.0f} MB" if size >= 10 * MB else f"{size / MB:.1f} MB" if size >= MB / 10 else f"{size} bytes"


def strength(card: Card) -> float:
    """What to begin with: its maker's advice, else what it was trained at."""
    return card.seen.strength if card.seen and card.seen.strength is not None else 1.0


def prompt(card: Card) -> str:
    """What to paste into the prompt of A1111, Forge and their kin."""
    words = ", ".join(card.seen.triggers) if card.seen else ""
    return f"<lora:{card.item.path.stem}:{decimal_text(strength(card))}> {words}".strip()


def chip(text: str, label: str = "") -> str:
    """HTML: words that are copied by a click."""
    shown = text if len(text) <= LONGEST_CHIP else f"{text[: LONGEST_CHIP - 1]}…"
    said = html.escape(f"Copy: {text}")
    return (
        f'<button type="button" class="chip" data-copy="{html.escape(text)}" title="{said}" aria-label="{said}">'
        f"{html.escape(label or shown)}</button>"
    )


def card_html(card: Card) -> str:
    """HTML of one card."""
    seen, name = card.seen or Glance(), html.escape(card.name)
    figures = [f'<span class="family">{html.escape(SHORT.get(card.family, card.family))}</span>'] if card.family else []
    figures += [seen.method] if seen.method not in ("", "LoRA") else []
    figures += [f"rank {seen.rank}"] if seen.rank else []
    figures += [size_text(card.item.size)]
    figures += [f"use at {decimal_text(seen.strength)}"] if seen.strength not in (None, 1.0) else []
    words = [*map(chip, seen.triggers[:MOST_CHIPS])]
    words += [f"+{len(seen.triggers) - MOST_CHIPS}"] if len(seen.triggers) > MOST_CHIPS else []
    words += [f'<span class="tag">{html.escape(tag)}</span>' for tag in card.labels.tags]
    whose = "" if card.item.run else f'<span class="whose">{html.escape(card.whose)}</span>'
    trouble = f'<div class="trouble">{html.escape(seen.problem)}</div>' if seen.problem else ""
    return (
        f'<article class="card" data-id="{card.item.id}" data-key="{html.escape(card.item.key)}">'
        f'<button type="button" class="open" title="{name}"><img src="{cover(card)}" width="256" height="256" alt="" '
        f'loading="lazy" decoding="async"><b>{name}</b></button>{whose}'
        f'<div class="figures">{" · ".join(figures)}</div>{trouble}<div class="chips">{"".join(words)}</div></article>'
    )


def grid_html(found: Sequence[Card], total: int, number: int, reading: Progress) -> str:
    """HTML of one page of cards, with the way to the other pages, and how far the files are read.

    Args:
        found: what the filter lets through.
        total: cards there are.
        number: of the page, from 0.
        reading: of headers, in the background.
    """
    told = f'<span class="reading"> · reading files: {reading.done} of {reading.total}</span>' if reading.total else ""
    if not found:
        return f'<div class="tiles-head"><span>Nothing is like that.{told}</span></div>' if total else EMPTY
    number = min(number, grid.last_page(found, PAGE))
    first = number * PAGE
    count = f"{len(found)} of {sets.count(total, 'adapter')}" if len(found) < total else sets.count(total, "adapter")
    turn = grid.turn_html(number, grid.last_page(found, PAGE), f"{first + 1}–{min(first + PAGE, len(found))}")
    head = f'<div class="tiles-head"><span>{count}{told}</span><span class="turn">{turn}</span></div>'
    return f'{head}<div class="cards">{"".join(map(card_html, found[first : first + PAGE]))}</div>'
