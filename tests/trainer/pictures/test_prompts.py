"""What is drawn while training, where nobody has said."""

import pytest

from trainer.contract.config import DatasetSection
from trainer.pictures.album import Album, Concept, Entry, create_album, identity
from trainer.pictures.gather import gather
from trainer.pictures.prompts import SCENES, default_prompts


def album(*captions, **more):
    entries = (
        Entry(id=identity(str(number)), file="x", name=str(number), captions=(text,) if text else ())
        for number, text in enumerate(captions)
    )
    return Album(entries=tuple(entries), **more)


@pytest.fixture
def prompts(tmp_path):
    """Prompts of a run with this set and these words of its own."""

    def of(album: Album, trigger: str = "", class_word: str = "") -> tuple[str, ...]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        create_album(folder, album)
        options = DatasetSection(path=str(folder), trigger=trigger, class_word=class_word)
        return default_prompts(gather(options)[0])

    return of


def test_two_captions_and_a_new_scene_with_and_without_the_trigger(prompts):
    pictures = album("a dog runs", "a dog runs", "it {sits|lies} ||| still", "ohwx sleeps", trigger="ohwx")
    assert prompts(pictures, class_word="dog") == (
        "ohwx, a dog runs",
        "ohwx, it sits, still",
        "ohwx dog on a beach at sunset",
        "dog on a beach at sunset",
    )


def test_a_set_without_captions(prompts):
    assert prompts(album("", ""), "ohwx", "dog") == (
        "ohwx dog",
        "ohwx dog on a beach at sunset",
        "dog on a beach at sunset",
    )
    assert prompts(album("", ""), "ohwx") == ("ohwx", "ohwx, a beach at sunset", "a beach at sunset")
    assert prompts(album(""), "sks dog", "dog")[1:] == (
        "sks dog on a beach at sunset",
        "dog on a beach at sunset",
    )


def test_a_set_without_a_trigger(prompts):
    assert prompts(album("one", "two", "three")) == ("one", "two", "a beach at sunset")
    assert default_prompts([]) == ("a beach at sunset",)


def test_the_scene_is_one_that_the_pictures_do_not_have(prompts):
    assert prompts(album("a dog at sunset.", "Snowy hills"), "ohwx")[-1] == "a busy street at night"
    everything = album(" ".join(SCENES))
    assert prompts(everything, "ohwx")[-1] == "a beach at sunset"


def test_pictures_that_are_not_taught_say_nothing(prompts):
    entries = album("left out", "a dog", "ohwx waves").entries
    entries = (
        entries[0].model_copy(update={"excluded": True}),
        entries[1].model_copy(update={"concept": "reg"}),
        entries[2].model_copy(update={"concept": "hero"}),
    )
    concepts = {"reg": Concept(regularisation=True), "hero": Concept(trigger="ohwx", class_word="robot")}
    assert prompts(Album(entries=entries, concepts=concepts), "", "") == (
        "ohwx waves",
        "ohwx robot on a beach at sunset",
        "robot on a beach at sunset",
    )


def test_the_run_s_words_count_more_than_the_set_s_and_less_than_a_group_s(prompts):
    first, second = album("waves", "sleeps").entries
    entries = (first, second.model_copy(update={"concept": "hero"}))
    one = Album(entries=entries, concepts={"hero": Concept(trigger="nix")}, trigger="own", class_word="cat")
    assert prompts(one, "ohwx", "dog") == (
        "ohwx, waves",
        "nix, sleeps",
        "ohwx dog on a beach at sunset",
        "dog on a beach at sunset",
    )
