"""Texts through CLIP text encoders: chunks for long captions, and which layer is read.

Shapes: B texts, K encoders, N chunks, M tokens of a chunk (77), D width of an encoder, P width of its pooled text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.families.text_encoder import TextEncoder
from trainer.formats.vocabulary import Tokenizer

LEAST_MEAN = 1e-4  # of the standard deviation: a mean nearer to 0 is rounding, and a ratio of two such is anything


@dataclass(frozen=True)
class Reading:
    """Which answer of a text encoder the UNet was trained on.

    Attributes:
        skip: layer counted from the end; 1 is the last ("clip skip" of the clients).
        normed: whether the encoder's final norm follows.
    """

    skip: int
    normed: bool


def tokenize(tokenizers: Sequence[Tokenizer], texts: Sequence[str], limit: int, least: int = 1) -> Tensor:
    """Texts -> [B, K, N, M] token ids.

    Every chunk has its own start and end mark, as A1111 and ComfyUI feed long prompts at inference; all texts get as
    many chunks as the longest needs, at least `least` and at most `limit`, and what does not fit is cut off.
    """
    written = [[tokenizer.ids(text) for text in texts] for tokenizer in tokenizers]
    room = tokenizers[0].room
    longest = max(len(ids) for ids in written[0])
    chunks = min(limit, max(least, -(-longest // room)))
    pairs = zip(tokenizers, written, strict=True)
    rows = [[_chunked(tokenizer, ids, chunks) for ids in own] for tokenizer, own in pairs]
    return torch.tensor(rows).transpose(0, 1).contiguous()


def too_long(tokenizer: Tokenizer, text: str, limit: int) -> bool:
    """Whether a text does not fit into `limit` chunks."""
    return len(tokenizer.ids(text)) > limit * tokenizer.room


def encode(
    encoder: TextEncoder, tokens: Tensor, reading: Reading, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Read one encoder.

    Args:
        encoder: a CLIP text model.
        tokens: [B, N, M] on the encoder's device.
        reading: which layer.
        weights: [B, N, M], how much each token counts, see `emphasised`; None for all alike.

    Returns:
        [B, N x M, D] hidden states, chunk after chunk, and [B, P] pooled text of the first chunk (P = 0 for an encoder
        without a projection).
    """
    batch, chunks, _ = tokens.shape
    hidden, pooled = encoder(tokens.flatten(0, 1), reading.skip)
    if reading.normed:
        hidden = encoder.final_layer_norm(hidden)
    if weights is not None:
        hidden = emphasised(hidden, weights.flatten(0, 1))
    return hidden.reshape(batch, -1, hidden.shape[-1]), pooled.view(batch, chunks, -1)[:, 0]


def emphasised(hidden: Tensor, weights: Tensor) -> Tensor:
    """Multiply what is said of each token, and keep the mean over a chunk, as A1111's "Original" emphasis does.

    Args:
        hidden: [B, M, D].
        weights: [B, M]; a text whose weights are all 1 comes out as it is, bit for bit.
    """
    louder = hidden.float() * weights.to(hidden.device)[..., None]
    before, after = (said.mean((1, 2), keepdim=True) for said in (hidden.float(), louder))
    least = LEAST_MEAN * hidden.float().std((1, 2), keepdim=True)
    kept = torch.where(torch.minimum(before.abs(), after.abs()) > least, before / after, 1.0)
    plain = (weights == 1).all(1).to(hidden.device)[:, None, None]
    return torch.where(plain, hidden, (louder * kept).to(hidden.dtype))


def _chunked(tokenizer: Tokenizer, ids: list[int], chunks: int) -> list[list[int]]:
    room, rows = tokenizer.room, []
    for index in range(chunks):
        part = [tokenizer.start, *ids[index * room : (index + 1) * room], tokenizer.end]
        rows.append(part + [tokenizer.pad] * (room + 2 - len(part)))
    return rows
