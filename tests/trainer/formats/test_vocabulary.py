"""Every text gets the numbers that transformers gives it, whatever form the tokenizer is written in."""

import json
import random

import pytest
from transformers import CLIPTokenizer

from tests.tiny import make_tokenizer
from tests.trainer.families.full_tokenizer import write_tokenizer
from trainer.formats.vocabulary import END, SPECIAL, START, clip_tokenizer, read_tokenizer

PLAIN = [
    "a photo of a cat",
    "wow! it's 25 o'clock...  \n\tNice",
    "CAFÉ naïve 日本語 😀 e\u0301 ﬀ ǅ İstanbul ß",
    "<|endoftext|> in <|startoftext|>x",
    "A<|EndOfText|>b",
    "!!! a!b !",
    "don't we'll I'VE",
    "  ",
    "",
    "\u2028 x\x85y \xa0z",
    "<cat-toy> in a <CAT-TOY> park",
    "x" * 300,
]


def texts():
    draw = random.Random(0)
    ends = (127, 0x250, 0xD000)
    return PLAIN + ["".join(chr(draw.randrange(32, draw.choice(ends))) for _ in range(20)) for _ in range(200)]


def token(name, **more):
    return {"content": name, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **more}


MAP = {"bos_token": token(START), "eos_token": token(END), "pad_token": END, "unk_token": token(END)}
CONFIG = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
LISTED = {"0": token("!", normalized=False, special=True), "49406": token(START, special=True)}


def saved_by_transformers(folder):
    tokenizer = CLIPTokenizer.from_pretrained(write_tokenizer(folder / "plain"))
    tokenizer.add_tokens(["<cat-toy>"])
    tokenizer.save_pretrained(folder / "saved")
    assert not (folder / "saved" / "vocab.json").exists()
    return folder / "saved"


def tiny(folder):
    make_tokenizer(folder / "tiny", padding="!")
    return folder / "tiny"


FORMS = {
    "names in the config": lambda folder: write_tokenizer(folder / "x"),
    "a map beside it, as SD 1.5": lambda folder: write_tokenizer(
        folder / "x", tokenizer_config=CONFIG, special_tokens_map=MAP
    ),
    "tokens in the config, as SDXL's second": lambda folder: write_tokenizer(
        folder / "x",
        tokenizer_config={
            **CONFIG, **SPECIAL, "pad_token": "!",
            "added_tokens_decoder": {**LISTED, "49407": token(END, special=True)},
        },
        special_tokens_map={**MAP, "pad_token": "!"},
    ),
    "words of textual inversions": lambda folder: write_tokenizer(
        folder / "x", special_tokens_map=MAP, added_tokens={"<cat-toy>": 49408, "<dog>": 49409}
    ),
    "tokenizer.json alone": saved_by_transformers,
    "bytes only": tiny,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_those_of_transformers(form, tmp_path):
    folder = FORMS[form](tmp_path)
    mine, theirs = read_tokenizer(folder), CLIPTokenizer.from_pretrained(folder)
    for text in texts():
        assert mine.ids(text) == theirs(text, add_special_tokens=False).input_ids, text
    assert (mine.start, mine.end, mine.pad) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert (mine.room, len(mine)) == (theirs.model_max_length - 2, len(theirs))


def test_clips_own_is_the_one_that_its_files_give(tmp_path):
    mine, theirs = clip_tokenizer(), read_tokenizer(write_tokenizer(tmp_path / "x"))
    assert all(mine.ids(text) == theirs.ids(text) for text in texts())
    assert (mine.start, mine.end, mine.pad, len(mine)) == (theirs.start, theirs.end, theirs.pad, len(theirs))


@pytest.mark.parametrize("said", [1e30, None])
def test_a_length_that_the_text_encoder_has_not_is_cut_to_clips(tmp_path, said):
    assert read_tokenizer(write_tokenizer(tmp_path / "x", tokenizer_config={"model_max_length": said})).room == 75


def test_a_broken_tokenizer_says_what_is_wrong(tmp_path):
    folder = write_tokenizer(tmp_path / "x")
    words = json.loads((folder / "vocab.json").read_text())
    words.pop("cat</w>")
    (folder / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match="the merge 'c at</w>' is not in the vocabulary"):
        read_tokenizer(folder)
    (folder / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError):
        read_tokenizer(folder)
