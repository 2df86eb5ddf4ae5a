"""A request's picture as A1111's `parameters` text, so that other programs can read how it was made."""

from functools import lru_cache
from pathlib import Path

from trainer.contract.catalog import pick
from trainer.contract.requests import GenerateRequest, Strength
from trainer.formats.header import body_sha256
from trainer.formats.parameters import Generation, LoraUse, format_parameters


def parameters_of(request: GenerateRequest, index: int, size: tuple[int, int], model: str, clip_skip: int) -> str:
    """Return the text for picture `index` of a request, `size` (width, height) in pixels."""
    picture, row = request.pictures[index], pick("sampling.sampler", request.sampler_of(index))
    pairs = zip(map(Path, request.adapters), picture.strengths, strict=True)
    loras = tuple(_use(file, strength) for file, strength in pairs if strength)
    return format_parameters(
        Generation(
            prompt=picture.prompt,
            negative_prompt=picture.negative,
            steps=request.steps_of(index),
            sampler=row.title,
            schedule=row.schedule,
            cfg_scale=request.guidance_of(index),
            seed=picture.seed,
            width=size[0],
            height=size[1],
            model=model,
            clip_skip=clip_skip,
            rng="CPU",
            loras=loras,
            version="LoRA Atelier",
        )
    )


def _use(file: Path, strength: float | Strength) -> LoraUse:
    """As a tag says it; the format has no place for blocks and steps."""
    digits = _short_hash(file, file.stat().st_mtime_ns)
    if not isinstance(strength, Strength):
        return LoraUse(file.stem, strength, digits)
    return LoraUse(file.stem, strength.text, digits, None if strength.unet == strength.text else strength.unet)


@lru_cache(maxsize=64)
def _short_hash(file: Path, changed: int) -> str:
    """AutoV3, as A1111 writes it; `changed` makes an overwritten file another one."""
    return body_sha256(file)[:12]
