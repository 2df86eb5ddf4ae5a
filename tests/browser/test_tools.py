"""The Library's tools in a real browser: analysed, resized, merged; what is made stands in the library."""

from playwright.sync_api import Page, expect

from app.jobs.executors import local
from tests.browser.conftest import Site
from tests.trainer.export.test_tools import make
from trainer.formats.inspect import inspect


def test_an_adapter_is_analysed_resized_and_merged(page: Page, site: Site) -> None:
    said = {"ss_base_model_version": "lora-atelier-demo"}
    for seed, name in enumerate(("other", "mine")):
        make(site.home / "library" / f"{name}.safetensors", "demo", rank=8, seed=seed, **said)
    page.set_viewport_size({"width": 800, "height": 1000})  # so narrow, all four tools are to be seen
    page.goto(site.address)
    page.get_by_role("tab", name="Library").click()
    expect(page.locator("#library-head")).to_contain_text("mine")
    page.locator("#library-tools > button").click()
    page.locator("#tools-analyze").click()
    expect(page.locator("#tools-advice")).to_contain_text("holds 95% of its energy in rank")
    expect(page.locator("#tools-plot canvas, #tools-plot svg.marks").first).to_be_visible()

    page.get_by_role("tab", name="Resize").click()
    page.locator("#tools-rank input[type=number]").fill("2")
    page.locator("#tools-rank input[type=number]").blur()
    page.locator("#tools-resize").click()
    expect(page.locator("#tools-told [data-state=done]")).to_contain_text("mine-rank2.safetensors is written")
    expect(page.locator("#library-gallery")).to_contain_text("mine-rank2")
    assert inspect(site.home / "library" / "mine-rank2.safetensors").ranks == (2,)

    page.get_by_role("tab", name="Convert").click()
    page.locator("#tools-convert").click()
    page.locator("#tools-told progress").wait_for()
    _reloaded(page, site)
    page.locator("#tools-stop").click()
    expect(page.locator("#tools-told [data-state=failed]")).to_contain_text("stopped; nothing was written")
    expect(page.locator("#tools-stop")).to_be_hidden()
    assert not [path for path in (site.home / "library").iterdir() if "kohya" in path.name]

    page.get_by_role("tab", name="Merge").click()
    page.locator("#tools-others input").click()
    page.get_by_role("option", name="other").click()
    page.locator("#tools-strengths textarea, #tools-strengths input").fill("1, 0.5, 3")
    page.locator("#tools-merge").click()
    expect(page.locator("#tools-told [data-state=failed]")).to_contain_text("3 strengths for 2 adapters")
    page.locator("#tools-strengths textarea, #tools-strengths input").fill("1, -0.5")
    page.locator("#tools-merge").click()
    expect(page.locator("#tools-told [data-state=done]")).to_contain_text("rank 16")
    assert inspect(site.home / "library" / "mine-other.safetensors").ranks == (16,)
    assert not list((site.home / ".cache" / "tools").iterdir()), "nothing is left of what was done or stopped"


def _reloaded(page: Page, site: Site) -> None:
    """What is being done goes on under a page that is loaded again, and can be stopped there."""
    (place,) = (site.home / ".cache" / "tools").iterdir()
    process = local.find((place / "handle").read_text())
    assert process
    process.suspend()
    page.reload()
    page.get_by_role("tab", name="Library").click()
    expect(page.locator("#tools-told progress")).to_be_visible()
    expect(page.locator("#tools-stop")).to_be_visible()
    process.resume()
