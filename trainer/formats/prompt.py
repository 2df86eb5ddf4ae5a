"""Prompts as AUTOMATIC1111 reads them (version 1.10): weights of words, breaks, chunks of 75 tokens, adapters' tags.

    (word)        x 1.1, nested brackets multiply
    [word]        x 1 / 1.1
    (word:1.3)    x 1.3
    \\( \\) \\[ \\]   the brackets themselves
    BREAK         begins a new chunk
    <lora:NAME:STRENGTH>, <lora:NAME:TEXT_ENCODER:UNET>, <lora:NAME:te=0.5:unet=1>

Not read are prompts that change while drawing, `[a:b:0.5]`, `[a|b]`, and `AND`: see `unread`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trainer.formats.parameters import LoraUse

CHUNK_BACK = 20  # tokens: where a chunk is full, it ends behind a comma that is not further back
_TOKENS = re.compile(
    r"(?P<escaped>\\[()\[\]\\])|\\|(?P<open>[(\[])|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|(?P<close>[)\]])|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_TAG = re.compile(r"<(?:lora|lyco):([^>]+)>")
_CHANGING = re.compile(r"(?<!\\)\[[^\[\]]*(?:\||:[^\[\]]*:\s*[\d.]+\s*(?<!\\)\])")
FACTORS = {"(": 1.1, "[": 1 / 1.1}
CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True)
class Part:
    """A piece of a prompt.

    Attributes:
        text: its words; "" for a break.
        weight: factor on what the text encoder says of it; None for a break.
    """

    text: str
    weight: float | None = 1.0


BREAK = Part("", None)


@dataclass(frozen=True)
class Chunk:
    """What a text encoder is given at once: `room` + 2 numbers and factors, start and end among them."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


class Words(Protocol):
    """A tokenizer, see `trainer.formats.vocabulary.Tokenizer`."""

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def pad(self) -> int: ...  # noqa: D102
    @property
    def room(self) -> int: ...  # noqa: D102
    def ids(self, text: str) -> list[int]: ...  # noqa: D102


def take_tags(prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
    """Split a prompt into what is drawn, and the adapters that it names.

    A tag without a number, or with something else in its place, has strength 1.
    """
    return _TAG.sub("", prompt), tuple(_use(found) for found in _TAG.findall(prompt))


def _use(inside: str) -> LoraUse:
    name, *rest = inside.split(":")
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    first = _number(named.get("te", plain[0] if plain else ""), 1.0)
    second = _number(named.get("unet", plain[1] if len(plain) > 1 else ""), first)
    return LoraUse(name.strip(), first, unet=None if second == first else second)


def _number(text: str, otherwise: float) -> float:
    return float(text) if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*", text) else otherwise


def unread(prompt: str) -> str:
    """Return what of a prompt A1111 would read as a change while drawing, or as two prompts; "" for nothing."""
    found = _CHANGING.search(prompt) or re.search(r"\bAND\b", prompt)
    return found[0] if found else ""


def weighted(prompt: str) -> list[Part]:
    """Read a prompt's weights and breaks; neighbours of one weight are joined.

    A break within brackets is one; A1111 takes it for a word.
    """
    parts: list[Part] = []
    opened: list[tuple[str, int]] = []  # (bracket, parts before it)
    for token in _TOKENS.finditer(prompt):
        text = token[0]
        innermost = _last(opened, "(" if token["weight"] else CLOSES.get(token["close"] or "", ""))
        if token["open"]:
            opened.append((text, len(parts)))
        elif innermost is not None:
            bracket, first = opened.pop(innermost)
            _multiply(parts, first, _decimal(token["weight"]) if token["weight"] else FACTORS[bracket])
        elif text.startswith("\\"):
            parts.append(Part(text[1:]))
        else:
            first_piece, *pieces = _BREAK.split(text)
            parts.append(Part(first_piece))
            for piece in pieces:
                parts += (BREAK, Part(piece))
    for bracket, first in opened:  # never closed
        _multiply(parts, first, FACTORS[bracket])
    return _joined(parts)


def _last(opened: Sequence[tuple[str, int]], bracket: str) -> int | None:
    """Place of the newest open bracket of this kind: each kind closes its own, whatever stands between."""
    return next((at for at in range(len(opened) - 1, -1, -1) if opened[at][0] == bracket), None)


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "1.2.3"
        return 1.0


def _multiply(parts: list[Part], first: int, factor: float) -> None:
    for at in range(first, len(parts)):
        part = parts[at]
        parts[at] = part if part.weight is None else Part(part.text, part.weight * factor)


def _joined(parts: Iterable[Part]) -> list[Part]:
    found: list[Part] = []
    for part in parts:
        if part.weight is None:
            found.append(part)
        elif found and found[-1].weight == part.weight:
            found[-1] = Part(found[-1].text + part.text, part.weight)
        elif part.text:
            found.append(part)
    return found or [Part("")]


def chunked(tokenizer: Words, parts: Iterable[Part]) -> list[Chunk]:
    """Cut a prompt into chunks of `room` tokens, at least one.

    A full chunk ends behind its last comma where that is at most 20 tokens back; a break ends one early.
    """
    comma = tokenizer.ids(",")[:1]
    chunks: list[Chunk] = []
    held: list[tuple[int, float]] = []
    behind_comma = 0  # tokens up to the last comma of the chunk, it with them; 0 for none

    def close(kept: int) -> None:
        nonlocal held, behind_comma
        chunks.append(_filled(tokenizer, held[:kept]))
        held, behind_comma = held[kept:], 0

    for part in parts:
        if part.weight is None:
            close(len(held))
            continue
        for token in tokenizer.ids(part.text):
            is_comma = [token] == comma
            if len(held) == tokenizer.room:
                back = behind_comma and not is_comma and len(held) - behind_comma < CHUNK_BACK
                close(behind_comma if back else len(held))
            held.append((token, part.weight))
            behind_comma = len(held) if is_comma else behind_comma
    if held or not chunks:
        close(len(held))
    return chunks


def _filled(tokenizer: Words, held: Sequence[tuple[int, float]]) -> Chunk:
    empty = tokenizer.room - len(held)
    tokens = (tokenizer.start, *(token for token, _ in held), tokenizer.end, *[tokenizer.pad] * empty)
    return Chunk(tokens, (1.0, *(weight for _, weight in held), 1.0, *[1.0] * empty))
