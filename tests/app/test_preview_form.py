"""The form of Preview: to a request and back, out of pictures, out of cells of grids; what it cannot be is said."""

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app import owners
from app.tabs.preview import axes, grid, reading
from app.tabs.preview.drawing import _plain
from app.tabs.preview.form import AdapterRow, Form, form_of, wanted
from app.views import choices, previews, sheets
from tests.app.saved_run import saved_run
from trainer.contract.errors import UserError
from trainer.contract.grids import cells
from trainer.contract.home import find_home
from trainer.contract.rundir import State

numbers = st.floats(-3, 3).map(lambda value: round(value, 2))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = find_home(tmp_path_factory.mktemp("preview") / "home")
    saved_run(home)
    return home


def fox(home: Path, step: int | None = None) -> str:
    name = "fox" if step is None else f"fox-s{step:06d}"
    return str(home / "runs/fox/export" / f"{name}.safetensors")


@given(
    unet=numbers.filter(bool),
    text=st.none() | numbers,
    blocks=st.sampled_from(["", "MIDD", "1.0,0.5,0.0"]),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([(0, 0), (512, 768)]),
    clip_skip=st.integers(0, 12),
)
def test_a_request_brings_the_whole_form_back(home: Path, **drawn: object) -> None:
    row = AdapterRow(file=fox(home), **{name: drawn.pop(name) for name in ("unet", "text", "blocks")})
    form = Form(prompt="a fox", negative="a hat", rows=(row,), sampler="Euler a", steps=7, guidance=3.5, **drawn)
    assert form_of(wanted(home, form, home).request) == form


def test_rows_that_are_off_are_not_drawn_with_and_tags_bring_their_adapter_along(home: Path) -> None:
    off = AdapterRow(file=fox(home), on=False)
    plain = wanted(home, Form(prompt="a fox", rows=(off, AdapterRow())), home)
    assert plain.request.adapters == () and not plain.changed
    tagged = wanted(home, Form(prompt="a fox <lora:fox:0.5>", rows=(off,)), home)
    assert tagged.request.adapters == (fox(home),) and tagged.changed
    base = _plain(tagged.request.pictures[0])
    assert (base.prompt, base.strengths) == ("a fox", (0.0,)), "the picture that it is compared with has no adapter"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [{"unet": "NaN"}]}, "Strength: input should be"),
        ({"rows": [{"unet": 1e9}]}, "less than or equal to 100"),
        ({"rows": [{"blocks": "1,x", "file": "FOX"}]}, "no block weights"),
        ({"prompt": "x" * 100_000}, "at most 20000 characters"),
        ({"prompt": " "}, "there is no prompt"),
        ({"size": (100, 64)}, "100x64 cannot be drawn"),
        ({"size": (0, 64)}, "greater than or equal to 8"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"rows": [{"file": "/etc/passwd"}]}, "no such adapter"),
        ({"rows": [{"file": "run:../fox"}]}, "no name of a run"),
    ],
)
def test_what_cannot_be_drawn_is_said(home: Path, changes: dict, words: str) -> None:
    for row in changes.get("rows", ()):
        row |= {"file": fox(home)} if row.get("file") in (None, "FOX") else {}
    with pytest.raises(UserError) as said:
        wanted(home, Form.read({"prompt": "a fox", **changes}), home)
    assert words in str(said.value)


def test_a_run_that_goes_on_is_followed_to_its_newest_save(home: Path) -> None:
    run = saved_run(home, "going")
    run.adapter_file.unlink()
    run.write_status(State.TRAINING, step=200, total=300)
    first = choices.listed(home)[0]
    assert (first["value"], first["group"]) == ("run:going", "Running now") and "ohwx fox" in first["words"]
    assert choices.path_of(home, "run:going") == run.step_file(200)
    before = choices.following(home, ["run:going", "nothing"])
    run.step_file(250).write_bytes(run.step_file(200).read_bytes())
    assert choices.path_of(home, "run:going") == run.step_file(250)
    assert before != choices.following(home, ["run:going"]) and choices.following(home, [fox(home)]) == ""
    run.write_status(State.DONE, step=300, total=300)
    assert choices.listed(home)[0]["value"] != "run:going"


