"""The text that Stable Diffusion web UIs keep in their pictures, so that a picture can be made again.

The format is AUTOMATIC1111's (`modules/infotext_utils.py`, version 1.10): the prompt, the negative prompt, one line
of settings. It goes under the key `parameters` in a PNG, and in EXIF `UserComment` in other files.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from trainer.contract.errors import UserError

_Number = TypeVar("_Number", int, float)
_NEGATIVE = "Negative prompt:"
_SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # as A1111 has it
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_TAG = re.compile(rf"\s*<lora:([^:<>]+):({_DECIMAL})(?::({_DECIMAL}))?>")
_LEAST_SETTINGS = 3  # with fewer, A1111 takes the last line for a part of the prompt


@dataclass(frozen=True)
class LoraUse:
    """An adapter in a picture.

    Attributes:
        name: as in the prompt; `trainer.contract.names.safe_name` makes one that every program takes.
        strength: factor on its effect, 1 for the trained one.
        hash: SHA-256 of its weights (`header.body_sha256`); 12 digits are written, "" for none.
        unet: factor on its effect in the UNet, where it is another; `strength` is the text encoder's then.
    """

    name: str
    strength: float = 1.0
    hash: str = ""
    unet: float | None = None


@dataclass(frozen=True)
class Generation:
    """How a picture was made; what is None or "" is not written.

    `prompt` is without `<lora:...>` tags: those are in `loras`. `model_hash` is the first 10 digits of the
    checkpoint's SHA-256. `rng` is where the noise was drawn: "CPU", or "" for the GPU.
    """

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = None
    sampler: str = ""
    schedule: str = ""
    cfg_scale: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    model_hash: str = ""
    model: str = ""
    denoising_strength: float | None = None
    clip_skip: int = 1
    rng: str = ""
    loras: tuple[LoraUse, ...] = ()
    version: str = ""


def format_parameters(generation: Generation) -> str:
    """Write the `parameters` text of a picture.

    Lines are stripped and empty lines at the ends dropped, as every reader does. The format has no escape for a
    prompt line that begins with "Negative prompt:".
    """
    size = f"{generation.width}x{generation.height}" if generation.width and generation.height else ""
    hashes = ", ".join(f"{plain_name(use.name)}: {use.hash[:12]}" for use in generation.loras if use.hash)
    settings = {
        "Steps": _text(generation.steps),
        "Sampler": generation.sampler,
        "Schedule type": generation.schedule,
        "CFG scale": _text(generation.cfg_scale),
        "Seed": _text(generation.seed),
        "Size": size,
        "Model hash": generation.model_hash[:10],
        "Model": generation.model,
        "Denoising strength": _text(generation.denoising_strength),
        "Clip skip": _text(generation.clip_skip) if generation.clip_skip > 1 else "",
        "RNG": generation.rng,
        "Lora hashes": hashes,
        "Version": generation.version,
    }
    prompt = _lines(f"{_lines(generation.prompt)} {lora_tags(generation.loras)}")
    negative = _lines(generation.negative_prompt)
    last = ", ".join(f"{key}: {_quoted(value.strip())}" for key, value in settings.items() if value.strip())
    return "\n".join(part for part in (prompt, f"{_NEGATIVE} {negative}" if negative else "", last) if part)


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """The same text with more settings at its end, as scripts write them; readers pass over what they do not know."""
    return ", ".join([text, *(f"{key}: {_quoted(value)}" for key, value in settings.items())])


def parse_parameters(text: str) -> Generation:
    """Read a `parameters` text as A1111 does, from any program that writes it; unknown settings are passed over.

    Raises:
        UserError: a setting that must be a number is none.
    """
    *lines, last = text.strip().split("\n")
    pairs = _SETTING.findall(last)
    if len(pairs) < _LEAST_SETTINGS:
        lines, pairs = [*lines, last], []
    settings = {key: _unquoted(value).strip() for key, value in pairs}
    tagged, negative = _prompts(lines)
    width, height = _size(settings.get("Size", ""))
    return Generation(
        prompt=_lines(_TAG.sub("", tagged)),
        negative_prompt=negative,
        steps=_number(settings, "Steps", int),
        sampler=settings.get("Sampler", ""),
        schedule=settings.get("Schedule type", ""),
        cfg_scale=_number(settings, "CFG scale", float),
        seed=_number(settings, "Seed", int),
        width=width,
        height=height,
        model_hash=settings.get("Model hash", ""),
        model=settings.get("Model", ""),
        denoising_strength=_number(settings, "Denoising strength", float),
        clip_skip=_number(settings, "Clip skip", int) or 1,
        rng=settings.get("RNG", ""),
        loras=_uses(tagged, settings.get("Lora hashes", "")),
        version=settings.get("Version", ""),
    )


def lora_tags(loras: Iterable[LoraUse]) -> str:
    """Return `<lora:NAME:STRENGTH>` for each adapter, with strengths as plain decimals: Civitai reads no others.

    Where the UNet's is another it is the second number, as A1111 reads it.
    """
    return " ".join(f"<lora:{plain_name(use.name)}:{_strengths(use)}>" for use in loras)


def _strengths(use: LoraUse) -> str:
    return ":".join(decimal_text(one) for one in (use.strength, use.unet) if one is not None)


def plain_name(name: str) -> str:
    """Return an adapter's name without what would end its tag or its place in the list of hashes."""
    return re.sub(r"[:,<>\s]+", " ", name).strip()


def decimal_text(value: float) -> str:
    """Write a number exactly, without exponent and without a needless ".0"."""
    exact = value if isinstance(value, int) else float(value)
    return format(Decimal(repr(exact)), "f").removesuffix(".0")


def _lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _text(value: float | None) -> str:
    return "" if value is None else decimal_text(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n]|^"', value) else value


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value  # quotes that belong to the value
    return value


def _prompts(lines: Iterable[str]) -> tuple[str, str]:
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            current = negative
        current.append(line.removeprefix(_NEGATIVE).strip())
    return "\n".join(prompt).strip(), "\n".join(negative).strip()


def _uses(prompt: str, hashes: str) -> tuple[LoraUse, ...]:
    by_name = {name.strip(): digits for name, digits in re.findall(r"([^:,]+):\s*([0-9A-Za-z]+)", hashes)}
    return tuple(
        LoraUse(name, float(strength), by_name.get(name, ""), float(unet) if unet else None)
        for name, strength, unet in _TAG.findall(prompt)
    )


def _size(text: str) -> tuple[int, int] | tuple[None, None]:
    found = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    return (int(found[1]), int(found[2])) if found else (None, None)


def _number(settings: dict[str, str], key: str, kind: Callable[[str], _Number]) -> _Number | None:
    value = settings.get(key, "")
    if not value:
        return None
    try:
        return kind(value)
    except ValueError as error:
        fix = "Paste the text as it is in a picture."
        raise UserError(f"'{value}' is not a number.", f"parameters: {key}", fix) from error
