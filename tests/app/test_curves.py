"""The curves of a run, from its events: smoothed and thinned, the held-out loss beside the trained one, the badge."""

from pathlib import Path

import pytest

from app.jobs import queue
from app.views import compare, curves, film, live, progress
from tests.app.test_progress import run_in
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.requests import parse_strengths
from trainer.contract.rundir import RunDir, State, create_run
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
    for found, there in ((progress.track(told(tmp_path)), True), (progress.Track(0, {}), False), (None, False)):
        for logged in (False, True):
            shown = live._curves(found, 0.9, logged)
            assert len(shown) == 2 * len(live.PLOTS) and all(one.visible is there for one in shown[::2])
            assert all((one.value is not None) is there for one in shown[1::2])


def test_a_film_is_rows_of_prompts_and_columns_of_strengths_with_a_picture_for_each_step(tmp_path: Path) -> None:
    run = told(tmp_path)
    for step in (0, 10):
        for index, prompt in enumerate(("one", "<b>two")):
            for strength in (0.0, 1.0) if step else (1.0,):
                file = f"s{step:06d}-{index}-{strength:g}.png"
                run.emit("sample", step=step, prompt=prompt, seed=42 + index, strength=strength, file=file)
    run.emit("sample", step=10, prompt="mine", seed=1, strength=1.0, file="../../x/s000010-x.png", id="x")
    made = film.film_of(progress.track(run))
    assert made.steps == (0, 10) and made.columns == 2
    assert [(cell.prompt, cell.strength) for cell in made.cells] == [
        ("one", 0), ("one", 1), ("<b>two", 0), ("<b>two", 1)]  # fmt: skip
    assert made.cells[0].frames[0] is None and all(made.cells[1].frames)
    shown = film.film_html(queue.entry(run.path.parents[1], "r"), progress.track(run))
    assert "<b>two" not in shown and "/x/" not in shown and "/runs/r/samples/s000010-x.png/film?" in shown
    assert 'data-steps="[0, 10]" data-marked="10"' in shown and progress.LOWEST in shown
    assert film.film_html(queue.entry(run.path.parents[1], "r"), progress.Track(0, {})) == ""


def test_on_a_logarithmic_scale_there_is_nothing_at_or_below_zero() -> None:
    drawn = curves.logarithmic(curves.table([(1, 0.01, "a"), (2, 0.0, "a"), (3, -1.0, "a"), (4, 10.0, "a")]))
    assert drawn.to_numpy().tolist() == [[1, -2.0, "a"], [4, 1.0, "a"]]


def test_runs_are_compared_by_their_curves_and_by_the_settings_that_differ(tmp_path: Path) -> None:
    home = find_home(tmp_path / "home")
    for name, rank in (("a", 4), ("b", 16)):
        run = create_run(home, name, compose([{"dataset": {"path": "here"}, "adapter": {"rank": rank}}]))
        for step in (1, 2):
            run.emit("step", step=step, loss=rank / step, norm=1.0, rates={"unet": 1e-4})
    items = [queue.entry(home, name) for name in "ab"]
    assert compare.overlaid(items, "Training loss", 0.0).to_numpy().tolist() == [
        [1, 4.0, "a"], [2, 2.0, "a"], [1, 16.0, "b"], [2, 8.0, "b"]]  # fmt: skip
    assert compare.differing([item.run.config() for item in items]) == {"adapter.rank": [4, 16]}
    assert all(len(compare.overlaid(items, what, 0.9)) for what in ("Learning rate", "Gradient norm"))
    assert len(compare.overlaid(items, "Validation loss", 0.9)) == 0
    assert "<td>4</td><td>16</td>" in compare.table_html(items)


def test_strengths_are_numbers_with_commas() -> None:
    assert parse_strengths("0, 0.5,1") == (0.0, 0.5, 1.0) and parse_strengths("") == ()
    for wrong in ("half", "99", ",".join("1" * 10)):
        with pytest.raises(UserError):
            parse_strengths(wrong)
