"""Pictures of noise with captions, and a tokenizer for them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.formats.vocabulary import END, SPECIAL, START, byte_alphabet


def make_tokenizer(folder: Path, pad: str = END) -> None:
    """A CLIP tokenizer of the real size that knows single bytes only; the rest of the vocabulary is filler."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = byte_alphabet()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"filler{index}" for index in range(49406 - len(tokens))] + [START, END]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **SPECIAL, "pad_token": pad}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_pictures(folder: Path, count: int, sides: list[tuple[int, int]]) -> Path:
    """Write noise pictures with captions, of these sizes in turn."""
    if len(list(folder.glob("*.txt"))) == count:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize(sides[index % len(sides)], Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a picture number {index}")
    return folder
