"""A grid, drawn by the plan of passes as any request is: a file for each cell, and all of them as one picture."""

import json
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.contract.files import replace_atomic
from trainer.contract.grids import AXES, GridRequest, cells, labels
from trainer.contract.requests import Progress, parse
from trainer.formats.parameters import with_settings
from trainer.pictures.sheet import table
from trainer.preview.answer import answer, model_of, preview_engine
from trainer.preview.engine import PreviewEngine, Watcher


def answer_grid(engine: PreviewEngine, request: GridRequest, watcher: Watcher) -> tuple[list[Path], Path, list[str]]:
    """Draw a grid into its folder.

    Returns:
        Files of the cells, row by row; the sheet; notices as `trainer.preview.answer.answer` has them.

    Raises:
        UserError: something in it cannot be done.
    """
    files, notices = answer(engine, cells(request), watcher)
    sheet = Path(request.out) / f"{request.id}-sheet.png"
    images, texts = [], []
    for file in files:
        with Image.open(file) as image:
            texts.append(str(image.info.get("parameters", "")))
            images.append(image.convert("RGB"))
    rows = [" ".join(label).strip() for label in labels(request.y)] if request.y else [""]
    made, about = table(images, rows, labels(request.x)), PngInfo()
    about.add_text("parameters", with_settings(texts[0], _script(request)))
    about.add_text("lora_atelier.grid", request.model_dump_json())
    replace_atomic(sheet, lambda temporary: made.save(temporary, "PNG", pnginfo=about))
    return files, sheet, notices


def _script(request: GridRequest) -> dict[str, str]:
    """What A1111 writes of a grid, so that it is read as one."""
    said = {"Script": "X/Y/Z plot"}
    for name, axis in (("X", request.x), ("Y", request.y)):
        if axis:
            said[f"{name} Type"] = AXES[axis.kind].title or axis.kind
            said[f"{name} Values"] = ", ".join(label.value for label in labels(axis))
    return said


def grid_file(request_file: str) -> None:
    """Draw the grid that a request file asks for; print its progress, and one JSON object."""
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    request = parse(GridRequest, text)
    engine, total = preview_engine(model_of(request)), len(cells(request).pictures)
    drawn = 0

    def told(place: int, file: Path) -> None:
        nonlocal drawn
        drawn += 1
        sys.stdout.write(Progress(what="drawing", done=drawn, total=total).model_dump_json() + "\n")

    files, sheet, notices = answer_grid(engine, request, Watcher(picture=told))
    said = {"file": str(sheet), "files": [str(file) for file in files], "pictures": len(files), "notices": notices}
    sys.stdout.write(json.dumps(said) + "\n")
