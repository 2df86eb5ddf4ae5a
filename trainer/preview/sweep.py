"""A table of pictures: prompts down, strengths across, every row from one seed."""

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.contract.files import replace_atomic
from trainer.contract.requests import GenerateRequest, Picture, SweepRequest, parse
from trainer.preview.answer import answer, model_of, preview_engine

MARGIN, LABEL = 8, 22  # pixels
PAPER, INK = (255, 255, 255), (40, 40, 46)


def sweep_file(request_file: str) -> None:
    """Draw the table that a request file asks for; print one JSON object."""
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    request = parse(SweepRequest, text)
    engine = preview_engine(model_of(request))
    with tempfile.TemporaryDirectory() as folder:
        files, notices = answer(engine, as_pictures(request, folder), lambda done, total: None)
        images = []
        for file in files:
            with Image.open(file) as image:
                images.append(image.convert("RGB"))
    out = Path(request.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet = table(images, request.prompts, [f"{strength:g}" for strength in request.strengths])
    replace_atomic(out, lambda temporary: sheet.save(temporary, "PNG"))
    sys.stdout.write(json.dumps({"file": str(out), "pictures": len(images), "notices": notices}) + "\n")


def as_pictures(request: SweepRequest, folder: str) -> GenerateRequest:
    """The table as one request, row by row."""
    pictures = tuple(
        Picture(prompt=prompt, negative=request.negative, seed=request.seed + row, strengths=(strength,))
        for row, prompt in enumerate(request.prompts)
        for strength in request.strengths
    )
    same = request.model_dump(include={"base", "opened", "steps", "guidance", "sampler", "size", "clip_skip"})
    return GenerateRequest(id="sweep", adapters=(request.adapter,), pictures=pictures, out=folder, **same)


def table(images: list[Image.Image], rows: tuple[str, ...], columns: list[str]) -> Image.Image:
    """Pictures, row by row, with the strength above each column and the prompt above each row."""
    width, height = images[0].size
    line = height + LABEL + MARGIN
    sheet = Image.new("RGB", (MARGIN + len(columns) * (width + MARGIN), LABEL + MARGIN + len(rows) * line), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, text in enumerate(columns):
        centre = MARGIN + column * (width + MARGIN) + width // 2
        pen.text((centre, MARGIN), f"strength {text}" if width >= 96 else text, INK, font, anchor="ma")
    for row, prompt in enumerate(rows):
        top = LABEL + MARGIN + row * line
        pen.text((MARGIN, top + 3), prompt, INK, font)
        for column in range(len(columns)):
            sheet.paste(images[row * len(columns) + column], (MARGIN + column * (width + MARGIN), top + LABEL))
    return sheet
