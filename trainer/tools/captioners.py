"""Models that put a picture into words: which ones can be used, and how each is asked.

Any that transformers has the classes of; code that comes with a model is never run, and weights are safetensors.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from trainer.contract.errors import UserError
from trainer.contract.requests import CaptionRequest
from trainer.device import preferred_device, preferred_dtype
from trainer.pictures.captions import fold
from trainer.tools.fetching import WHERE, is_tagger
from trainer.tools.taggers import open_tagger

Captioner = Callable[[Sequence[Image.Image]], list[str]]  # RGB pictures of any sizes -> a caption for each
Inputs = Any  # transformers' BatchFeature

SUPPORTED = (
    "Captions can be made by BLIP, Florence-2, by chat models that see pictures and have a chat template "
    "(LLaVA and its kin in transformers), and by WD taggers (model.onnx with selected_tags.csv)."
)


@dataclass(frozen=True)
class Way:
    """How a kind of model is asked for captions.

    Attributes:
        prompts: what is said to it for each task; the first is what it does when nothing else is asked.
        prepare: (processor, prompt, pictures) -> what the model is given.
        read: (processor, what it was given, token ids it wrote, prompt) -> texts.
        options: of `generate`.
        free: whether it understands other prompts.
    """

    prompts: Mapping[str, str]
    prepare: Callable[[Any, str, Sequence[Image.Image]], Inputs]
    read: Callable[[Any, Inputs, torch.Tensor, str], list[str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    free: bool = True


def _with_text(processor: Any, prompt: str, images: Sequence[Image.Image]) -> Inputs:
    """The same words for each picture, so nothing has to be padded; no words where there are none."""
    text = {"text": [prompt] * len(images)} if prompt else {}
    return processor(images=list(images), return_tensors="pt", **text)


def _in_a_chat(processor: Any, prompt: str, images: Sequence[Image.Image]) -> Inputs:
    """A question in the model's own template; larger pictures take more tokens, so answers begin at the right edge."""
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    processor.tokenizer.padding_side = "left"
    given = [[image] for image in images]
    return processor(images=given, text=[text] * len(images), padding=True, return_tensors="pt")


def _whole(processor: Any, inputs: Inputs, made: torch.Tensor, prompt: str) -> list[str]:
    """BLIP goes on with the prompt, which belongs to the caption: "a photo of" a dog."""
    return processor.batch_decode(made, skip_special_tokens=True)


def _answer(processor: Any, inputs: Inputs, made: torch.Tensor, prompt: str) -> list[str]:
    """What was written after the prompt; some models give back only that."""
    asked = inputs.get("input_ids", made[:, :0])
    repeated = torch.equal(made[:, : asked.shape[1]], asked)
    return processor.batch_decode(made[:, asked.shape[1] :] if repeated else made, skip_special_tokens=True)


def _of_task(processor: Any, inputs: Inputs, made: torch.Tensor, prompt: str) -> list[str]:
    """Florence-2's own reading, which leaves in a caption what fills up the shorter ones of a batch."""
    padding = processor.tokenizer.pad_token
    texts = (text.replace(padding, "") for text in processor.batch_decode(made, skip_special_tokens=False))
    return [processor.post_process_generation(text, task=prompt, image_size=(1, 1))[prompt] for text in texts]


CHAT = Way(
    {
        "detailed": "Describe this picture in two or three sentences: what it shows, and how. Only the description.",
        "brief": "Describe this picture in one short sentence. Only the sentence.",
        "paragraph": "Describe this picture in one detailed paragraph: what it shows, where, from which side, in which "
        "light, and in which style. Only the paragraph.",
    },
    _in_a_chat,
    _answer,
    {"max_new_tokens": 400},
)
WAYS: dict[str, Way] = {  # by the model_type of config.json
    "blip": Way({"brief": ""}, _with_text, _whole, {"max_new_tokens": 60}),
    "florence2": Way(
        {"detailed": "<DETAILED_CAPTION>", "brief": "<CAPTION>", "paragraph": "<MORE_DETAILED_CAPTION>"},
        _with_text,
        _of_task,
        {"max_new_tokens": 1024, "num_beams": 3},  # as its model card
        free=False,
    ),
}
INSTEAD = {  # kinds that transformers has classes for now, whose first repositories were written for code of their own
    "florence2": "Take it from florence-community (such as florence-community/Florence-2-base), which holds the same "
    "weights for the classes of transformers."
}


def open_captioner(folder: Path, request: CaptionRequest) -> Captioner:
    """Load a captioner, on the GPU if there is one.

    Raises:
        UserError: it is of no kind that is known here, needs code of its own, is damaged, or cannot do what is asked.
    """
    if is_tagger(folder):
        return open_tagger(folder, request)
    kind = _kind(folder)
    processor, model = _load(folder, kind)
    way = WAYS.get(kind, CHAT)
    if way is CHAT and not getattr(processor, "chat_template", None):
        raise UserError(f"a model of the kind '{kind}' without a chat template cannot be used", WHERE, SUPPORTED)
    prompt = _prompt(way, request)

    @torch.inference_mode()
    def caption(images: Sequence[Image.Image]) -> list[str]:
        inputs = way.prepare(processor, prompt, images).to(model.device, model.dtype)
        made = model.generate(**inputs, do_sample=False, **way.options)
        return [fold(text) for text in way.read(processor, inputs, made, prompt)]

    return caption


def _kind(folder: Path) -> str:
    """The kind of a model, one that can be used."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES  # noqa: PLC0415

    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"config.json cannot be read: {error}", str(folder), "Get a complete copy of it.") from error
    own = "auto_map" in config
    if own and (kind in INSTEAD or kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        problem = f"this model (of the kind '{kind}') is made to run code of its own, and none but ours is ever run"
        raise UserError(problem, WHERE, INSTEAD.get(kind, SUPPORTED))
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UserError(f"a model of the kind '{kind}' makes no captions", WHERE, SUPPORTED)
    return kind


def _load(folder: Path, kind: str) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415 - it takes seconds

    device = preferred_device()
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(folder, **here)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=preferred_dtype(device), use_safetensors=True, **here
        )
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:  # each a way to say: not complete
        reason = fold(str(error))[:300]
        fix = "Get a complete copy of it, with the files of its processor; a package it names is installed with pip."
        raise UserError(f"this model (of the kind '{kind}') cannot be loaded: {reason}", str(folder), fix) from error
    return processor, model.to(device).eval()


def _prompt(way: Way, request: CaptionRequest) -> str:
    if request.prompt and not way.free:
        raise UserError("this model takes no prompt", "--prompt", f"Choose a task: {', '.join(way.prompts)}.")
    if request.prompt:
        return request.prompt
    task = next(iter(way.prompts)) if request.task == "auto" else request.task
    if task not in way.prompts:
        raise UserError(f"this model has no task '{task}'", "--task", f"It has: {', '.join(way.prompts)}.")
    return way.prompts[task]
