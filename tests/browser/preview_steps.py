"""What one does in Preview once a first adapter is there; `test_journey` goes through it."""

import io
import re
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from trainer.formats.parameters import parse_parameters


def use_preview(page: Page, folder: Path) -> None:
    """Everything with one adapter, which is drawn at 0.8."""
    few_steps(page)
    split_it(page)
    go_back(page)
    draw_a_sheet(page, folder)
    take_a_cell(page)
    change_your_mind(page)
    mistake(page)
    drop_a_picture(page, folder)


def number(page: Page, name: str = "strength") -> Locator:
    return page.locator(f"#preview-{name}-0 input[type=number]")


def drawn(page: Page, strengths: str) -> None:
    expect(page.locator(f'#preview-bar .sides[data-strengths="{strengths}"]')).to_be_visible()


def few_steps(page: Page) -> None:
    """Quick to draw, for a test."""
    page.locator("#preview-more > button").first.click()
    steps = page.locator("#preview-steps input[type=number]")
    steps.fill("8")
    steps.blur()
    page.locator("#preview-more > button").first.click()


def split_it(page: Page) -> None:
    """The text encoder has a strength of its own, beyond the slider by number; blocks by name; it can be left out."""
    expect(number(page, "text")).to_have_count(0)
    page.locator("#preview-rows .split").check()
    expect(number(page, "text")).to_have_value("0.8")
    number(page, "text").fill("2.5")
    number(page, "text").press("Enter")
    page.locator("#preview-rows .blocks").select_option("MIDD")
    right = page.locator("#preview-result .right")
    expect(right).to_have_text("with adapters at 0.8 (text 2.5) MIDD")
    expect(page.locator("#preview-result .load")).to_be_visible()
    page.locator("#preview-rows .on").uncheck()
    expect(right).to_have_text("no adapter: the base alone")
    drawn(page, "")
    page.locator("#preview-rows .on").check()
    drawn(page, "0.8")


def go_back(page: Page) -> None:
    """A thumbnail brings picture and settings back, with no drawing."""
    past = page.locator("#preview-history .past")
    expect(past.nth(3)).to_be_visible()
    past.last.click()
    expect(number(page)).to_have_value("1")
    expect(number(page, "text")).to_have_count(0)
    expect(page.locator("#preview-bar")).to_contain_text("from the history")
    few_steps(page)
    expect(page.locator("#preview-result .duo img")).to_have_count(2)


def draw_a_sheet(page: Page, folder: Path) -> None:
    """Eight strengths in one table, with labels, as a picture and as a zip."""
    page.locator("#preview-sheet").click()
    cells = page.locator("#preview-result .cell:enabled img")
    expect(cells).to_have_count(8)
    expect(page.locator("#preview-result thead th[scope]").nth(4)).to_have_text("0.85")
    one, whole = (page.locator("#preview-result .tools a").nth(at) for at in (0, 1))
    with page.expect_download() as started:
        one.click()
    with Image.open(started.value.path()) as sheet:
        assert "X/Y/Z plot" in sheet.text["parameters"] and "lora_atelier.grid" in sheet.text
    with page.expect_download() as started:
        whole.click()
    with zipfile.ZipFile(started.value.path()) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) == 9
        with Image.open(io.BytesIO(archive.read(next(name for name in names if name.endswith("-3.png"))))) as cell:
            assert parse_parameters(cell.text["parameters"]).loras[0].strength == 0.7
        (folder / "cell.png").write_bytes(archive.read(next(name for name in names if name.endswith("-3.png"))))


def take_a_cell(page: Page) -> None:
    """A cell by the keyboard: its settings are in the form, and there is a way back."""
    page.locator("#preview-result .cell").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(number(page)).to_have_value("0.5")
    expect(page.locator("#preview-result .right")).to_have_text("strength 0.5")
    page.locator("#preview-result .back").click()
    expect(number(page)).to_have_value("0.5")
    expect(page.locator("#preview-result .cell:enabled")).to_have_count(8)


def change_your_mind(page: Page) -> None:
    """A grid of two things whose values are typed; cancelled between two steps, and what is there stays."""
    page.locator("#preview-grid > button").first.click()
    page.locator("#preview-y input").click()
    page.get_by_role("option", name="seed", exact=True).click()
    expect(page.locator("#preview-y-values")).to_contain_text("45")
    page.locator("#preview-x input").click()
    page.get_by_role("option", name="guidance (CFG)", exact=True).click()
    values = page.locator("#preview-x-values input")
    values.fill("2, 4")
    values.press("Enter")
    page.locator("#preview-grid-go").click()
    expect(page.locator("#preview-result .cell")).to_have_count(20)
    page.locator("#preview-bar [data-act=cancel]").click()
    expect(page.locator("#preview-bar")).to_contain_text("Cancelled")
    page.locator("#preview-grid > button").first.click()


def mistake(page: Page) -> None:
    """What cannot be drawn is said, and the next thing is drawn as if nothing had been."""
    page.locator("#preview-more > button").first.click()
    sides = [page.locator(f"#preview-{side} input") for side in ("width", "height")]
    for side, value in zip(sides, ("100", "64"), strict=True):
        side.fill(value)
    page.locator("#preview-draw").click()
    expect(page.get_by_text("100x64 cannot be drawn")).to_be_visible()
    for side in sides:
        side.fill("0")
    page.locator("#preview-draw").click()
    drawn(page, "0.5")
    page.locator("#preview-more > button").first.click()


def drop_a_picture(page: Page, folder: Path) -> None:
    """The settings of a picture that was saved are in the form."""
    page.locator("#preview-from > button").first.click()
    page.locator("#preview-drop input[type=file]").set_input_files(folder / "cell.png")
    expect(number(page)).to_have_value("0.7")
    expect(page.locator("#preview-bar")).to_contain_text("its settings are in the form")
    expect(page.locator("#preview-result .right")).to_have_text(re.compile("as in .*cell.png"))
