"""The Queue tab in a real browser: the address, the film, the files, pause and resume by keyboard, copy, delete and
undo, and two runs compared."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app.saved_run import saved_run
from tests.browser.conftest import Site
from trainer.contract.compose import compose
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir, State, create_run
from trainer.formats.header import read_header

pytestmark = pytest.mark.skipif(not (demo_folder() / "base").is_dir(), reason="the embedded base is not built yet")


def test_runs_are_watched_ordered_and_compared(page: Page, site: Site) -> None:
    fox, mine = saved_run(site.home), training(site)
    page.goto(f"{site.address}?run=fox")
    expect(page.get_by_role("tab", name="Queue", exact=True)).to_have_attribute("aria-selected", "true")
    the_film_plays(page)
    the_files_are_used(page, fox)
    a_copy_is_made_deleted_and_brought_back(page, site)
    it_is_paused_and_goes_on_by_keyboard(page, mine)
    runs_are_compared(page)
    page.reload()
    expect(page.locator("#run-bar .run[data-run=mine]")).to_be_visible()
    page.get_by_role("tab", name="Library", exact=True).click()
    expect(page).not_to_have_url(re.compile("run="))


def training(site: Site) -> RunDir:
    """A run that nobody has started yet."""
    layer = {
        "model": {"base": "demo"}, "dataset": {"path": str(demo_folder() / "style")},
        "training": {"steps": 2000, "batch_size": 2}, "sampling": {"every": "never"},
    }  # fmt: skip
    return create_run(site.home, "mine", compose([layer]))


def the_film_plays(page: Page) -> None:
    film = page.locator("#run-samples")
    expect(film.locator("output")).to_have_text("step 300")
    picture = film.locator(".cells img").last
    expect(picture).to_have_attribute("src", re.compile(r"/runs/fox/samples/s000300-1\.png/film"))
    film.get_by_role("slider", name="Samples of step").press("Home")
    expect(film.locator("output")).to_have_text("step 100")
    expect(picture).to_have_attribute("src", re.compile("s000100-1"))
    expect(picture).to_have_js_property("naturalWidth", 64)
    film.get_by_role("button", name="Play: watch it learn").press("Enter")
    expect(film.locator("output")).to_have_text("step 300")
    expect(film.get_by_role("button", name="Play: watch it learn")).to_be_visible()
    picture.click()
    expect(page.locator("dialog.enlarged img")).to_have_attribute("src", re.compile("/large"))
    page.keyboard.press("Escape")
    expect(page.locator("dialog.enlarged")).to_have_count(0)


def the_files_are_used(page: Page, fox: RunDir) -> None:
    page.get_by_role("button", name="Use this one: fox-s000100.safetensors").click()
    expect(page.locator("#run-saves th").first).to_contain_text("the chosen one")
    assert read_header(fox.best_file).metadata["ss_steps"] == "100"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download fox-s000200.safetensors").click()
    assert download.value.suggested_filename == "fox-s000200.safetensors"
    page.get_by_role("button", name="Preview this: fox-s000200.safetensors").click()
    expect(page.locator("#preview-file-0")).to_have_value(str(fox.step_file(200)))
    page.get_by_role("tab", name="Queue", exact=True).click()
    page.locator("#run-checkpoints").click()
    expect(page.locator("#preview-result th[scope=row]")).to_have_text(["step 100", "step 200", "the end"])
    expect(page.locator("#preview-file-0")).to_have_value(str(fox.adapter_file))
    page.get_by_role("tab", name="Queue", exact=True).click()
    expect(page).to_have_url(re.compile("run=fox$"))


def a_copy_is_made_deleted_and_brought_back(page: Page, site: Site) -> None:
    page.locator("#run-duplicate").click()
    expect(page.locator("#run-bar .run[data-run=fox-2]")).to_be_visible()
    expect(page).to_have_url(re.compile("run=fox-2$"))
    expect(page.locator("#run-resume")).to_have_text("Start")
    page.locator("#run-delete").click()
    expect(page.locator("#queue-rows [data-run=fox-2]")).to_have_count(0)
    assert not (site.home / "runs" / "fox-2").exists()
    page.locator("#queue-undo").click()
    expect(page.locator("#queue-rows [data-run=fox-2]")).to_be_visible()
    assert (site.home / "runs" / "fox-2").is_dir()


def it_is_paused_and_goes_on_by_keyboard(page: Page, mine: RunDir) -> None:
    row = page.locator("#queue-rows [data-run=mine]")
    row.locator(".open").press("Enter")
    row.get_by_role("button", name="Start or resume mine").press("Enter")
    expect(page.locator("#queue-rows [data-run=mine][data-state=training]")).to_be_visible(timeout=120_000)
    expect(row.locator(".figures")).to_contain_text("of 2000")
    row.get_by_role("button", name="Pause mine").press("Enter")
    expect(page.locator("#run-bar .run[data-run=mine][data-state=paused]")).to_be_visible(timeout=120_000)
    step = mine.status().step
    assert mine.status().state is State.STOPPED and step > 0
    row.get_by_role("button", name="Start or resume mine").press("Enter")
    expect(page.locator("#queue-rows [data-run=mine][data-state=training]")).to_be_visible(timeout=120_000)
    assert mine.status().step >= step
    page.locator("#run-stop").click()
    expect(page.locator("#run-bar .run[data-run=mine][data-state=stopped]")).to_be_visible(timeout=120_000)


def runs_are_compared(page: Page) -> None:
    page.locator("#queue-versus").click()
    page.locator("#compare-runs input").click()
    page.get_by_role("option", name="fox", exact=True).click()
    expect(page.locator("#compare-table")).to_contain_text("training.steps")
    expect(page.locator("#compare-table thead")).to_contain_text("mine")
    expect(page.locator("#compare-plot canvas, #compare-plot svg.marks").first).to_be_visible()
