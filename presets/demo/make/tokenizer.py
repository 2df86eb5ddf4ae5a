"""A CLIP tokenizer trained on our captions: byte-level BPE whose words end in `</w>`.

Sennrich et al., 2016, https://arxiv.org/abs/1508.07909; Radford et al., 2021, https://arxiv.org/abs/2103.00020.

Ids are laid out as in CLIP: 256 bytes, 256 bytes that end a word, one token a merge, then the two special tokens.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from trainer.formats.vocabulary import END, LENGTH, SPECIAL, START, byte_alphabet

VOCAB_SIZE = 2048


def merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The word with every occurrence of the pair joined, left to right.

    >>> merged(("c", "a", "c", "a"), ("c", "a"))
    ('ca', 'ca')
    """
    out: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def learn_merges(captions: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The `count` most frequent pairs, one after another; ties go to the pair that sorts first, so that a rerun agrees.

    A word counts by the logarithm of how often it comes: colour words must not crowd out rare names.
    """
    seen = Counter(word for caption in captions for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", caption.lower()))
    words = {(*word[:-1], word[-1] + "</w>"): times.bit_length() for word, times in seen.items() if word.isascii()}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {merged(word, best): times for word, times in words.items()}
    return merges


def write(folder: Path, captions: Iterable[str]) -> None:
    """Train on the captions and write a tokenizer folder that transformers 4 and 5 read the same way."""
    alphabet = byte_alphabet()
    merges = learn_merges(captions, VOCAB_SIZE - 2 * len(alphabet) - 2)
    tokens = [*alphabet, *(char + "</w>" for char in alphabet), *(a + b for a, b in merges), START, END]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "errors": "replace",
        **SPECIAL,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), "utf-8"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL, indent=2) + "\n", "utf-8")
