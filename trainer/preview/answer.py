"""One request, answered with files: used by `generate`, by `sweep` and by the resident `serve`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL.PngImagePlugin import PngInfo

from trainer.contract.catalog import pick
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic
from trainer.contract.requests import GenerateRequest, SweepRequest, parse
from trainer.device import DTYPES, Engine, preferred_device, preferred_dtype, room
from trainer.preview.engine import PreviewEngine
from trainer.preview.parameters import parameters_of


def model_of(request: GenerateRequest | SweepRequest) -> ModelSection:
    """The base of a request, and how it is opened."""
    return ModelSection(base=request.base, **request.opened.model_dump())


def preview_engine(model: ModelSection) -> PreviewEngine:
    """Load a base for previews, on the GPU if there is one."""
    device = preferred_device()
    dtype = preferred_dtype(device) if model.dtype == "auto" else DTYPES[model.dtype]
    with room("to load this model", "--base", "Close what else uses the card, or take a smaller model."):
        return PreviewEngine(model, Engine(device, dtype, torch.get_num_threads()))


def check(request: GenerateRequest) -> None:
    """Raise UserError unless every picture has a strength for every adapter and the sampler is known."""
    pick("sampling.sampler", request.sampler)
    for picture in request.pictures:
        if len(picture.strengths) != len(request.adapters):
            problem = f"{len(picture.strengths)} strengths for {len(request.adapters)} adapters"
            raise UserError(problem, "strengths", "Give each picture one strength for each adapter, 0 for none.")


def answer(
    engine: PreviewEngine, request: GenerateRequest, on_step: Callable[[int, int], None]
) -> tuple[list[Path], list[str]]:
    """Draw the pictures of a request into its folder.

    Returns:
        The files, in the order of the request, and notices about adapters that fit in part.

    Raises:
        UserError: something in the request cannot be done.
    """
    check(request)
    folder = Path(request.out)
    folder.mkdir(parents=True, exist_ok=True)
    with room("to draw this", "--size", "Close what else uses the card, or draw smaller pictures."):
        notices = engine.use(request.adapters)
        return _draw(engine, request, folder, on_step), notices


def _draw(
    engine: PreviewEngine, request: GenerateRequest, folder: Path, on_step: Callable[[int, int], None]
) -> list[Path]:
    files = []
    for index, image in enumerate(engine.draw(request, on_step)):
        path = folder / f"{request.id}-{index}.png"
        about = PngInfo()
        family = engine.family
        text = parameters_of(request, index, image.size, family.base_name, family.clip_skip)
        about.add_text("parameters", text)
        replace_atomic(path, lambda temporary, image=image, about=about: image.save(temporary, "PNG", pnginfo=about))
        files.append(path)
    return files


def answer_file(request_file: str) -> None:
    """Answer a request in a file (`-` for standard input); print one JSON object."""
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    request = parse(GenerateRequest, text)
    began = time.monotonic()
    files, notices = answer(preview_engine(model_of(request)), request, lambda done, total: None)
    said = {"files": [str(file) for file in files], "notices": notices, "seconds": round(time.monotonic() - began, 2)}
    sys.stdout.write(json.dumps(said) + "\n")
