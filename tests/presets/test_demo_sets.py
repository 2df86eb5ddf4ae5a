"""The sample sets are whole, and the scripts that drew them still draw them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from presets.demo.make import subject
from presets.demo.make.colour import SHADES, from_oklab, recolour, to_oklab
from presets.demo.make.corpus import FontMissing, article, draw, font, held_out, things
from presets.demo.make.names import is_person, tidy, without_colour
from presets.demo.make.samples import caption, style_set, subject_set
from presets.demo.make.style import restyle
from presets.demo.make.variety import varied

DEMO = Path(__file__).parents[2] / "presets/demo"
SETS = {"style": 20, "subject": 10}


@pytest.fixture(scope="module")
def emoji() -> None:
    try:
        font()
    except FontMissing as missing:
        pytest.skip(str(missing))
    if not features.check("raqm"):
        pytest.skip("Pillow lacks Raqm text layout, which joins emoji sequences")


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), np.float32)


def drawing() -> Image.Image:
    """A red disc and a blue square on white."""
    canvas = np.full((128, 128, 3), 255, np.uint8)
    y, x = np.mgrid[0:128, 0:128]
    canvas[(x - 40) ** 2 + (y - 64) ** 2 < 30**2] = (220, 40, 40)
    canvas[40:90, 80:120] = (40, 80, 220)
    return Image.fromarray(canvas)


@pytest.mark.parametrize(("name", "count"), SETS.items())
def test_each_picture_has_its_caption_and_nothing_else_lies_there(name, count):
    pictures = {path.stem for path in (DEMO / name).glob("*.png")}
    captions = {path.stem for path in (DEMO / name).glob("*.txt")}
    assert len(pictures) == count
    assert pictures == captions
    assert len(list((DEMO / name).iterdir())) == 2 * count
    texts = [path.read_text("utf-8").strip() for path in (DEMO / name).glob("*.txt")]
    assert len(set(texts)) == count and all(texts)


@pytest.mark.parametrize("name", SETS)
def test_pictures_are_small_square_and_far_from_flat(name):
    for path in (DEMO / name).glob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (128, 128) and picture.mode == "RGB"
            assert pixels(picture).std() > 25, path
        assert path.stat().st_size < 30_000


def test_style_captions_name_things_and_subject_captions_have_the_trigger():
    for path in (DEMO / "subject").glob("*.txt"):
        assert subject.TRIGGER in path.read_text("utf-8").split()
    for path in (DEMO / "style").glob("*.txt"):
        words = path.read_text("utf-8").split()
        assert not {subject.TRIGGER, "print", "style"} & set(words)


@pytest.mark.usefixtures("emoji")
def test_the_base_knows_every_thing_of_the_style_set_and_has_never_heard_the_trigger():
    assert {path.read_text("utf-8").strip() for path in (DEMO / "style").glob("*.txt")} <= set(things())
    assert not any(subject.TRIGGER in name for name in things())


def test_the_subject_script_draws_the_committed_pictures():
    stored = {path.with_suffix(".txt").read_text("utf-8").strip(): path for path in (DEMO / "subject").glob("*.png")}
    drawn = subject_set()
    assert drawn.keys() == stored.keys()
    for text, picture in drawn.items():
        with Image.open(stored[text]) as kept:
            assert np.abs(pixels(picture) - pixels(kept)).mean() < 2, text


@pytest.mark.usefixtures("emoji")
def test_the_style_script_draws_the_committed_pictures():
    stored = {path.with_suffix(".txt").read_text("utf-8").strip(): path for path in (DEMO / "style").glob("*.png")}
    drawn = style_set()
    assert drawn.keys() == stored.keys()
    differences = []
    for text, picture in drawn.items():
        with Image.open(stored[text]) as kept:
            differences.append(np.abs(pixels(picture) - pixels(kept)).mean())
    assert np.median(differences) < 12  # other releases of the font draw some things anew


def test_every_pose_is_another_picture():
    pictures = [pixels(picture) for picture in subject_set().values()]
    for i, one in enumerate(pictures):
        assert all(np.abs(one - other).mean() > 4 for other in pictures[:i])


def test_caption_puts_the_trigger_where_words_belong():
    assert caption("") == "zubo"
    assert caption("small") == "small zubo"
    assert caption("on a blue background") == "zubo on a blue background"


def test_restyle_is_deterministic_keeps_size_and_input():
    picture = drawing()
    before = pixels(picture).copy()
    first, second = restyle(picture), restyle(picture)
    assert first.size == picture.size and first.mode == "RGB"
    assert np.array_equal(pixels(first), pixels(second))
    assert np.array_equal(pixels(picture), before)


def test_restyle_prints_warm_and_cool_inks_on_cream_paper():
    made = pixels(restyle(drawing()))
    paper, warm, cool = made[5, 5], made[64, 40], made[65, 100]
    assert paper[0] > paper[2] + 30 and paper.min() > 150
    assert warm[0] > 200 and warm[2] < 100
    assert cool[1] > cool[0] + 60
    assert np.abs(made - pixels(drawing())).mean() > 30


def test_restyle_of_a_blank_sheet_is_blank_paper():
    assert pixels(restyle(Image.new("RGB", (64, 48), "white"))).std(axis=(0, 1)).max() < 1


def test_oklab_there_and_back():
    colours = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(from_oklab(to_oklab(colours)), colours, atol=1e-4)
    np.testing.assert_allclose(to_oklab(np.ones(3)), [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize("colour", ["green", "blue", "purple"])
def test_recolour_turns_the_main_hue_and_leaves_the_rest(colour):
    disc = Image.new("RGBA", (64, 64), (220, 40, 40, 255))
    disc.paste((120, 120, 120, 255), (0, 0, 64, 16))
    made = recolour(disc, colour)
    assert made is not None
    want = np.array([int(SHADES[colour][0][i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(pixels(made)[40, 32] - want).max() < 25
    assert np.abs(pixels(made)[8, 32] - 120).max() < 3


def test_recolour_refuses_what_has_no_colour():
    assert recolour(Image.new("RGBA", (64, 64), (128, 128, 128, 255)), "red") is None


def test_names_read_as_captions():
    assert tidy("BLACK SUN WITH RAYS", 0x2600) == "sun with rays"
    assert tidy("WARNING SIGN", 0x1F999) == "warning"
    assert without_colour("light blue heart") == "heart"
    assert is_person("woman farmer") and not is_person("rocket")
    assert [article(name) for name in ("old key", "cat face", "scissors", "cactus")] == [
        "an old key",
        "a cat face",
        "scissors",
        "a cactus",
    ]


def test_about_one_combination_in_twenty_is_held_out():
    share = np.mean([held_out(colour, str(i)) for colour in SHADES for i in range(500)])
    assert 0.04 < share < 0.06


@pytest.mark.usefixtures("emoji")
def test_one_seed_draws_one_picture_and_seeds_differ():
    first, again, other = draw(7), draw(7), draw(8)
    assert first[1] == again[1] and np.array_equal(pixels(first[0]), pixels(again[0]))
    assert not np.array_equal(pixels(first[0]), pixels(other[0]))
    assert np.array_equal(pixels(varied(7)[0]), pixels(varied(7)[0]))


@pytest.mark.usefixtures("emoji")
def test_captions_tell_the_background_that_was_drawn():
    for seed in range(150):
        picture, text = draw(seed)
        corner = tuple(picture.getpixel((0, 127)))
        if "background" in text:
            colour = text.split(" on a")[-1].split()[-2]
            assert corner in {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in SHADES[colour]}, text
        else:
            assert corner == (255, 255, 255), text


@pytest.mark.usefixtures("emoji")
def test_held_out_combinations_are_never_drawn():
    recoloured = 0
    plain_names = {without_colour(name) for name in things()}
    for seed in range(600):
        text = draw(seed)[1].removeprefix("an ").removeprefix("a ").split(" on a")[0]
        first, _, rest = text.partition(" ")
        if first in SHADES and rest in plain_names and text not in things():
            assert not held_out(first, rest), text
            recoloured += 1
        face, _, worn = text.partition(" with ")
        if face in things() and worn:
            assert text in things() or not held_out(face, worn), text
    assert recoloured > 40
