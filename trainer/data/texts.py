"""The texts of a run: each is encoded once where the text encoder is frozen, and kept beside the latents."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.contract.config import RunConfig
from trainer.contract.latents import prune
from trainer.contract.rundir import RunDir
from trainer.data.cache import Cache
from trainer.data.store import Store, Tensors, key_of
from trainer.protocols import Family, Text

FORM = 1  # of an embedding's entry
ENCODED = 32  # texts that the encoder gets at a time
HELD = 256 * 2**20  # bytes of embeddings on the device, 800 short texts of SDXL; of more, a batch brings its own rows


@dataclass(frozen=True)
class Words:
    """The texts of a run.

    Attributes:
        prompts: of the samples.
        rows: text -> its row in the table; the empty one is always there.
        table: [N] embeddings on the device; None where they are in `host`, and where a text encoder is trained.
        tokens: [N, K, C, M] on the device; None where no text encoder is trained.
        host: [N] embeddings in host memory, of which a batch brings its rows along; None where there are few.
    """

    prompts: tuple[str, ...]
    rows: Mapping[str, int]
    table: Text | None
    tokens: Tensor | None
    host: Text | None = None


def read_texts(run: RunDir, store: Store, family: Family, config: RunConfig, cache: Cache) -> Words:
    """Gather every text of a run, and encode each once unless a text encoder is trained."""
    limit = config.dataset.caption_chunks
    for picture in cache.originals:
        if any(family.too_long(text, limit) for text in picture.texts):
            run.emit("notice", text=f"the caption of {picture.name} is cut after {75 * limit} tokens")
    texts = [*dict.fromkeys(text for picture in (*cache.pictures, *cache.held) for text in picture.texts if text), ""]
    tokens = family.tokenize(texts, limit)
    prompts = config.sampling.prompts or cache.prompts
    rows = {text: row for row, text in enumerate(texts)}
    if config.adapter.text_encoder:
        return Words(prompts, rows, None, tokens.to(family.engine.device))
    table = encode_all(family, tokens, store)
    prune(store.shelf)
    run.emit("cache", what="texts", reused=store.reused, made=store.made, damaged=store.damaged)
    if table.hidden.nbytes + table.pooled.nbytes > HELD:
        return Words(prompts, rows, None, None, table)
    return Words(prompts, rows, Text(*(part.to(family.engine.device) for part in table)), None)


@torch.no_grad()
def encode_now(family: Family, tokens: Tensor) -> Text:
    """[N, K, C, M] token ids -> N embeddings on the device, as a trained text encoder is at this moment."""
    return Text.join([family.encode_tokens(part) for part in tokens.split(_together(family))])


def _together(family: Family) -> int:
    """Texts that the encoder gets at a time. Together they come out with other last bits than alone."""
    return 1 if family.engine.device.type == "cpu" or family.engine.deterministic else ENCODED


@torch.no_grad()
def encode_all(family: Family, tokens: Tensor, store: Store) -> Text:
    """[N, K, C, M] token ids -> N embeddings on the CPU, a few at a time; what the store has is not made again."""
    identity = [family.identity(part) for part in family.encoders]
    keys = [key_of("text", FORM, identity, row.tolist()) for row in tokens]
    found: dict[str, Tensors] = {key: kept for key in keys if (kept := store.get(key)) is not None}
    missing = [row for row, key in enumerate(keys) if key not in found]
    size = _together(family)  # not all that are missing: it would count what was there before
    for first in range(0, len(missing), size):
        chosen = missing[first : first + size]
        made = family.encode_tokens(tokens[chosen])
        for place, row in enumerate(chosen):
            found[keys[row]] = {"hidden": made.hidden[place].cpu(), "pooled": made.pooled[place].cpu()}
            store.put(keys[row], found[keys[row]])
    parts = ([found[key][name] for key in keys] for name in ("hidden", "pooled"))
    return Text(*(torch.stack(list(part)) for part in parts))