def test_a_cell_brings_its_settings(home: Path) -> None:
    form = Form(prompt="a fox", rows=(AdapterRow(file=fox(home), blocks="MIDD"),))
    across, down = axes.axis(home, "strength", ["0.5, 1.5"]), axes.axis(home, "checkpoint", [fox(home, 100), fox(home)])
    request = grid.request_of(home, form, across, down)
    found = form_of(cells(request), 1)
    assert found == form.model_copy(update={"rows": (AdapterRow(file=fox(home, 100), unet=1.5, blocks="MIDD"),)})
    table = grid._table(request)
    assert (table.across, table.columns, table.rows) == ("strength", ("0.5", "1.5"), ("step 100", "the end"))
    with pytest.raises(UserError, match="both axes"):
        grid.request_of(home, form, across, across)
    with pytest.raises(UserError, match="no values"):
        axes.axis(home, "seed", [])
    with pytest.raises(UserError, match="no value of the axis"):
        grid.request_of(home, form, axes.axis(home, "cfg", ["much"]), None)
    bare = grid.request_of(home, Form(), axes.axis(home, "adapter", ["-", fox(home)]), axes.axis(home, "prompt", ["x"]))
    assert bare.adapters == (fox(home),) and len(cells(bare).pictures) == 2


def test_every_axis_offers_values_that_can_be_drawn(home: Path) -> None:
    form = Form(prompt="a fox", rows=(AdapterRow(file=fox(home)),))
    for kind, offer in axes.OFFERS.items():
        across = axes.axis(home, kind, offer.first(home, form))
        assert across and len(cells(grid.request_of(home, form, across, None)).pictures) == len(across.values) > 0
        assert {value for _, value in offer.values(home, form)} or kind == "seed"


def test_pictures_are_kept_with_all_that_draws_them(home: Path) -> None:
    place = previews.folder(home)
    for number in range(4):
        Image.new("RGB", (8, 8)).save(place / f"p{number}-0.png")
        facts = {"picture": f"p{number}-0.png", "files": [f"p{number}-0.png"], "words": "a fox", "form": {}}
        previews.keep(home, f"p{number}", facts)
    assert {one.id for one in previews.entries(home)} == {f"p{number}" for number in range(4)}
    assert previews.file(home, "p1-0.png") == place / "p1-0.png"
    for wrong in ("../p1-0.png", "p1.json", "..", "p9-0.png"):
        assert previews.file(home, wrong) is None
    with pytest.raises(UserError, match="not there any more"):
        previews.recall(home, "../p1")
    with owners.seen_by(owners.Viewer("ada", False, home)):
        assert previews.entries(home) == [] and previews.file(home, "p1-0.png") is None, "nobody else sees them"
    previews.pack(home, "p1", home / "p1.zip")
    assert zipfile.ZipFile(home / "p1.zip").namelist() == ["p1/p1-0.png"]
    (place / "p0-0.png").touch()
    for picture in place.glob("*.png"):
        os.utime(picture, (1, 1))
    previews.prune(home, 2)
    assert len(list(place.glob("*.json"))) == len(list(place.glob("*.png"))) == 2


def test_settings_are_read_out_of_a_picture(home: Path, tmp_path: Path) -> None:
    text = (
        "a fox <lora:fox:0.8:1.2>, <lora:pen:1>\nNegative prompt: a hat\nSteps: 12, Sampler: Euler a, "
        "Schedule type: Automatic, CFG scale: 6.5, Seed: 7, Size: 512x768, Model: other, Clip skip: 2, RNG: CPU"
    )
    about = PngInfo()
    about.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=about)
    form, told = reading.read(home, reading.text_of(tmp_path / "a.png"), "demo")
    assert form == Form(
        prompt="a fox,", negative="a hat", rows=(AdapterRow(file=fox(home), unet=1.2, text=0.8),), seed=7, steps=12,
        guidance=6.5, sampler="Euler a", size=(512, 768), clip_skip=2,
    )  # fmt: skip
    assert "'pen' is not here" in " ".join(told) and "'other'" in " ".join(told)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    for name, words in (("b.png", "does not say"), ("c.png", "no PNG")):
        with pytest.raises(UserError, match=words):
            reading.text_of(tmp_path / name)


def test_a_sheet_is_asked_for_anew_each_time() -> None:
    words = [sheets.ask(sheets.CHECKPOINTS, Path("/a b/fox.safetensors")) for _ in range(2)]
    assert words[0] != words[1]
    assert sheets.asked(words[0]) == (sheets.CHECKPOINTS, "/a b/fox.safetensors") and sheets.asked("") == ("", "")
