"""Who else holds memory of the graphics cards: other programs, by name."""

import html
import time
from collections.abc import Iterable

from trainer.contract.card import CardProcess, card_processes
from trainer.contract.preflight import others

SECONDS = 5.0  # how old the answer may be: the driver takes a moment
_last: tuple[float, list[CardProcess]] = (-SECONDS, [])


def others_html(own: Iterable[int]) -> str:
    """HTML: the programs on the cards that are none of our runs; nothing where there is no card, or nobody else.

    Args:
        own: processes of our runs.
    """
    global _last
    if time.monotonic() - _last[0] > SECONDS:
        found = card_processes()
        _last = time.monotonic(), found if isinstance(found, list) else []
    strangers = [process for process in _last[1] if process.pid not in set(own)]
    if not strangers:
        return ""
    text = f"Also on the card: {others(strangers)}. What they hold is not there for a training."
    return f'<div class="hint" id="queue-card">{html.escape(text)}</div>'
