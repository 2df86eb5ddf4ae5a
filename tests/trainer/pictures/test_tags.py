"""Captions as lists of tags, and edits of many captions."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import UserError
from trainer.pictures import tags as edits
from trainer.pictures.album import Album, Entry, create_album, edit, open_album, undo
from trainer.pictures.tags import affix, all_tags, frequencies, is_tags, tidy

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def entry(*captions, name="a.png"):
    return Entry(id="0" * 32, file="a.png", name=name, captions=captions)


def after(how, *captions):
    return how(entry(*captions)).captions


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("1girl, solo, long hair", True),
        ("saber (fate), the legend of zelda, looking at viewer", True),
        ("red_hair, :3, ...", True),
        ("ohwx, dog", False),
        ("ohwx, a dog in the snow, photo", False),
        ("a dog", False),
        ("A dog runs, jumps, and sleeps.", False),
        ("the sky is blue, waves roll, gulls cry", False),
        ("one two three four five six, b, c", False),
        ("", False),
    ],
)
def test_tags_are_told_from_sentences(caption, tags):
    assert is_tags(caption) == tags


def test_tags_are_counted_once_a_picture():
    pictures = [("1girl, Red hair, red hair", "1girl ||| solo"), ("red hair, " + "long " * 9,), ()]
    assert frequencies(pictures) == Counter({"red hair": 2, "1girl": 1, "solo": 1})


@pytest.mark.parametrize(
    ("how", "before", "wanted"),
    [
        (edits.find_replace("cat", "dog"), "a cat, Cat", "a dog, Cat"),
        (edits.find_replace("cat", "dog", any_case=True), "a cat, Cat", "a dog, dog"),
        (edits.find_replace("a.b", "x"), "a.b, aab", "x, aab"),
        (edits.find_replace("x", r"\1"), "x", r"\1"),  # only patterns have groups
        (edits.find_replace(r"(\w+)_(\w+)", r"\2 \1", pattern=True), "hair_red, hat", "red hair, hat"),
        (edits.find_replace("blurry", ""), "one, blurry, two", "one, two"),
        (edits.find_replace(", two", ""), "one,two , two", "one,two"),
        (edits.find_replace("one", "uno"), "one,,two", "uno,,two"),  # somebody's own gaps are left
        (edits.add("hat"), "1girl, solo", "1girl, solo, hat"),
        (edits.add("hat", front=True), "1girl, solo,", "hat, 1girl, solo,"),
        (edits.add("hat"), "1girl, HAT ||| x", "1girl, HAT ||| x"),
        (edits.remove("hat"), "Hat, 1girl ||| hat, big hat", "1girl ||| big hat"),
        (edits.remove("hat"), "one,two", "one,two"),
        (edits.rename("hat", "cap"), "hat, x, cap", "cap, x"),
        (edits.rename("hat", "cap, red"), "hat, x", "cap, red, x"),
        (edits.move_to_front("x"), "a, b, X, c", "x, a, b, c"),
        (edits.move_to_front("x"), "a, b", "a, b"),
        (edits.surround("a photo of", ", 4k"), "it", "a photo of it, 4k"),
        (edits.inject("ohwx"), "a dog", "ohwx, a dog"),
        (edits.inject("ohwx"), "an OHWX dog", "an OHWX dog"),
        (edits.dedupe(), "a, b, A, b, c", "a, b, c"),
        (edits.spaced(), "long_hair, ^_^, o_o, saber_(fate)", "long hair, ^_^, o_o, saber (fate)"),
    ],
)
def test_edits(how, before, wanted):
    assert after(how, before) == (wanted,)
    assert after(how, before, before) == (wanted, wanted)


def test_only_an_added_tag_makes_a_caption():
    for how in (edits.remove("x"), edits.surround("p", "s"), edits.inject("t"), edits.dedupe()):
        assert after(how) == ()
    assert after(edits.add("hat")) == ("hat",)
    assert after(edits.add(" ")) == ()


def test_an_emptied_caption_is_none():
    assert after(edits.remove("hat"), "hat", "hat, red") == ("red",)
    assert after(edits.set_captions(" one \n\n two\n"), "x") == ("one", "two")


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "[z-a]", "(?P<n>a)(?P<n>b)(", "*"])
def test_a_bad_pattern_is_said_before_anything_is_changed(pattern):
    with pytest.raises(UserError, match="no regular expression"):
        edits.find_replace(pattern, "x", pattern=True)


@pytest.mark.parametrize("replace", [r"\2", r"\g<name>", "\\"])
def test_a_bad_replacement_is_said(replace):
    with pytest.raises(UserError):
        after(edits.find_replace("(a)", replace, pattern=True), "a cat")


def test_a_pattern_that_takes_for_ever_is_stopped():
    how = edits.find_replace("(a|aa)+$", "x", pattern=True)
    start = time.monotonic()
    with pytest.raises(UserError, match="takes too long"):
        after(how, "a" * 4000 + "b")
    assert time.monotonic() - start < 5


def test_a_slow_pattern_is_stopped_however_many_captions_there_are(monkeypatch):
    monkeypatch.setattr(edits, "EDIT_SECONDS", 0.3)
    how = edits.find_replace("(a|aa)+$", "x", pattern=True)
    start = time.monotonic()
    with pytest.raises(UserError, match="takes too long"):
        for _ in range(10**6):
            after(how, "a" * 18 + "b")  # some milliseconds each
    assert time.monotonic() - start < 5


def test_a_replacement_does_not_fill_the_memory():
    with pytest.raises(UserError, match="letters long"):
        after(edits.find_replace(".", "many words " * 100, pattern=True), "a" * 500)


def test_an_edit_is_seen_before_it_is_made(tmp_path):
    entries = (entry("cat", "a cat", name="1.png"), entry("dog", name="2.png").model_copy(update={"id": "1" * 32}))
    create_album(tmp_path / "set", Album(entries=entries))
    how = edits.find_replace("cat", "fox")
    assert edits.preview(entries, how) == [("1.png", "cat\na cat", "fox\na fox")]
    edit(tmp_path / "set", "replace cat by fox", [each.id for each in entries], how)
    assert [each.captions for each in open_album(tmp_path / "set").entries] == [("fox", "a fox"), ("dog",)]
    assert undo(tmp_path / "set") == "replace cat by fox"
    assert open_album(tmp_path / "set").entries == entries


EDITS = st.sampled_from(
    (
        edits.add("hat"),
        edits.remove("hat"),
        edits.rename("hat", "cap"),
        edits.move_to_front("hat"),
        edits.inject("ohwx"),
        edits.dedupe(),
        edits.spaced(),
    )
)


@given(st.one_of(TEXT, st.lists(st.sampled_from(["hat", "Hat", "cap", "a_b", "|||", "ohwx"])).map(", ".join)), EDITS)
def test_an_edit_made_twice_is_made_once(caption, how):
    once = how(entry(caption))
    assert how(once) == once


@given(TEXT)
def test_tidying_keeps_every_tag(caption):
    assert all_tags(tidy(caption)) == all_tags(caption)
    assert affix(" ".join(caption.split()), "", "") == " ".join(caption.split())
