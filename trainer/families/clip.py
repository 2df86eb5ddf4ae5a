"""Texts through CLIP text encoders: chunks for long captions, and which layer is read.

Shapes: B texts, K encoders, N chunks, M tokens of a chunk (77), D width of an encoder, P width of its pooled text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer


@dataclass(frozen=True)
class Reading:
    """Which answer of a text encoder the UNet was trained on.

    Attributes:
        skip: layer counted from the end; 1 is the last ("clip skip" of the clients).
        normed: whether the encoder's final norm follows.
    """

    skip: int
    normed: bool


def tokenize(tokenizers: Sequence[CLIPTokenizer], texts: Sequence[str], limit: int, least: int = 1) -> Tensor:
    """Texts -> [B, K, N, M] token ids.

    Every chunk has its own start and end mark, as A1111 and ComfyUI feed long prompts at inference; all texts get as
    many chunks as the longest needs, at least `least` and at most `limit`, and what does not fit is cut off.
    """
    written = [[_ids(tokenizer, text) for text in texts] for tokenizer in tokenizers]
    room = tokenizers[0].model_max_length - 2
    longest = max(len(ids) for ids in written[0])
    chunks = min(limit, max(least, -(-longest // room)))
    pairs = zip(tokenizers, written, strict=True)
    rows = [[_chunked(tokenizer, ids, chunks) for ids in own] for tokenizer, own in pairs]
    return torch.tensor(rows).transpose(0, 1).contiguous()


def too_long(tokenizer: CLIPTokenizer, text: str, limit: int) -> bool:
    """Whether a text does not fit into `limit` chunks."""
    return len(_ids(tokenizer, text)) > limit * (tokenizer.model_max_length - 2)


def encode(encoder: nn.Module, tokens: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Read one encoder.

    Args:
        encoder: a CLIP text model of transformers.
        tokens: [B, N, M] on the encoder's device.
        reading: which layer.

    Returns:
        [B, N x M, D] hidden states, chunk after chunk, and [B, P] pooled text of the first chunk (P = 0 for an encoder
        without a projection).
    """
    said = encoder(tokens.flatten(0, 1), output_hidden_states=reading != Reading(1, normed=True))
    hidden = said.last_hidden_state
    if reading != Reading(1, normed=True):
        hidden = said.hidden_states[-reading.skip]
        hidden = getattr(encoder, "text_model", encoder).final_layer_norm(hidden) if reading.normed else hidden
    batch, chunks, _ = tokens.shape
    pooled = getattr(said, "text_embeds", None)
    first = hidden.new_zeros(batch, 0) if pooled is None else pooled.view(batch, chunks, -1)[:, 0]
    return hidden.reshape(batch, -1, hidden.shape[-1]), first


def _ids(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return ids


def _chunked(tokenizer: CLIPTokenizer, ids: list[int], chunks: int) -> list[list[int]]:
    start, end, fill, size = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.model_max_length,
    )
    rows = []
    for index in range(chunks):
        part = [start, *ids[index * (size - 2) : (index + 1) * (size - 2)], end]
        rows.append(part + [fill] * (size - len(part)))
    return rows
