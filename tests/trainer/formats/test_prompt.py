"""Prompts are read as A1111 documents them: weights, breaks, chunks, adapters' tags."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.formats.parameters import LoraUse
from trainer.formats.prompt import BREAK, Part, chunked, take_tags, unread, weighted
from trainer.formats.vocabulary import clip_tokenizer

CASES = {  # the first eleven are A1111's own, from the documentation of its parser
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [("", 1.0)],
    "((word))": [("word", 1.21)],
    "[word]": [("word", 1 / 1.1)],
    "[[word]]": [("word", 1 / 1.21)],
    "(word:1.2)": [("word", 1.2)],
    "(word: -0.5 )": [("word", -0.5)],
    "(a:b:1.5)": [("a:b", 1.5)],
    "a:1.5)": [("a:1.5)", 1.0)],
    "closed) twice]": [("closed) twice]", 1.0)],
    "([both:2)]": [("both", 2 / 1.1)],
    "one BREAK two": [("one", 1.0), None, ("two", 1.0)],
    "BREAKFAST": [("BREAKFAST", 1.0)],
    "(one BREAK two:1.4) three": [("one", 1.4), None, ("two", 1.4), (" three", 1.0)],
    r"a \\ b \ c": [("a \\ b  c", 1.0)],
}


@pytest.mark.parametrize("prompt", CASES, ids=repr)
def test_weights_are_read_as_in_a1111(prompt):
    wanted = [BREAK if case is None else Part(*case) for case in CASES[prompt]]
    read = weighted(prompt)
    assert [part.text for part in read] == [part.text for part in wanted]
    assert [part.weight for part in read] == [
        None if part.weight is None else pytest.approx(part.weight) for part in wanted
    ]


@given(st.text(string.ascii_letters + " ,.", max_size=40), st.text("ab()[]:\\1. BREAK", max_size=40))
def test_plain_words_stay_and_nothing_ends_in_an_error(plain, wild):
    if "BREAK" not in plain:
        assert weighted(plain) == [Part(plain)]
    assert weighted(wild)


@pytest.mark.parametrize(
    ("prompt", "left", "uses"),
    [
        ("a cat <lora:ink:0.8>", "a cat ", (LoraUse("ink", 0.8),)),
        ("<lora:ink>a<lora:x-1.5:-1>", "a", (LoraUse("ink", 1.0), LoraUse("x-1.5", -1.0))),
        ("<lora:ink:0.5:1>", "", (LoraUse("ink", 0.5, unet=1.0),)),
        ("<lora:ink:te=0:unet=.7>", "", (LoraUse("ink", 0.0, unet=0.7),)),
        ("<lora:ink:1:1:16>", "", (LoraUse("ink", 1.0),)),
        ("<lora:ink:strong>", "", (LoraUse("ink", 1.0),)),
        ("a < b > c <hypernet:x:1>", "a < b > c <hypernet:x:1>", ()),
    ],
)
def test_tags_are_taken_out(prompt, left, uses):
    assert take_tags(prompt) == (left, uses)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a [cat:dog:0.5]", "[cat:dog:0.5]"),
        ("a [cat|dog]", "[cat|"),
        ("a cat AND a dog", "AND"),
        ("a [cat], (dog:1.2) and \\[x|y\\]", ""),
    ],
)
def test_what_is_not_read_is_named(prompt, found):
    assert unread(prompt) == found


WORDS = clip_tokenizer()


def lengths(prompt: str) -> list[int]:
    """Words in each chunk."""
    return [chunk.tokens.index(WORDS.end) - 1 for chunk in chunked(WORDS, weighted(prompt))]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("", [0]),
        ("cat " * 75, [75]),
        ("cat " * 76, [75, 1]),
        ("cat BREAK dog", [1, 1]),
        ("cat BREAK", [1]),
        ("BREAK cat", [0, 1]),
        ("cat " * 55 + ", " + "dog " * 25, [56, 25]),  # the comma is the 20th last of a full chunk
        ("cat " * 54 + ", " + "dog " * 25, [75, 5]),  # one further back, and it is let be
        ("cat " * 74 + ", dog", [75, 1]),
        ("cat " * 75 + ", dog", [75, 2]),
    ],
)
def test_long_prompts_are_cut_where_a1111_cuts_them(prompt, wanted):
    assert lengths(prompt) == wanted


def test_chunks_carry_their_weights_and_are_filled_up():
    first, second = chunked(clip_tokenizer("!"), weighted("a (red cat:1.5) BREAK [dog]"))
    assert first.weights == (1.0, 1.0, 1.5, 1.5, *[1.0] * 73)
    assert second.weights[1] == pytest.approx(1 / 1.1) and set(second.weights[2:]) == {1.0}
    assert len(first.tokens) == len(first.weights) == 77
    assert first.tokens[4] == WORDS.end and set(first.tokens[5:]) == {0}, "OpenCLIP's are filled with zeros"
