"""The tokenizers of single-file checkpoints, which carry none: CLIP's own travels with the program."""

import json
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import CLIPTokenizer

from trainer.contract.errors import UserError
from trainer.families.source import first_line

VOCABULARY = 49408  # tokens: 256 bytes, the same as ends of words, 48 894 merges, start and end of text
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77


def clip_tokenizer(pad: str | None = None) -> CLIPTokenizer:
    """CLIP's tokenizer, 49 408 tokens, 77 at a time.

    Args:
        pad: the token that fills up; the end token by default. OpenCLIP's models were trained with token 0, `!`.
    """
    merges = (resources.files("presets") / "checkpoints" / "merges.txt").read_text("utf-8")
    alphabet = _byte_alphabet()
    joined = [line.replace(" ", "") for line in merges.splitlines()[1:]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *joined, START, END]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    # A folder is what every version of transformers reads alike: in 5, CLIPTokenizer(vocab_file=...) knows no word.
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "vocab.json").write_text(json.dumps({token: code for code, token in enumerate(tokens)}), "utf-8")
        (folder / "merges.txt").write_text(merges, "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH, **special}), "utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    if pad is not None:
        # Set afterwards: as a special token from the start it would be cut out of prompts, where `!` is another token.
        tokenizer.pad_token = pad
    return tokenizer


def read_tokenizer(folder: Path, size: int) -> CLIPTokenizer:
    """Read the tokenizer of a text encoder with `size` tokens.

    Raises:
        UserError: it is missing, broken or of another size.
    """
    fix = f"Put the folder '{folder.name}' of the model (vocab.json, merges.txt) beside the checkpoint."
    if not folder.is_dir():
        problem = f"the text encoder has {size} tokens, not CLIP's {VOCABULARY}, and its tokenizer is not there"
        raise UserError(problem, str(folder), fix)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the tokenizer cannot be read: {first_line(error)}", str(folder), fix) from error
    if len(tokenizer) > size:
        problem = f"the tokenizer has {len(tokenizer)} tokens and the text encoder {size}: they do not belong together"
        raise UserError(problem, str(folder), fix)
    return tokenizer


def _byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in CLIP's vocabulary, printable ones for themselves, in its order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in shown] + [chr(256 + index) for index in range(256 - len(shown))]
