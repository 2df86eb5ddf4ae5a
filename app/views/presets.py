"""What the page says of a preset, and of the lengths it comes in."""

import html

from trainer.contract.presets import LENGTHS, Preset

OWN = "own"  # a length that somebody typed
PACES = [*((name.capitalize(), name) for name in LENGTHS), ("Own", OWN)]


def about_html(preset: Preset) -> str:
    """HTML: when to use it, what it takes, and where its numbers come from."""
    about = preset.about
    if about is None:
        return ""
    when, takes = html.escape(about.when), html.escape(f"{preset.time_words()}. {about.memory}.")
    source = f"<details><summary>Where these numbers come from</summary>{html.escape(about.source)}</details>"
    return f'<div class="base-note">{when}<br>{takes}{source}</div>'
