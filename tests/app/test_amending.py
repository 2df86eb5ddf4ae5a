"""What can still be changed about a run, below the page: the drawn rate is the one that is then trained with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from app.commands.runs import resume
from app.jobs import queue, store
from app.jobs.model import Shown
from app.views import amending, changing, curves, longer, progress, refusal
from tests.tiny import make_pictures, make_tiny_sd
from tests.trainer.test_resume import make_run
from trainer.__main__ import main
from trainer.contract.amendments import ask, config_now, pending, read_amendments
from trainer.contract.checkpoints import list_checkpoints, step_of
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir, State, steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunDir:
    """A run of six steps that is done."""
    folder = tmp_path_factory.mktemp("whole")
    run = make_run(folder, make_tiny_sd(folder / "base"), make_pictures(folder / "set", 4), steps=6, save_every="2")
    assert main(["train", str(run.path)]) == 0
    return run


@pytest.fixture
def home(whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with that run; nothing is started in it."""
    shutil.copytree(whole.path.parents[1] / "runs", tmp_path / "runs")
    monkeypatch.setattr(queue, "ensure_supervisor", lambda home: None)
    return tmp_path


def item_of(home: Path) -> queue.Entry:
    return queue.entry(home, "run")


def stopped(home: Path) -> queue.Entry:
    """As if it had been stopped at step 4."""
    run = item_of(home).run
    run.adapter_file.unlink()
    shutil.rmtree(list_checkpoints(run.checkpoints)[-1])
    run.write_status(State.STOPPED, step=4)
    return item_of(home)


@pytest.mark.parametrize("rate", ["hold", "rewarm"])
@pytest.mark.parametrize("begin", [6, 4])
def test_the_drawn_rate_is_the_one_that_is_then_trained_with(home: Path, rate, begin: int) -> None:
    item = item_of(home) if begin == 6 else stopped(home)
    table, words = longer.preview(item, 4, "more", rate)
    drawn = dict(zip(table["step"], table["value"], strict=True))
    assert words.startswith(f"From step {begin} on") and "10 steps = 5 epochs" in words
    assert set(drawn) == set(range(1, 11))
    queue.go_on_longer(home, "run", 10, rate)
    assert store.jobs(home)["run"] and queue.entry(home, "run").shown is Shown.WAITING
    assert main(["train", str(item.run.path)]) == 0
    trained = {step: event["rates"]["unet"] for step, event in steps(item.run).items()}
    assert trained == pytest.approx(drawn) and item.run.status().total == 10
    assert [(one.step, one.total, one.rate) for one in read_amendments(item.run)] == [(begin, 10, rate)]
    again, _ = longer.preview(queue.entry(home, "run"), 2, "more", "hold")
    kept = again[again["line"] == curves.PAST]
    assert dict(zip(kept["step"], kept["value"], strict=True)) == trained, "past steps are as they were"


def test_a_rate_that_has_come_to_nothing_is_said(home: Path) -> None:
    item = item_of(home)
    found = progress.track(item.run)
    now = amending.Standing(600, 600, 600, ())
    told = replace(found, rates={1: {"unet": 1e-3}, 600: {"unet": 1e-8}}, first=600)
    config = compose([config_now(item.run).model_dump(exclude_none=True), {"training": {"steps": 600}}], "keep")
    for rate, warned in (("hold", True), ("rewarm", False)):
        words = amending.ahead_words(told, now, 900, amending.rates_ahead(config, told, now, 900, rate))
        assert ("next to nothing is learned" in words) is warned


def test_a_long_curve_is_thinned_and_keeps_its_end(home: Path) -> None:
    item = item_of(home)
    table, _ = longer.preview(item, 100_000, "all", "rewarm")
    assert len(table) < 2 * curves.POINTS + 10 and table["step"].max() == 100_000


@pytest.mark.parametrize("number, counted", [(None, "more"), (0, "more"), (-3, "more"), (1.5, "more"), (6, "all")])
def test_what_is_no_length_is_refused_with_words(home: Path, number, counted: str) -> None:
    with pytest.raises(UserError):
        longer.preview(item_of(home), number, counted, "hold")
    table, words, button = longer._draw(_page(home), "run", number, counted, "hold")
    assert table is None and "wrong" in words and button.interactive is False


def _page(home: Path):
    class Page:  # only the home is looked at
        pass

    page = Page()
    page.home = home
    return page


def test_a_run_that_goes_on_or_waits_is_not_put_into_the_queue_again(home: Path) -> None:
    queue.go_on_longer(home, "run", 9, "hold")
    with pytest.raises(UserError, match="waiting"):
        queue.go_on_longer(home, "run", 12, "hold")
    assert pending(item_of(home).run).changes == {"training": {"steps": 9}}


def test_only_what_differs_is_asked_for(home: Path) -> None:
    item = stopped(home)
    config = config_now(item.run)
    same = (6, "steps", config.training.save_every, config.sampling.every, "\n".join(config.sampling.prompts))
    assert "Nothing differs" in changing.apply(item, *same) and pending(item.run) is None
    said = changing.apply(item, 12, "steps", "3", same[3], "a new one\n\n")
    assert said == "12 steps in all, a checkpoint every 3, 1 sample prompt: from when it goes on."
    wanted = {"training": {"steps": 12, "save_every": "3"}, "sampling": {"prompts": ["a new one"]}}
    assert pending(item.run).changes == wanted
    assert "12 steps in all" in amending.told_html(item.run)
    assert amending.standing(item, progress.track(item.run)).total == 12
    assert main(["train", str(item.run.path)]) == 0
    assert item.run.status().total == 12 and "From step <b>4</b>: 12 steps in all" in amending.told_html(item.run)


