"""Contact sheets: pictures in a grid with their captions below."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CAPTION_HEIGHT = 26


def wrapped(text: str, width: int) -> str:
    """Text on at most two lines of `width` characters, cut where it does not fit."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(line[:width] for line in lines[:2])


def sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int, side: int = 128) -> Image.Image:
    """One picture of all pictures, row by row, each `side` pixels wide with its caption below."""
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + 6) + 6, rows * (side + CAPTION_HEIGHT + 6) + 6), "#e9e9ec")
    pen = ImageDraw.Draw(page)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = 6 + i % columns * (side + 6), 6 + i // columns * (side + CAPTION_HEIGHT + 6)
        page.paste(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y))
        pen.multiline_text(
            (x, y + side + 1), wrapped(caption, side // 6), fill="#222222", font=ImageFont.load_default(10), spacing=1
        )
    return page
