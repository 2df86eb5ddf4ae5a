"""Axes and the pictures that follow from them."""

import pytest

from trainer.contract.errors import UserError
from trainer.contract.grids import AXES, Axis, GridRequest, Label, cells, labels, parse_axis
from trainer.contract.requests import Picture, Strength

FILES = ("/a/ink-s000250.safetensors", "/a/pen.safetensors")
VALUES = {
    "adapter": ("/a/oil.safetensors", ""), "checkpoint": ("/a/ink-s000500.safetensors", "/a/ink.safetensors"),
    "strength": ("0", "0.5"), "text_encoder": ("0", "1"), "blocks": ("MIDD", "1,0.5,0"), "seed": ("1", "2"),
    "prompt": ("a cat, red", "a dog"), "cfg": ("1", "7.5"), "sampler": ("Euler", "DDIM"), "steps": ("4", "20"),
}  # fmt: skip
SAID = {
    "adapter": ["oil", "base"], "checkpoint": ["step 500", "the end"], "strength": ["strength 0", "strength 0.5"],
    "text_encoder": ["text encoder 0", "text encoder 1"], "blocks": ["blocks MIDD", "blocks 1,0.5,0"],
    "seed": ["seed 1", "seed 2"], "prompt": ["a cat, red", "a dog"], "cfg": ["CFG 1", "CFG 7.5"],
    "sampler": ["Euler", "DDIM"], "steps": ["steps 4", "steps 20"],
}  # fmt: skip


def grid(x: Axis, y: Axis | None = None, **more) -> GridRequest:
    picture = Picture(prompt="a cat", strengths=(0.8, Strength(unet=0.3, start=0.5)))
    return GridRequest(**{"id": "g", "adapters": FILES, "picture": picture, "x": x, "y": y, "out": "o", **more})


@pytest.mark.parametrize("kind", AXES)
def test_each_axis_changes_its_own_and_nothing_else(kind):
    made = cells(grid(Axis(kind=kind, values=VALUES[kind])))
    assert [" ".join(one).strip() for one in labels(Axis(kind=kind, values=VALUES[kind]))] == SAID[kind]
    first, second = made.pictures
    assert first != second and len(made.adapters) == len(first.strengths)
    for picture in made.pictures:
        own = dict(zip(made.adapters, picture.strengths, strict=True))
        assert own[FILES[1]] == Strength(unet=0.3, start=0.5), "the other adapter stays"
        same = {"prompt": "a cat", "seed": 42, "guidance": None, "sampler": None, "steps": None}
        changed = {name for name, value in same.items() if getattr(picture, name) != value}
        assert changed <= {{"cfg": "guidance"}.get(kind, kind)}


def test_two_axes_are_a_table_row_by_row_and_strengths_stay_with_their_files():
    down = Axis(kind="checkpoint", values=(FILES[0], "/a/ink.safetensors", ""))
    made = cells(grid(Axis(kind="strength", values=(0, 1)), down))
    assert made.adapters == (*FILES, "/a/ink.safetensors") and len(made.pictures) == 6
    assert [picture.strengths[0] for picture in made.pictures] == [0, 1, 0, 0, 0, 1]
    assert [picture.strengths[2] for picture in made.pictures] == [0, 0, 0, 1, 0, 0]
    both = cells(grid(Axis(kind="text_encoder", values=("0", "1")), Axis(kind="strength", values=("0.25",))))
    assert [one.strengths[0] for one in both.pictures] == [
        Strength(unet=0.25, text_encoder=text) for text in (0.0, 1.0)
    ]


def test_axes_are_written_with_commas_or_bars():
    assert parse_axis("text-encoder=0, 1") == Axis(kind="text_encoder", values=("0", "1"))
    assert parse_axis("prompt=a cat, red|a dog").values == ("a cat, red", "a dog")
    assert labels(parse_axis("cfg=5")) == [Label("CFG", "5")]
    for wrong in ("colour=1", "seed", ""):
        with pytest.raises(UserError, match="is no axis"):
            parse_axis(wrong)


@pytest.mark.parametrize(
    ("x", "y", "more", "said"),
    [
        ("seed=", None, {}, "'' is no value"),
        ("strength=nan", None, {}, "finite"),
        ("steps=0", None, {}, "greater than or equal to 1"),
        ("seed=1", "seed=2", {}, "both axes are 'seed'"),
        ("strength=1", "checkpoint=x", {"adapters": (), "picture": Picture(prompt="x")}, "needs an adapter"),
        ("seed=1", None, {"adapters": ()}, "2 strengths for 0 adapters"),
        ("seed=" + ",".join(map(str, range(60))), "cfg=" + ",".join(["2"] * 5), {}, "300 pictures are too many"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(x, y, more, said):
    with pytest.raises(UserError, match=said):
        cells(grid(parse_axis(x), parse_axis(y) if y else None, **more))
