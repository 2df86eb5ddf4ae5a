"""The base models that are offered by name; any other can be typed in."""

BASES = [
    ("Practice base (built in, no download)", "demo"),
    ("Stable Diffusion 1.5 (downloads about 4 GB once)", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
]
_WORDS = "<b>Practice base:</b> small and quick, to see how it goes. Files made with it work only here."
_NOTE = f'<div class="base-note">{_WORDS}</div>'


def note_html(base: str) -> str:
    """HTML: what one should know of a base, if anything."""
    return _NOTE if base == "demo" else ""
