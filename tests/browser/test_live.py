"""A run that is changed in a real browser: its length while it is stopped, then longer after its end, the curve first;
and a resume that is refused because a caption changed, with a new run that goes on from what was learned."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from trainer.contract.amendments import read_amendments
from trainer.contract.compose import compose
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir, create_run, steps

pytestmark = pytest.mark.skipif(not (demo_folder() / "base").is_dir(), reason="the embedded base is not built yet")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of four pictures with captions."""
    (tmp_path / "pictures").mkdir()
    for path in sorted((demo_folder() / "style").iterdir())[:8]:
        shutil.copy(path, tmp_path / "pictures")
    return tmp_path / "pictures"


@pytest.fixture
def run(site: Site, pictures: Path) -> RunDir:
    """A run that nobody has started yet."""
    layer = {
        "model": {"base": "demo"},
        "dataset": {"path": str(pictures)},
        "adapter": {"targets": "transformer"},
        "optimizer": {"learning_rate": 1e-3},
        "training": {"steps": 2000, "batch_size": 2},
        "sampling": {"every": "never"},
    }
    return create_run(site.home, "mine", compose([layer]))


def test_a_run_is_changed_and_continued(page: Page, site: Site, run: RunDir, pictures: Path) -> None:
    page.goto(site.address)
    page.get_by_role("tab", name="Queue", exact=True).click()
    page.locator("#run-resume").click()
    state(page, "training")
    change_while_it_runs(page, run)
    continue_longer(page, run)
    refused_and_continued_as_new(page, site, pictures)


def state(page: Page, name: str) -> Locator:
    shown = page.locator(f"#run-bar .run[data-run=mine][data-state={name}]")
    expect(shown).to_be_visible(timeout=120_000)
    return shown


def change_while_it_runs(page: Page, run: RunDir) -> None:
    page.locator("#run-change > button").click()
    expect(page.locator("#change-length input")).to_have_value("2000")
    page.locator("#change-saves input").fill("often")
    page.locator("#change-saves input").press("Enter")
    page.locator("#change-apply").click()
    expect(page.get_by_text("'often' is no number of steps")).to_be_visible()
    page.locator("#change-saves input").fill("10")
    page.locator("#change-saves input").press("Enter")
    page.locator("#change-length input").fill(str(run.status().step + 40))
    wanted = page.locator("#change-length input").input_value()
    page.locator("#change-apply").click()
    expect(page.locator("#change-told")).to_contain_text(f"{wanted} steps in all, a checkpoint every 10")
    done = state(page, "done")
    expect(done).to_contain_text(f"of {wanted}")
    expect(page.locator("#change-told")).to_contain_text("From step")
    assert [one.total for one in read_amendments(run)] == [int(wanted)] == [run.status().total]
    expect(page.locator("#run-change")).to_be_hidden()


def continue_longer(page: Page, run: RunDir) -> None:
    total = run.status().total
    page.locator("#run-longer > button").click()
    expect(page.locator("#longer-plot canvas, #longer-plot svg.marks").first).to_be_visible()
    page.locator("#longer-number input").fill("20")
    expect(page.locator("#longer-words")).to_contain_text(f"From step {total} on: {total + 20} steps")
    page.get_by_label("warm up again").check()
    page.locator("#longer-go").click()
    expect(state(page, "done")).to_contain_text(f"of {total + 20}", timeout=120_000)
    assert list(steps(run))[-1] == total + 20 == run.status().total
    assert read_amendments(run)[-1].rate == "rewarm"


def refused_and_continued_as_new(page: Page, site: Site, pictures: Path) -> None:
    caption = next(pictures.glob("*.txt"))
    caption.write_text("other words")
    page.locator("#longer-go").click()
    expect(page.locator("#run-refused")).to_contain_text(f"the picture or caption pictures/{caption.stem}")
    expect(page.locator("#run-download")).to_be_visible()
    page.locator("#run-as-new").click()
    expect(page.locator("#run-bar .run[data-run=mine-2]")).to_be_visible()
    expect(page.locator("#run-refused")).to_be_hidden()
    assert [path.name for path in RunDir(site.home / "runs" / "mine-2").checkpoints.iterdir()] == ["step-000000"]
