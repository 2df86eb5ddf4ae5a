"""What a model file is, at a glance: enough for a card in a gallery, from its header alone, in about a millisecond.

The header of an SDXL adapter lists thousands of tensors in half a megabyte of JSON. Here only the metadata of it is
parsed, and the few tensors that tell kind, rank and base are searched for. It is for showing; whatever reads tensors
checks the whole header (`trainer.formats.header`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.catalog import FAMILIES
from trainer.contract.errors import UserError
from trainer.formats.checkpoint import kind_of
from trainer.formats.header import TensorInfo, header_text
from trainer.formats.inspect import UNKNOWN, grouped, said_family, shape_family, triggers

ADAPTER, BASE, OTHER = "adapter", "base", "other"
MOST_BESIDE = 2**20  # bytes of a `.json` beside a file
LONGEST = 2000  # signs of anything that is shown

_METADATA = b'"__metadata__"'
_BEFORE = re.compile(rb"[{,]\s*$")  # an inner quote of a text is escaped: in a text, this never stands before it
_AFTER = re.compile(r"\s*:\s*")
_ENTRY = re.compile(rb'"\s*:\s*(\{\s*"[^{}]*\})')
_OF_ADAPTER = (b"lora_", b".lora.", b"lokr_w", b"hada_w", b"oft_", b"dora_scale")
_METHODS = (
    ("DoRA", (b"dora_scale", b"lora_magnitude_vector")),
    ("LoHa", (b"hada_w1",)),
    ("LoKr", (b"lokr_w1",)),
    ("OFT", (b"oft_",)),
)
# Ends of names -> side of the shape that is the rank.
_DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight", ".lora_A.default.weight")
_RANKS = {**dict.fromkeys(_DOWN, 0), ".hada_w1_b": 0, ".lokr_w2_b": 0, ".lokr_w1_b": 0}
# Parts of names that tell the base, as `shape_family` reads them.
_TELLING = (
    *(f"attn2{a}to_{b}{down}" for a in "_." for b in "kv" for down in (*_DOWN, ".hada_w1_b")),
    *("attn2.processor.to_k_lora.down.weight", "lora_te2_", "text_encoder_2.", "clip_g"),
    *("lora_unet_input_blocks_", "lora_unet_output_blocks_", "transformer_blocks_2_", "transformer_blocks.2."),
    *(f"self_attn{sign}q_proj{down}" for sign in "_." for down in _DOWN),
)


@dataclass(frozen=True)
class Glance:
    """What a file says of itself.

    Attributes:
        kind: "adapter", "base" or "other".
        family: of an adapter, as `Inspection.family`; of a base its title in the catalogue; "unknown".
        base: name of the base that an adapter was trained on, "" where it does not say.
        title: its own name for itself, or what it is where it is neither adapter nor base.
        method: "LoRA", "DoRA" or another; "" for no adapter.
        rank: 0 where it is not told.
        triggers: words that call it.
        strength: that its maker advises; None where no one does.
        hint: how to use it, by its maker.
        tags: that its maker gave it.
        cover: whether there is a picture in it.
        problem: why nothing could be read, "" otherwise.
    """

    kind: str = OTHER
    family: str = UNKNOWN
    base: str = ""
    title: str = ""
    method: str = ""
    rank: int = 0
    triggers: tuple[str, ...] = ()
    strength: float | None = None
    hint: str = ""
    tags: tuple[str, ...] = ()
    cover: bool = False
    problem: str = ""


def glance(path: Path, beside: Path | None = None) -> Glance:
    """Look at a file. One that cannot be read says why in `problem`.

    Args:
        path: a .safetensors file.
        beside: its `.json`, as A1111, Forge and Civitai's helpers write it.
    """
    try:
        text = header_text(path)
        metadata, rest = _metadata(text)
    except UserError as error:
        return Glance(problem=error.problem[:LONGEST])
    except (ValueError, RecursionError, AttributeError):
        return Glance(problem="Its header is broken.")
    if not any(mark in rest for mark in _OF_ADAPTER):
        return _no_adapter(rest)
    said = said_family(metadata)
    told = _beside(beside) if beside else {}
    return Glance(
        kind=ADAPTER,
        family=said if said != UNKNOWN else shape_family(grouped(_telling(rest))),
        base=_short(metadata.get("ss_sd_model_name") or metadata.get("ss_base_model_version", "")),
        title=_short(metadata.get("modelspec.title") or metadata.get("ss_output_name", "")),
        method=next((title for title, marks in _METHODS if any(mark in rest for mark in marks)), "LoRA"),
        rank=_rank(metadata, rest),
        triggers=_words(told) or tuple(map(_short, triggers(metadata)))[:24],
        strength=_number(told.get("preferred weight")) or _number(metadata.get("modelspec.lora_default_weight")),
        hint=_short(metadata.get("modelspec.usage_hint", "")),
        tags=_split(metadata.get("modelspec.tags", "")),
        cover=len(metadata.get("ssmd_cover_images", "")) > 8 or "modelspec.thumbnail" in metadata,
    )


def _metadata(text: bytes) -> tuple[dict[str, str], bytes]:
    """The metadata, and the header without it.

    Raises:
        ValueError: it is not text, or the metadata is no JSON.
    """
    place = -1
    while (place := text.find(_METADATA, place + 1)) >= 0:
        colon = _AFTER.match(rest := text[place + len(_METADATA) :].decode())
        if colon and _BEFORE.search(text[max(0, place - 64) : place]):
            found, end = json.JSONDecoder().raw_decode(rest, colon.end())
            plain = {key: value for key, value in found.items() if isinstance(value, str)}
            return plain, text[:place].rstrip(b", \n") + rest[end:].lstrip(", \n").encode()
    return {}, text


def _no_adapter(rest: bytes) -> Glance:
    try:
        kind = kind_of(dict.fromkeys(re.findall(r'"([^"\\]+)"\s*:\s*\{', rest.decode())))
    except ValueError:
        return Glance(problem="Its header is broken.")
    if kind.family:
        return Glance(BASE, FAMILIES[kind.family].title)
    return Glance(title=kind.title)


def _telling(rest: bytes) -> dict[str, TensorInfo]:
    """The first tensor of each kind that tells the base."""
    return dict(found for mark in _TELLING for found in _first(rest, mark.encode()))


def _first(rest: bytes, mark: bytes) -> Iterator[tuple[str, TensorInfo]]:
    """The first tensor whose name holds `mark`; none where there is none."""
    place = rest.find(mark)
    if place < 0:
        return
    begin, end = rest.rfind(b'"', 0, place) + 1, rest.find(b'"', place)
    entry = _ENTRY.match(rest, end)
    if entry is None:
        return
    try:
        content = json.loads(entry[1])
        shape = tuple(int(side) for side in content["shape"])
        yield rest[begin:end].decode(), TensorInfo(str(content["dtype"]), shape, (0, 0))
    except (ValueError, KeyError, TypeError):
        return


def _rank(metadata: Mapping[str, str], rest: bytes) -> int:
    said = metadata.get("ss_network_dim", "")
    if said.isdecimal() and int(said[:6]) > 0:
        return int(said[:6])
    found = ((info.shape, side) for end, side in _RANKS.items() for _, info in _first(rest, f'{end}"'.encode()))
    return next((shape[side] for shape, side in found if len(shape) > 1), 0)


def _beside(path: Path) -> dict[str, Any]:
    """The `.json` beside a file; {} where there is none that can be read."""
    try:
        if path.stat().st_size > MOST_BESIDE:
            return {}
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _words(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Trigger words as A1111 keeps them, else as Civitai tells them."""
    own = told.get("activation text")
    if isinstance(own, str) and own.strip():
        return (_short(own.strip().strip(",")),)
    words = told.get("trainedWords")
    return tuple(_short(word) for word in words if isinstance(word, str))[:24] if isinstance(words, list) else ()


def _number(value: object) -> float | None:
    """A strength; A1111 writes 0 for none."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):  # a number of hundreds of digits
        return None
    return number if number and abs(number) <= 100 else None


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_short(part.strip())[:60] for part in text.split(",") if part.strip()))[:12]


def _short(text: str) -> str:
    return text[:LONGEST].encode(errors="replace").decode()  # half a surrogate pair cannot be sent to a page
