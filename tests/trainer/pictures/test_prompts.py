"""What is drawn while training, where nobody has said."""

from trainer.pictures.album import Album, Concept, Entry, identity
from trainer.pictures.prompts import SCENES, default_prompts


def album(*captions, **more):
    entries = (
        Entry(id=identity(str(number)), file="x", name=str(number), captions=(text,) if text else ())
        for number, text in enumerate(captions)
    )
    return Album(entries=tuple(entries), **more)


def test_two_captions_and_a_new_scene_with_and_without_the_trigger():
    pictures = album("a dog runs", "a dog runs", "it {sits|lies} ||| still", "ohwx sleeps", trigger="ohwx")
    assert default_prompts(pictures, class_word="dog") == (
        "ohwx, a dog runs",
        "ohwx, it sits, still",
        "ohwx dog on a beach at sunset",
        "dog on a beach at sunset",
    )


def test_a_set_without_captions():
    assert default_prompts(album("", ""), "ohwx", "dog") == (
        "ohwx dog",
        "ohwx dog on a beach at sunset",
        "dog on a beach at sunset",
    )
    assert default_prompts(album("", ""), "ohwx") == ("ohwx", "ohwx, a beach at sunset", "a beach at sunset")
    assert default_prompts(album(""), "sks dog", "dog")[1:] == (
        "sks dog on a beach at sunset",
        "dog on a beach at sunset",
    )


def test_a_set_without_a_trigger():
    assert default_prompts(album("one", "two", "three")) == ("one", "two", "a beach at sunset")
    assert default_prompts(album()) == ("a beach at sunset",)


def test_the_scene_is_one_that_the_pictures_do_not_have():
    assert default_prompts(album("a dog at sunset.", "Snowy hills"), "ohwx")[-1] == "a busy street at night"
    everything = album(" ".join(SCENES))
    assert default_prompts(everything, "ohwx")[-1] == "a beach at sunset"


def test_pictures_that_are_not_taught_say_nothing():
    entries = album("left out", "a dog", "ohwx waves").entries
    entries = (
        entries[0].model_copy(update={"excluded": True}),
        entries[1].model_copy(update={"concept": "reg"}),
        entries[2].model_copy(update={"concept": "hero"}),
    )
    concepts = {"reg": Concept(regularisation=True), "hero": Concept(trigger="ohwx", class_word="robot")}
    assert default_prompts(Album(entries=entries, concepts=concepts), "", "") == (
        "ohwx waves",
        "ohwx robot on a beach at sunset",
        "robot on a beach at sunset",
    )
