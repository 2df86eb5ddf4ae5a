"""Tokenizer folders of CLIP's full vocabulary, as the models on the Hub have them."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from trainer.formats.vocabulary import END, SPECIAL, START, byte_alphabet


def write_tokenizer(folder: Path, **files: Any) -> Path:
    """Write `vocab.json`, `merges.txt`, and JSON files by their stems."""
    merges = (resources.files("presets") / "checkpoints" / "merges.txt").read_text("utf-8")
    letters = byte_alphabet()
    joined = [line.replace(" ", "") for line in merges.splitlines()[1:]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *joined, START, END]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: code for code, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text(merges)
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **SPECIAL}
    for stem, content in {"tokenizer_config": config, **files}.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder
