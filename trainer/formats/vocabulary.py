"""CLIP's tokenizers: those of a folder, and CLIP's own, which single-file checkpoints need and do not carry."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

VOCABULARY = 49408  # tokens: 256 bytes, the same as ends of words, 48 894 merges, start and end of text
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
SPECIAL = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}

# What is encoded together: a contraction's end, letters, one digit, or other marks (CLIP's simple_tokenizer.py).
_WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokenizer:
    """Texts to numbers of tokens.

    Attributes:
        model: byte-level pair encoding whose words end in `</w>`.
        start, end, pad: tokens around a chunk and behind it.
        room: tokens of a chunk between start and end.
    """

    model: tokenizers.Tokenizer
    start: int
    end: int
    pad: int
    room: int = LENGTH - 2

    def ids(self, text: str) -> list[int]:
        """Numbers of a text's tokens, without start and end."""
        found: list[int] = self.model.encode(text, add_special_tokens=False).ids
        return found

    def __len__(self) -> int:
        return int(self.model.get_vocab_size())


def clip_tokenizer(pad: str = END) -> Tokenizer:
    """CLIP's tokenizer, 49 408 tokens, 77 at a time.

    Args:
        pad: the token that fills up. OpenCLIP's models were trained with token 0, `!`, which stays a mark like others
            in a prompt.
    """
    written = (resources.files("presets") / "checkpoints" / "merges.txt").read_text("utf-8")
    merges, alphabet = _pairs(written.splitlines()), byte_alphabet()
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *map("".join, merges), START, END]
    model = _model({token: code for code, token in enumerate(tokens)}, merges)
    model.add_special_tokens([START, END])
    return Tokenizer(model, *(_number(model, token) for token in (START, END, pad)))


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer folder, as any version of transformers writes it.

    Raises:
        OSError, ValueError, KeyError: it is not whole, or no CLIP tokenizer.
    """
    config, whole = _json(folder / "tokenizer_config.json"), _json(folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() or not whole:
        vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        merges = _pairs((folder / "merges.txt").read_text("utf-8").splitlines())
    else:
        vocabulary, merges = whole["model"]["vocab"], _pairs(whole["model"]["merges"])
    if "added_tokens_decoder" not in config:
        config |= _json(folder / "special_tokens_map.json")
    special = {role: _token(config.get(role) or usual) for role, usual in SPECIAL.items()}
    model = _model(vocabulary, merges)
    added = _added(folder, config, whole)
    known = {token.content for token in added}
    model.add_tokens(added)
    model.add_special_tokens([token for token in dict.fromkeys(special.values()) if token.content not in known])
    start, end, pad = (_number(model, special[role].content) for role in ("bos_token", "eos_token", "pad_token"))
    return Tokenizer(model, start, end, pad, min(config.get("model_max_length") or LENGTH, LENGTH) - 2)


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in CLIP's vocabulary, printable ones for themselves, in its order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in shown] + [chr(256 + index) for index in range(256 - len(shown))]


def _model(vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    for pair in merges:  # the library's own error for this is of no kind
        if not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ValueError(f"the merge '{' '.join(pair)}' is not in the vocabulary")
    model = tokenizers.Tokenizer(models.BPE(dict(vocabulary), merges, end_of_word_suffix="</w>", unk_token=END))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    model.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    model.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return model


def _number(model: tokenizers.Tokenizer, token: str) -> int:
    found = model.token_to_id(token)
    if found is None:
        raise ValueError(f"the token {token} is not in the vocabulary")
    return found


def _pairs(lines: Iterable[Any]) -> list[tuple[str, str]]:
    """Merges from the lines of `merges.txt`, or from `tokenizer.json`, which has lines or pairs."""
    split = [line.split() if isinstance(line, str) else line for line in lines]
    return [(pair[0], pair[1]) for pair in split if len(pair) == 2 and pair[0] != "#version:"]


def _added(folder: Path, config: Mapping[str, Any], whole: Mapping[str, Any]) -> list[AddedToken]:
    """Tokens beyond the vocabulary, such as those of textual inversions, by their numbers."""
    listed = {int(code): said for code, said in config.get("added_tokens_decoder", {}).items()}
    if not listed:
        added = _json(folder / "added_tokens.json")
        listed = {code: {"content": name, "normalized": True} for name, code in added.items()}
        listed |= {said["id"]: said for said in whole.get("added_tokens", ())}
    return [_token(said) for _, said in sorted(listed.items())]


def _token(said: Any) -> AddedToken:
    """A token that is found before a text is split, from its name or from what transformers writes of it."""
    if isinstance(said, str):
        return AddedToken(said, normalized=False, special=True)
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(said["content"], **{flag: said[flag] for flag in flags if flag in said})


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
