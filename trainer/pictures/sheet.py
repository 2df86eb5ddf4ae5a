"""Many pictures as one: a table with headings."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN = 8  # pixels
LEAST_TEXT = 13  # pixels; larger on larger pictures
MOST_PIXELS = 64e6  # of a sheet: what is larger opens nowhere
PAPER, INK = (255, 255, 255), (40, 40, 46)


def table(images: Sequence[Image.Image], rows: Sequence[str], columns: Sequence[tuple[str, str]]) -> Image.Image:
    """Pictures, row by row, with a heading above each column and each row.

    Args:
        images: all of one size; made smaller where the sheet would be huge.
        rows: of each row, "" for none.
        columns: of each column (what varies, its value); where a column is narrow only the value is said.
    """
    share = min(1.0, (MOST_PIXELS / (len(images) * images[0].width * images[0].height)) ** 0.5)
    width, height = (max(1, round(side * share)) for side in images[0].size)
    size = max(LEAST_TEXT, width // 28)
    font, label = ImageFont.load_default(size), size + 9
    line = height + MARGIN + (label if any(rows) else 0)
    sheet = Image.new("RGB", (MARGIN + len(columns) * (width + MARGIN), label + MARGIN + len(rows) * line), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (what, value) in enumerate(columns):
        centre = MARGIN + column * (width + MARGIN) + width // 2
        whole = f"{what} {value}".strip()
        text = whole if font.getlength(whole) <= width else _cut(value, font, width)
        pen.text((centre, MARGIN), text, INK, font, anchor="ma")
    for row, text in enumerate(rows):
        top = label + MARGIN + row * line
        pen.text((MARGIN, top + 3), _cut(text, font, sheet.width - 2 * MARGIN), INK, font)
        for column in range(len(columns)):
            image = images[row * len(columns) + column]
            image = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(image, (MARGIN + column * (width + MARGIN), top + line - height - MARGIN))
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """A text on one line, as much of it as fits."""
    text = " ".join(text.split())[:1000]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
