"""Prompts as people write them, to what a UNet is told: the preview and a run's samples read them alike.

Shapes as in `trainer.protocols`.
"""

import math
from collections.abc import Sequence

import torch

from trainer.contract.errors import UserError
from trainer.formats.prompt import chunked, weighted
from trainer.protocols import Family, Text

CHUNKS = 16  # of 75 tokens, for the longest prompt
TOKENS = 77  # of a chunk, its marks with them


@torch.no_grad()
def encode_prompt(family: Family, prompt: str, cut: bool = False) -> Text:
    """What the UNet is told for a prompt with A1111's weights and breaks: [1, L, D], [1, P].

    Args:
        family: encodes.
        prompt: without tags.
        cut: leave out what is too long.

    Raises:
        UserError: it is too long.
    """
    parts = weighted(prompt)
    read = [chunked(tokenizer, parts) for tokenizer in family.tokenizers]
    if len(read[0]) > CHUNKS and not cut:
        problem = f"the prompt has {len(read[0])} chunks of 75 tokens"
        raise UserError(problem, "prompt", f"Write at most {CHUNKS * 75} tokens; a word is one or two.")
    tokens = torch.tensor([[[chunk.tokens for chunk in own[:CHUNKS]] for own in read]])
    weights = torch.tensor([[[chunk.weights for chunk in own[:CHUNKS]] for own in read]])
    return family.encode_tokens(tokens, None if bool((weights == 1).all()) else weights)


def chunks_of(text: Text) -> int:
    """Chunks of a text."""
    return text.hidden.shape[1] // TOKENS


def together(texts: Sequence[Text]) -> int:
    """Chunks that these texts are brought to, to stand in one batch."""
    return math.lcm(*map(chunks_of, texts))


def level(texts: Sequence[tuple[Text, Text]]) -> tuple[Text, Text]:
    """(negative, positive) of several pictures -> the same as two batches of one length.

    A shorter text is repeated: an attention that sees every key several times answers as if it saw it once. So each is
    read at its own length, as A1111 reads it.
    """
    chunks = together([one for pair in texts for one in pair])
    long = [[_repeated(one, chunks // chunks_of(one)) for one in pair] for pair in texts]
    negative, positive = (Text.join(side) for side in zip(*long, strict=True))
    return negative, positive


def _repeated(text: Text, times: int) -> Text:
    return text if times == 1 else Text(text.hidden.repeat(1, times, 1), text.pooled)
