"""What is told of a run before it starts: from its pictures, from this machine's last runs, else from its preset."""

from pathlib import Path

import pytest

from app.views import paces, plan
from app.views.lengths import planned
from app.views.plan import Machine, plan_html
from tests.tiny import make_pictures
from trainer.contract.card import CardMemory
from trainer.contract.compose import compose
from trainer.contract.home import demo_folder, find_home
from trainer.contract.preflight import Preflight
from trainer.contract.presets import Preset, load_preset
from trainer.contract.rundir import State, create_run

GIB = 2**30


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return find_home(tmp_path / "home")


def on(base: str, shelf: str, folder: Path, **sections):
    preset = load_preset("style", shelf)
    layers = [*preset.layers(), {"model": {"base": base}, "dataset": {"path": str(folder)}}, sections]
    return compose(layers), preset


def told(home: Path, config, preset: Preset) -> str:
    return plan_html(home, config, preset, planned(config))


def test_a_plan_on_the_practice_base(home: Path) -> None:
    said = told(home, *on("demo", "demo", demo_folder() / "style"))
    for word in ("450 steps", "20 pictures in 1 shape", "none held out", "128 × 128", "on two processor cores",
                 "GiB of this machine", "about 1.1 MB, fp16, one more at each save", "rate 0.001"):  # fmt: skip
        assert word in said


def test_the_time_is_that_of_the_last_run_here(home: Path) -> None:
    config, preset = on("demo", "demo", demo_folder() / "style")
    run = create_run(home, "before", config)
    assert "two processor cores" in told(home, config, preset), "not measured yet"
    run.write_status(State.TRAINING, step=1, total=300)
    run.emit("preflight", **Preflight("none", 0.5, 300, 75, 2, 20, 5, 180).as_dict())
    found = paces.pace_of(home, config, preset, 128)
    assert found is not None and found.machine == "" and found.pictures == 8 and found.more == pytest.approx(1.2)
    said = told(home, config, preset)
    assert "(2 steps/s), as the last run with this base took here" in said
    other, _ = on("demo", "demo", demo_folder() / "style", dataset={"resolution": 256})
    assert found.seconds(300, 4, paces.area_of(other, 128)) == pytest.approx(found.start + 4 * 180)


def test_a_card_that_is_too_small_is_said_and_what_fits_is_chosen(home: Path, tmp_path: Path, monkeypatch) -> None:
    mine = make_pictures(tmp_path / "mine", 20)
    config, preset = on("owner/some-xl-model", "sdxl", mine, validation={"share": 0.1})
    card = CardMemory("Some Card", 8 * GIB, 12 * GIB)
    monkeypatch.setattr(plan, "machine_of", lambda config: Machine(card, card.free, card.total))
    said = told(home, config, preset)
    assert "18 pictures" in said and "2 held out" in said and "NVIDIA H200" in said
    assert "of 12 GiB on Some Card, 8.0 free; " in said and "computed again" in said and "More than" not in said
    small = Machine(CardMemory("Some Card", GIB, GIB), GIB, GIB)
    monkeypatch.setattr(plan, "machine_of", lambda config: small)
    assert "<b>More than is free:</b>" in told(home, config, preset)


def test_without_a_card_a_large_base_is_said_to_take_days(home: Path, tmp_path: Path, monkeypatch) -> None:
    config, preset = on("owner/model", "sd", make_pictures(tmp_path / "mine", 4))
    monkeypatch.setattr(plan, "machine_of", lambda config: Machine(None, 30 * GIB, 32 * GIB))
    assert "on a processor it takes days" in told(home, config, preset)


def test_without_pictures_there_is_no_plan_yet(home: Path) -> None:
    config, preset = on("demo", "demo", Path("-"))
    assert "as soon as pictures are chosen" in plan_html(home, config, preset, None)
