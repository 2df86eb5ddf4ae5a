"""What text a picture is trained with."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.pictures.captions import has_trigger
from trainer.pictures.tags import is_tags, join_tags, split_tags
from trainer.pictures.wording import WORDINGS, Wording, draw_texts, expand, varies, word, wordings

TAG = st.from_regex(r"[a-z0-9]{1,8}( [a-z0-9]{2,6}){0,2}", fullmatch=True)
TAGS = st.lists(TAG, min_size=3, max_size=9).filter(lambda tags: is_tags(join_tags(tags)))
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\\"), max_size=30)
WORDING = st.builds(
    Wording,
    trigger=st.sampled_from(["", "ohwx", "sks dog"]),
    class_word=st.sampled_from(["", "dog", "oil painting"]),
    prefix=st.sampled_from(["", "a photo of", "{soft|hard} light,"]),
    suffix=st.sampled_from(["", ", best", "at night"]),
    shuffle=st.sampled_from(["auto", "on", "off"]),
    keep=st.integers(0, 4),
    tag_dropout=st.sampled_from([0.0, 0.3, 1.0]),
)


def braced(options):
    return "{" + "|".join(options) + "}"


NESTED = st.recursive(st.text("abc ", max_size=4), lambda part: st.lists(part, min_size=1).map(braced), max_leaves=12)


def texts(captions, wording, draws=40, seed=1):
    return [word(captions, wording, seed, "picture", draw) for draw in range(draws)]


@pytest.mark.parametrize(
    ("trigger", "class_word", "wanted"),
    [
        ("ohwx", "dog", "ohwx dog"),
        ("ohwx", "", "ohwx"),
        ("", "drawing", "drawing"),
        ("sks dog", "dog", "sks dog"),  # kohya's folder name has both
        ("", "", ""),
    ],
)
def test_a_picture_without_a_caption(trigger, class_word, wanted):
    wording = Wording(trigger=trigger, class_word=class_word)
    assert texts([], wording, 3) == [wanted] * 3
    assert texts(["", "  "], wording, 3) == [wanted] * 3
    assert not varies([], wording)


def test_the_trigger_is_put_in_where_it_is_missing():
    wording = Wording(trigger="ohwx", class_word="dog")
    assert texts(["A dog runs."], wording, 1) == ["ohwx, A dog runs."]
    assert texts(["A photo of Ohwx, running."], wording, 1) == ["A photo of Ohwx, running."]
    assert texts(["A dog runs."], Wording(trigger="ohwx", prefix="art by ohwx:"), 1) == ["art by ohwx: A dog runs."]


def test_prefix_and_suffix_stand_around_every_text():
    wording = Wording(trigger="ohwx", class_word="dog", prefix=" a photo of", suffix=", 35mm")
    assert texts([], wording, 1) == ["a photo of ohwx dog, 35mm"]
    assert texts(["it sleeps"], wording, 1) == ["a photo of ohwx, it sleeps, 35mm"]


def test_sentences_are_left_alone_and_tags_are_shuffled():
    sentence = "A dog runs, a cat sleeps, and the bird sings."
    assert set(texts([sentence], Wording())) == {sentence}
    assert len(set(texts(["one, two, three, four"], Wording()))) > 10
    assert set(texts(["one, two, three, four"], Wording(shuffle="off"))) == {"one, two, three, four"}
    assert len(set(texts([sentence], Wording(shuffle="on")))) > 1


def test_what_is_between_the_marks_is_free():
    found = texts(["1girl ||| red hair, blue eyes, smile ||| best quality, 4k"], Wording(trigger="ohwx"))
    assert all(text.startswith("ohwx, 1girl, ") and text.endswith(", best quality, 4k") for text in found)
    assert len({tuple(split_tags(text)[2:5]) for text in found}) == 6
    assert texts(["a dog ||| b"], Wording(shuffle="off"), 1) == ["a dog, b"]  # the marks are never trained


def test_all_captions_are_drawn_alike():
    seen = Counter(texts(["one dog", "two dogs", " "], Wording(), draws=2000))
    assert set(seen) == {"one dog", "two dogs"}
    assert abs(seen["one dog"] - 1000) < 120  # 5 standard deviations


def test_tags_are_dropped_at_their_rate_and_kept_ones_never():
    found = texts(["keep me, ohwx thing, x, y"], Wording(trigger="ohwx", keep=1, tag_dropout=0.25), draws=2000)
    assert all(split_tags(text)[:2] == ["keep me", "ohwx thing"] for text in found)
    assert abs(sum("x" in split_tags(text) for text in found) - 1500) < 100
    assert set(texts(["A dog, which is old, sleeps."], Wording(tag_dropout=1.0))) == {"A dog, which is old, sleeps."}


def test_the_same_draw_is_the_same_text_on_any_machine():
    wording = Wording(trigger="ohwx", keep=2, tag_dropout=0.2)
    text = word(["{red|blue} hair, 1girl, solo, smile, hat"], wording, 7, "0f", 3)
    assert text == "ohwx, red hair, solo, hat"


def test_seeds_keys_and_draws_differ():
    caption = [", ".join(map(str, range(100, 130)))]
    found = {word(caption, Wording(), seed, key, draw) for seed in (1, 2) for key in ("a", "b") for draw in (0, 1)}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a {red|blue} hat", {"a red hat", "a blue hat"}),
        ("{a|b {c|d}}", {"a", "b c", "b d"}),
        ("{|very }old", {"old", "very old"}),
        ("{one}", {"one"}),
        (r"\{a\|b\} {c\||d}", {"{a|b} c|", "{a|b} d"}),
        ("smile :}, a|b", {"smile :}, a|b"}),
        ("open {a|b", {"open {a|b"}),
        ("{a|b} and {c", {"a and {c", "b and {c"}),
        (r"saber \(fate\)", {r"saber \(fate\)"}),  # booru captions escape their brackets; that is their own business
    ],
)
def test_wildcards(text, wanted):
    wording = Wording(shuffle="off")
    assert set(texts([text], wording, 60)) == wanted
    assert varies([text], wording) == (len(wanted) > 1)


@given(NESTED)
def test_no_brace_is_left_of_balanced_ones(text):
    assert not set("{|}") & set(expand(text, lambda options: options[-1]))


@given(PLAIN)
def test_any_text_is_expanded_without_a_loss_or_not_at_all(text):
    expanded = expand(text, lambda options: options[0])
    assert len(expanded) <= len(text)
    if not {"{", "}"} <= set(text):
        assert expanded == text


@given(TAGS, WORDING, st.integers(), st.integers(0, 9))
def test_tags_are_neither_lost_nor_doubled(tags, wording, seed, draw):
    wording = Wording(trigger=wording.trigger, shuffle=wording.shuffle, keep=wording.keep)
    caption = join_tags(tags)
    before, after = Counter(tags), Counter(split_tags(word([caption], wording, seed, "k", draw)))
    assert after - before == ({} if has_trigger(caption, wording.trigger) else {wording.trigger: 1})
    assert not before - after


@given(TAGS, WORDING, st.integers(), st.integers(0, 9))
def test_kept_tags_stay_in_front_in_their_order(tags, wording, seed, draw):
    kept = split_tags(
        word([join_tags(tags)], Wording(keep=wording.keep, tag_dropout=wording.tag_dropout), seed, 1, draw)
    )
    assert kept[: wording.keep] == tags[: wording.keep]


@given(st.lists(PLAIN, max_size=3), WORDING, st.integers(), PLAIN, st.integers(0, 9))
def test_equal_arguments_give_equal_texts_on_one_line_with_the_trigger(captions, wording, seed, key, draw):
    text = word(captions, wording, seed, key, draw)
    assert text == word(captions, wording, seed, key, draw) == " ".join(text.split())
    assert has_trigger(text, wording.trigger)


@given(st.lists(st.one_of(PLAIN, TAGS.map(join_tags)), max_size=2), WORDING)
def test_what_does_not_vary_never_does(captions, wording):
    assume(not varies(captions, wording))
    assert len(set(texts(captions, wording, 12))) == 1


@given(TAGS, WORDING)
def test_putting_the_trigger_in_again_changes_nothing(tags, wording):
    still = Wording(trigger=wording.trigger, shuffle="off")
    once = word([join_tags(tags)], still, 0, 0, 0)
    assert word([once], still, 0, 0, 0) == once


def drawn(captions, wording, seed=1, key="picture"):
    return draw_texts(captions, wording, seed, key, wordings(captions, wording))


def test_the_texts_of_a_picture_are_as_likely_as_the_settings_say():
    wording = Wording(shuffle="off", tag_dropout=0.1)
    found = [drawn(["one, two, three"], wording, key=str(number)) for number in range(500)]
    assert {len(texts) for texts in found} == {WORDINGS}
    whole = sum(text == "one, two, three" for texts in found for text in texts) / (500 * WORDINGS)
    assert 0.7 < whole < 0.76, "0.9 cubed; drawn among the different texts alone it would be 0.4"


@pytest.mark.parametrize("count", [2, 3, 5, 8, 11])
def test_every_caption_of_a_picture_is_trained_as_often_as_the_others(count):
    captions = [f"caption {number}" for number in range(count)]
    assert drawn(captions, Wording()) == tuple(captions)
    seen = Counter(text.split(" {")[0][:-2] for text in drawn([f"{one} {{a|b}}" for one in captions], Wording()))
    assert seen == dict.fromkeys(captions, max(1, WORDINGS // count))


def test_fewer_texts_still_share_the_captions_out():
    assert draw_texts(["one {a|a}", " ", "two", "three"], Wording(), 1, "x", 5) == ("one a", "two", "three")
    assert draw_texts(["one", "two", "three"], Wording(), 1, "x", 2) == ("one", "two")
    assert drawn([], Wording(trigger="ohwx", class_word="dog")) == ("ohwx dog",)