@pytest.mark.parametrize("unit, number, total", [("epochs", 3, 6), ("views", 4, 8), ("epochs", 2.5, 5)])
def test_every_unit_comes_to_the_steps_that_the_trainer_counts(home: Path, unit: str, number, total: int) -> None:
    item = stopped(home)
    changing.apply(item, number, unit, "2", "50%", "\n".join(config_now(item.run).sampling.prompts))
    found = progress.track(item.run)
    said = amending.steps_of(config_now(item.run), found)
    assert main(["train", str(item.run.path)]) == 0
    assert said == item.run.status().total == total


@pytest.mark.parametrize("given", [
    (0, "steps", "2", "50%", ""), (None, "views", "2", "50%", ""), (2.5, "steps", "2", "50%", ""),
    (9, "steps", "often", "50%", ""), (9, "steps", "2", "sometimes", ""), (9, "steps", "", "50%", ""),
    (9, "steps", "auto", "50%", ""),
])  # fmt: skip
def test_a_mistake_is_said_and_nothing_is_asked_for(home: Path, given) -> None:
    item = stopped(home)
    with pytest.raises(UserError) as error:
        changing.apply(item, *given)
    assert error.value.fix and "pattern" not in str(error.value) and pending(item.run) is None


def test_a_changed_caption_is_refused_in_plain_words_before_anything_starts(home: Path, tmp_path: Path) -> None:
    item = stopped(home)
    pictures = shutil.copytree(item.run.config().dataset.path, tmp_path / "set")
    text = (item.run.path / "config.toml").read_text("utf-8")
    (item.run.path / "config.toml").write_text(text.replace(item.run.config().dataset.path, str(pictures)), "utf-8")
    (item.run.path / "origin.json").unlink()
    assert main(["train", str(item.run.path)]) == 0
    item = stopped(home)
    caption = next(pictures.glob("*.txt"))
    caption.write_text("other words")
    _, text, as_new, as_begun = refusal.resume(_page(home), "run")
    assert f"the picture or caption set/{caption.stem}" in text and as_new.visible and as_begun.visible
    assert not store.jobs(home), "it was not put into the queue"
    assert not refusal._show(_page(home), "run")[0].visible, "until somebody asks, or the trainer refuses"
    assert main(["train", str(item.run.path)]) == 2
    assert refusal._show(_page(home), "run")[0].visible
    run = queue.go_on_as_new(home, "run")
    assert run.name == "run-2" and [step_of(path) for path in list_checkpoints(run.checkpoints)] == [0]
    assert store.jobs(home)["run-2"] and item_of(home).shown is Shown.FAILED
    refusal._as_begun(_page(home), "run")
    assert item_of(home).shown is Shown.WAITING and not refusal.refusal(item_of(home))[1]


def go_on(home: Path, *set_: str, **options) -> None:
    resume("run", set_=list(set_), data_dir=home, **{"as_new": False, "as_begun": False, "as_json": False, **options})


def test_a_refused_resume_leaves_a_finished_run_as_it_was(home: Path) -> None:
    run = item_of(home).run
    before, path = run.status(), run.path / "origin.json"
    origin = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**origin, "pictures": dict.fromkeys(origin["pictures"], "other")}), "utf-8")
    with pytest.raises(UserError, match="cannot go on as the same run"):
        go_on(home, "training.steps=8", rate="hold")
    assert run.status() == before and pending(run) is None
    with pytest.raises(UserError, match="it has done 6 steps already"):
        go_on(home, "training.steps=6", rate="hold", as_begun=True)
    assert run.status() == before and pending(run) is None


@pytest.mark.parametrize("given", [(), ("training.save_every=2",)])
def test_warming_up_again_needs_a_length(home: Path, given) -> None:
    with pytest.raises(UserError, match=r"--set training\.steps"):
        go_on(home, *given, rate="rewarm")
    assert pending(item_of(home).run) is None


def test_what_the_page_goes_by_differs_when_a_change_is_asked_for_and_taken(home: Path) -> None:
    keys = [amending.key(item_of(home))]
    ask(item_of(home).run, {"training": {"steps": 8}})
    keys.append(amending.key(item_of(home)))
    assert main(["train", str(item_of(home).run.path)]) == 0
    keys.append(amending.key(item_of(home)))
    assert len(set(keys)) == 3


def test_what_somebody_else_changed_meanwhile_is_not_taken_back(home: Path) -> None:
    item, page = stopped(home), _page(home)
    _, _, filled, *fields = changing._show(page, "run", "", *[None] * 5)
    ask(item.run, {"training": {"steps": 20}})
    edited = [*fields[:2], "3", *fields[3:]]
    _, told, *kept = changing._show(page, "run", filled, *edited)
    assert "20 steps in all" in told and all(value == gr.skip() for value in kept), "what is being typed stays"
    assert changing._show(page, "run", filled, *fields)[3] == 20, "where nobody types it follows"
    wanted = changing.touched(json.loads(filled)[1], edited, changing._values(item))
    assert changing.apply(item, *wanted) == "a checkpoint every 3: from when it goes on."
    assert pending(item.run).changes == {"training": {"steps": 20, "save_every": "3"}}


def test_other_adapter_settings_are_told_to_need_more_than_a_new_run(home: Path) -> None:
    item = stopped(home)
    path = item.run.path / "config.toml"
    path.write_text(path.read_text("utf-8").replace("rank = 4", "rank = 8"), "utf-8")
    _, text, as_new, as_begun = refusal.refusal(item)
    assert "adapter.rank was 4 and is 8" in text and "adapter.start" in text
    assert not as_begun.visible and not as_new.visible, "the trainer would refuse it"
