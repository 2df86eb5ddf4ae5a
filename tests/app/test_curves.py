"""The curves of a run, from its events: smoothed and thinned, the held-out loss beside the trained one, the badge."""

from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from app.jobs import queue
from app.views import curves, live, progress, sheets
from tests.app.test_progress import run_in
from trainer.contract.errors import UserError
from trainer.contract.requests import parse_strengths
from trainer.contract.rundir import RunDir, State
from trainer.contract.validation import Round


def told(tmp_path: Path) -> RunDir:
    run = run_in(tmp_path)
    for step in range(1, 21):
        run.emit(
            "step", step=step, loss=1 / step, norm=step / 10, rate=1e-4, rates={"unet": 1e-4, "text_encoder": 5e-5}
        )
    for step, loss, training in ((0, 0.5, None), (10, 0.3, 0.4), (20, 0.4, 0.2)):
        run.emit("validation", step=step, loss=loss, bands=[loss] * 4, training=training)
    run.emit("bands", step=10, bands=[0.1, None, 0.3, 0.4])
    run.emit("bands", step=20, bands=["of another version"] * 4)
    run.write_status(State.TRAINING, step=20, total=40)
    return run


def lines(table) -> dict[str, list[float]]:
    return {name: list(part["value"]) for name, part in table.groupby("line")}


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    curve = curves.loss(progress.Track(0, {step: (1.0, step / 10) for step in range(1, 5001)}))
    assert len(curve) <= 2 * curves.POINTS and curve["step"].max() == 5000


def test_smoothing_is_a_moving_average_from_the_first_point() -> None:
    assert [value for _, value in curves.smoothed([(1, 1.0), (2, 0.0), (3, 0.0)], 0.5)] == [1.0, 0.5, 0.25]
    assert curves.smoothed([(1, 1.0), (2, 3.0)], 0) == [(1, 1.0), (2, 3.0)] and curves.smoothed([], 0.9) == []


def test_every_curve_comes_from_the_events(tmp_path: Path) -> None:
    found = progress.track(told(tmp_path))
    assert lines(curves.loss(found, 0.0))["smoothed"] == [1 / step for step in range(1, 21)]
    held = lines(curves.held_out(found, 0.0))
    assert held["held out"] == [0.5, 0.3, 0.4] and held["trained on"] == [0.4, 0.2]
    assert lines(curves.rates(found)) == {"unet": [1e-4] * 20, "text_encoder": [5e-5] * 20}
    assert lines(curves.norms(found))["each step"] == pytest.approx([step / 10 for step in range(1, 21)])
    assert set(curves.COLOURS) >= set(held)


def test_bands_leave_out_what_nothing_fell_into() -> None:
    found = progress.Track(0, {}, bands={10: (0.1, None, 0.3, 0.4)})
    assert lines(curves.bands(found)) == {"least noise": [0.1], "more noise": [0.3], "most noise": [0.4]}


def test_the_badge_is_at_the_lowest_validation_loss_and_never_says_best(tmp_path: Path) -> None:
    run = told(tmp_path)
    shown = progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run))
    assert "lowest validation loss 0.3000 at step 10 (no checkpoint of it)" in shown and "best" not in shown
    (run.checkpoints / "step-000010").mkdir()
    assert "(its checkpoint is kept)" in progress.badge(run, progress.track(run))
    one = progress.Track(0, {}, rounds={0: Round(0, 1.0, (1.0,) * 4)})
    assert progress.badge(run, one) == "", "one measurement is no comparison"


def test_every_plot_draws_a_run_that_said_everything_and_one_that_said_nothing(tmp_path: Path) -> None:
    whole = live._curves(progress.track(told(tmp_path)), 0.9)
    assert len(whole) == len(live.PLOTS) and all(table is not None for table in whole)
    assert live._curves(progress.Track(0, {}), 0.9) == [None] * len(live.PLOTS)


def test_a_sheet_is_rows_of_prompts_and_columns_of_strengths_with_the_badge_at_its_step(tmp_path: Path) -> None:
    run = told(tmp_path)
    for step in (0, 10):
        for index, prompt in enumerate(("one", "two")):
            for strength in (0.0, 1.0):
                file = f"s{step:06d}-{index}-{strength:g}.png"
                run.emit("sample", step=step, prompt=prompt, seed=42 + index, strength=strength, file=file)
    run.emit("sample", step=10, prompt="mine", seed=1, strength=1.0, file="../../s000010-x.png", id="x")
    for strength in (0.0, 0.5, 1.0):
        run.emit("sample", step=12, prompt="asked", seed=1, strength=strength, file=f"y-{strength:g}.png", id="y")
    made = sheets.sheets(queue.entry(run.path.parents[1], "r"))
    assert [(sheet.step, sheet.columns, len(sheet.pictures)) for sheet in made] == [(0, 2, 4), (10, 2, 5), (12, 3, 3)]
    captions = [caption for _, caption in made[1].pictures]
    assert captions[1] == "strength 1 · one · step 10 · lowest validation loss" and "mine" in captions[-1]
    assert all(path.parent == run.samples for path, _ in made[1].pictures), "nothing outside of the run is shown"


def test_strengths_are_numbers_with_commas() -> None:
    assert parse_strengths("0, 0.5,1") == (0.0, 0.5, 1.0) and parse_strengths("") == ()
    for wrong in ("half", "99", ",".join("1" * 10)):
        with pytest.raises(UserError):
            parse_strengths(wrong)


def test_somebody_who_looks_at_an_older_sheet_stays_there_when_a_new_one_comes(tmp_path: Path) -> None:
    run, home = told(tmp_path), tmp_path / "home"

    class Page:  # only the home is looked at
        pass

    page = Page()
    page.home = home

    def sheet(step: int) -> None:
        Image.new("RGB", (8, 8)).save(run.samples / f"s{step:06d}-0.png")
        run.emit("sample", step=step, prompt="one", seed=42, strength=1.0, file=f"s{step:06d}-0.png")

    def look(last: str, at: float) -> tuple[str, float]:
        shown = live.refresh(page, "r", last, 0.9, at)
        return shown[0], next(one.value for one in shown if isinstance(one, gr.Slider))

    sheet(0)
    sheet(10)
    last, at = look("", 0)
    assert at == 10, "the newest"
    sheet(20)
    last, at = look(last, at)
    assert at == 20, "who looks at the newest sees the next"
    sheet(30)
    assert look(last, 10)[1] == 10
    assert look(last, 20)[1] == 30
