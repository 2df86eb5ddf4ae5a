"""Captions beside pictures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.pictures.captions import caption_file, decode_captions, fold, with_trigger

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)


def test_txt_comes_before_caption(tmp_path):
    picture = tmp_path / "a.b.png"
    assert caption_file(picture) is None
    (tmp_path / "a.b.caption").write_text("second")
    assert caption_file(picture) == tmp_path / "a.b.caption"
    (tmp_path / "a.b.txt").write_text("")  # emptied on purpose
    assert caption_file(picture) == tmp_path / "a.b.txt"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_that_windows_writes(encoding):
    assert decode_captions(" café,\t naïve  \r\n\r\nzweite".encode(encoding)) == ("café, naïve", "zweite")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_lines(data):
    for text in decode_captions(data):
        assert text and text == fold(text)
        assert "\0" not in text


def test_every_line_is_a_caption():
    assert decode_captions(b"one\n\n two  words \n") == ("one", "two words")


@given(TEXT)
def test_what_is_written_is_read(text):
    assert decode_captions((fold(text) + "\n").encode()) == tuple(filter(None, [fold(text)]))


@pytest.mark.parametrize(
    ("caption", "trigger", "wanted"),
    [
        ("", "ohwx", "ohwx"),
        ("a dog", "", "a dog"),
        ("a dog", "ohwx dog", "ohwx dog, a dog"),
        ("photo of OHWX  dog running", "ohwx dog", "photo of OHWX dog running"),
        ("a catalogue", "cat", "cat, a catalogue"),
        ("a (cat)", "cat", "a (cat)"),
        ("smile :d, a", ":d", "smile :d, a"),
        ("c+++ code", "c++", "c+++ code"),
    ],
)
def test_trigger_comes_first_unless_it_is_there(caption, trigger, wanted):
    assert with_trigger(caption, trigger) == wanted


@given(TEXT, TEXT)
def test_adding_a_trigger_twice_is_adding_it_once(caption, trigger):
    once = with_trigger(caption, trigger)
    assert with_trigger(once, trigger) == once
    assert fold(trigger).casefold() in once.casefold()


def test_other_separators_stand_inside_a_caption():
    assert decode_captions("one\u2028still\x0cone\rtwo\r\nthree\n".encode()) == ("one still one", "two", "three")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("日本語のキャプション".encode("cp932"), "日本語のキャプション"),
        ("naïve café, „ƒ“".encode("cp1252"), "naïve café, „ƒ“"),
        ("hello".encode("utf-32"), "hello"),
        (b"a\0b", "a b"),
    ],
)
def test_other_encodings_are_told_apart(data, text):
    assert decode_captions(data) == (text,)
