"""Captions by a model in a real browser: begun by one page, found by the next, stopped, resumed, taken back."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.tiny_captioners import make_blip
from trainer.pictures.album import open_album
from trainer.pictures.importing import import_pictures

COUNT = 150


@pytest.fixture
def mine(site: Site, tmp_path: Path) -> Path:
    """A set of pictures without captions."""
    (tmp_path / "photos").mkdir()
    for number in range(COUNT):
        shade = Image.linear_gradient("L").rotate(7 * number).resize((96, 72))
        colour = (40 + number, 200 - number, (90 * number) % 255)
        Image.composite(Image.new("RGB", (96, 72), colour), Image.new("RGB", (96, 72), "white"), shade).save(
            tmp_path / "photos" / f"{number:03}.png"
        )
    import_pictures([tmp_path / "photos"], site.home / "datasets" / "mine")
    return site.home / "datasets" / "mine"


def test_a_model_writes_captions_while_pages_come_and_go(page: Page, site: Site, mine: Path, tmp_path: Path) -> None:
    blip = make_blip(tmp_path / "blip")
    page.goto(site.address)
    expect(page.locator("#dataset-grid .tile").first).to_be_visible()
    page.locator("#dataset-captioner > button").click()
    expect(page.locator("#captioner-note")).to_contain_text("Licence MIT")
    expect(page.locator("#captioner-prompt")).to_be_hidden()
    model(page, "SmilingWolf/wd-vit-tagger-v3")
    expect(page.locator("#captioner-threshold")).to_be_visible()
    model(page, str(blip))
    expect(page.locator("#captioner-threshold")).to_be_hidden()
    page.locator("#captioner-prompt textarea, #captioner-prompt input").fill("a photo of")
    page.locator("#captioner-batch input").fill("1")
    page.locator("#captioner-start").dblclick()
    expect(told(page, "running")).to_be_visible()

    page.reload()
    expect(told(page, "running")).to_be_visible()
    expect(page.locator("#captioner-model input")).to_have_value(str(blip))
    expect(page.locator("#dataset-captioning")).to_be_hidden()
    expect(told(page, "running").locator("figcaption")).to_contain_text("a photo of")
    expect(told(page, "running")).to_contain_text("left")
    first = done(page)
    expect(page.locator("#captioner-told .run")).not_to_have_attribute("data-done", str(first))
    page.locator("#captioner-stop").click()
    expect(told(page, "stopped")).to_be_visible()
    assert first < done(page) < COUNT and not any(entry.captions for entry in open_album(mine).entries)
    expect(page.locator("#captioner-take")).to_have_text(f"Use the {done(page)} written so far")

    page.locator("#captioner-resume").click()
    expect(told(page, "done")).to_contain_text(f"{COUNT} pictures got a caption")
    expect(page.locator("#dataset-grid .tile span").first).to_contain_text("a photo of")
    assert all(entry.captions for entry in open_album(mine).entries)
    page.locator("#dataset-undo").click()
    expect(page.locator("#dataset-grid .tile span.none")).to_have_count(60)

    model(page, "someone/not-here")
    page.locator("#captioner-start").click()
    expect(told(page, "failed")).to_contain_text("hf download someone/not-here")


def model(page: Page, name: str) -> None:
    box = page.locator("#captioner-model input")
    box.fill(name)
    box.press("Enter")
    box.blur()


def told(page: Page, state: str) -> Locator:
    return page.locator(f"#captioner-told .run[data-state={state}]")


def done(page: Page) -> int:
    return int(page.locator("#captioner-told .run").get_attribute("data-done") or 0)
