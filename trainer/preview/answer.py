"""One request, answered with files: used by `generate`, by `grid` and by the resident `serve`."""

import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL.PngImagePlugin import PngInfo

from trainer.contract.catalog import pick
from trainer.contract.config import ModelSection
from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic
from trainer.contract.requests import GenerateRequest, Shared, parse
from trainer.device import DTYPES, Engine, keep_pages, preferred_device, preferred_dtype, room
from trainer.kernels.check import trouble
from trainer.preview.engine import PreviewEngine, Watcher
from trainer.preview.parameters import parameters_of
from trainer.preview.recorded import recordable
from trainer.preview.strengths import names_of, remarks, resolved


def model_of(request: Shared) -> ModelSection:
    """The base of a request, and how it is opened."""
    return ModelSection(base=request.base, **request.opened.model_dump())


def preview_engine(model: ModelSection) -> PreviewEngine:
    """Load a base for previews, on the GPU if there is one."""
    device = preferred_device()
    dtype = preferred_dtype(device) if model.dtype == "auto" else DTYPES[model.dtype]
    with room("to load this model", "--base", "Close what else uses the card, or take a smaller model."):
        return PreviewEngine(model, _engine(device, dtype))


def _engine(device: torch.device, dtype: torch.dtype) -> Engine:
    """On a GPU as a training runs: our kernels in their layout, and recorded passes."""
    plain = Engine(device, dtype, torch.get_num_threads(), attention="torch")
    if device.type == "cpu":
        keep_pages()
    if not recordable(device):
        return plain
    ours = {} if trouble() else {"kernels": "triton", "layout": "nhwc"}
    return replace(plain, graph=True, **ours)


def check(request: GenerateRequest) -> None:
    """Raise UserError unless every picture has a strength for every adapter and the sampler is known."""
    for place, picture in enumerate(request.pictures):
        pick("sampling.sampler", request.sampler_of(place))
        if len(picture.strengths) != len(request.adapters):
            problem = f"{len(picture.strengths)} strengths for {len(request.adapters)} adapters"
            raise UserError(problem, "strengths", "Give each picture one strength for each adapter, 0 for none.")


def answer(engine: PreviewEngine, request: GenerateRequest, watcher: Watcher) -> tuple[list[Path], list[str]]:
    """Draw the pictures of a request into its folder.

    Returns:
        The files, in the order of the request, and notices about adapters that fit in part and prompts that say
        something in vain.

    Raises:
        UserError: something in the request cannot be done.
    """
    check(request)
    said = [remark for picture in request.pictures for remark in remarks(picture)]
    request = resolved(request, names_of(request.adapters))
    folder = Path(request.out)
    folder.mkdir(parents=True, exist_ok=True)
    with room("to draw this", "--size", "Close what else uses the card, or draw smaller pictures."):
        notices = engine.use(request.adapters)
        return _draw(engine, request, folder, watcher), [*notices, *dict.fromkeys(said)]


def _draw(engine: PreviewEngine, request: GenerateRequest, folder: Path, watcher: Watcher) -> list[Path]:
    files = [folder / f"{request.id}-{place}.png" for place in range(len(request.pictures))]
    for place, image, clip_skip in engine.draw(request, watcher):
        about = PngInfo()
        about.add_text("parameters", parameters_of(request, place, image.size, engine.family.base_name, clip_skip))
        replace_atomic(files[place], partial(image.save, format="PNG", pnginfo=about))
        watcher.picture(place, files[place])
    return files


def answer_file(request_file: str) -> None:
    """Answer a request in a file (`-` for standard input); print one JSON object."""
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    request = parse(GenerateRequest, text)
    began = time.monotonic()
    files, notices = answer(preview_engine(model_of(request)), request, Watcher())
    said = {"files": [str(file) for file in files], "notices": notices, "seconds": round(time.monotonic() - began, 2)}
    sys.stdout.write(json.dumps(said) + "\n")
