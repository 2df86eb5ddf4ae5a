"""The Dataset tab in a real browser: folders and zips in, captions by the keyboard, many at once, the doctor, crops."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Site
from trainer.pictures.album import Entry, edit, open_album
from trainer.pictures.tags import set_captions

TAGS = ("a cat, red hair, solo", "a dog, on a chair", "a bird, blue sky, solo")


def picture(path: Path, number: int, size: tuple[int, int] = (120, 60)) -> Path:
    """Noise that no other picture is like, with a caption beside all but every fourth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    if number % 4:
        path.with_suffix(".txt").write_text(TAGS[number % 3] + "\n", "utf-8")
    return path


def entries(site: Site, name: str) -> tuple[Entry, ...]:
    return open_album(site.home / "datasets" / name).entries


def captions(site: Site, name: str) -> list[str]:
    return ["\n".join(entry.captions) for entry in entries(site, name)]


def new_set(page: Page, name: str) -> None:
    page.locator("#dataset-name input, #dataset-name textarea").first.fill(name)
    page.locator("#dataset-create").click()
    expect(page.locator("#dataset-set input")).to_have_value(name)


def field(page: Page, name: str):
    return page.locator(f"#{name} input, #{name} textarea").first


def test_a_thousand_pictures_in_folders_and_a_zip(page: Page, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for number in range(1000):  # the same ten file names in a hundred folders
        picture(folder / f"{number // 10}" / f"{number % 10}.png", number)
    page.goto(site.address)
    new_set(page, "folders")
    page.locator("#dataset-upload input[webkitdirectory]").set_input_files(folder)
    expect(page.locator("#dataset-report progress")).to_be_visible()
    page.reload()
    expect(page.locator("#dataset-report")).to_contain_text(re.compile("of 1000 pictures|1000 added"))
    expect(page.locator("#dataset-report")).to_contain_text("1000 added", timeout=120_000)
    found = {entry.name: entry for entry in entries(site, "folders")}
    assert len(found) == 1000 and sum(not entry.captions for entry in found.values()) == 250
    one = next(entry for name, entry in found.items() if name.endswith("57/3.png"))
    assert one.captions == (TAGS[573 % 3],), "a caption stays with the picture of its own folder"
    expect(page.locator("#dataset-grid .tiles-head")).to_contain_text("1000 pictures")
    expect(page.locator("#dataset-grid .tile")).to_have_count(60)
    page.locator("#dataset-grid [data-page='1']").click()
    expect(page.locator("#dataset-grid .turn")).to_contain_text("61–120")
    assert not any((site.home / ".cache" / "uploads").iterdir()), "nothing of the upload is left"

    with zipfile.ZipFile(tmp_path / "some.zip", "w") as bundle:
        for number in (2, 3):
            path = picture(tmp_path / "zipped" / f"{number}.png", 5000 + number)
            bundle.write(path, f"{number}/same.png")
            bundle.write(path.with_suffix(".txt"), f"{number}/same.txt")
        bundle.writestr("broken.png", b"no picture")
    new_set(page, "zipped")
    page.locator("#dataset-upload input[type=file]").first.set_input_files(tmp_path / "some.zip")
    expect(page.locator("#dataset-report")).to_contain_text("2 added")
    expect(page.locator("#dataset-report")).to_contain_text("some.zip/broken.png")
    expect(page.locator("#dataset-report")).not_to_contain_text(".cache")
    assert len(captions(site, "zipped")) == 2 and all(captions(site, "zipped"))


def test_an_upload_goes_where_it_was_dropped(page: Page, site: Site, tmp_path: Path) -> None:
    for number in range(1, 5):
        picture(tmp_path / "mine" / f"{number}.png", number)
        picture(tmp_path / "later" / f"{number}.png", 10 + number)
    page.goto(site.address)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.locator("#dataset-upload input[type=file]").first.set_input_files(broken)
    expect(page.locator("#dataset-report")).to_contain_text("1 not usable")
    expect(page.locator("#dataset-set input")).to_have_value("")
    assert not list((site.home / "datasets").iterdir()), "no empty set is left behind"
    new_set(page, "first")
    held: list[Route] = []
    page.route("**/uploads/*/*/*", lambda route: held.append(route))
    for name in ("mine", "later"):
        with page.expect_file_chooser() as asked:
            page.get_by_role("button", name="Choose a folder").press("Enter")
        asked.value.set_files(tmp_path / name)
    expect(page.locator("#dataset-upload .queued")).to_contain_text("Another upload waits")
    eventually(lambda: bool(held), page)
    new_set(page, "second")
    page.unroute("**/uploads/*/*/*")  # what was held goes on
    expect(page.locator("#dataset-report")).to_contain_text("first: 4 added")
    eventually(lambda: len(entries(site, "first")) == 8, page)
    expect(page.locator("#dataset-report")).to_contain_text("first: 4 added")
    expect(page.locator("#dataset-set input")).to_have_value("second")
    assert not entries(site, "second")

    page.route("**/uploads", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>"))
    page.locator("#dataset-upload input[webkitdirectory]").set_input_files(tmp_path / "mine")
    expect(page.locator("#dataset-upload .sending")).to_contain_text("answered 502")
    page.evaluate("""document.querySelector("#dataset-upload .drop").dispatchEvent(
        new DragEvent("drop", { bubbles: true, dataTransfer: new DataTransfer() }))""")
    expect(page.locator("#dataset-upload .sending")).to_contain_text("There is no file in it")


@pytest.fixture
def twelve(page: Page, site: Site, tmp_path: Path) -> list[Path]:
    """A set of twelve pictures, two of them the same file, that is open in the page."""
    paths = [picture(tmp_path / "mine" / f"{number}.png", number) for number in range(1, 12)]
    doubled = tmp_path / "mine" / "12.png"
    Image.open(paths[0]).resize((60, 30)).save(doubled)
    page.goto(site.address)
    new_set(page, "twelve")
    page.locator("#dataset-upload input[webkitdirectory]").set_input_files(tmp_path / "mine")
    expect(page.locator("#dataset-grid .tile")).to_have_count(12)
    return [*paths, doubled]


def test_work_on_a_set(page: Page, site: Site, twelve: list[Path]) -> None:
    for part in (by_keyboard, many_at_once, selected, a_fix, the_crop, as_train_has_it, a_share, trigger_word):
        part(page, site)


def by_keyboard(page: Page, site: Site) -> None:
    before, box = captions(site, "twelve"), page.locator("#dataset-caption textarea")
    name = page.locator("#dataset-stage figcaption")
    page.locator("#dataset-grid .tile").first.click()
    expect(name).to_contain_text("1.png")
    box.fill("typed with the keyboard\nand a second one")
    page.keyboard.press("Control+Enter")
    page.keyboard.type("third", delay=5)  # the next picture is on its way
    expect(name).to_contain_text("2.png")
    expect(box).to_have_value(before[1] + "third")
    box.fill(before[1])
    page.keyboard.press("Alt+ArrowDown")
    expect(name).to_contain_text("3.png")
    page.keyboard.press("Alt+ArrowUp")
    expect(name).to_contain_text("2.png")
    box.fill("kept when one leaves")
    field(page, "dataset-filter").focus()
    first = "typed with the keyboard\nand a second one"
    eventually(lambda: captions(site, "twelve") == [first, "kept when one leaves", *before[2:]], page)
    for back in ([first, *before[1:]], before):
        undone(page, site, back, most=3)  # a slow machine saves by itself what stood there in between


def undone(page: Page, site: Site, expected: list[str], most: int = 1) -> None:
    for _ in range(most):
        now = captions(site, "twelve")
        page.locator("#dataset-undo").click()
        eventually(lambda now=now: captions(site, "twelve") != now, page)
        if captions(site, "twelve") == expected:
            return
    assert captions(site, "twelve") == expected


def many_at_once(page: Page, site: Site) -> None:
    before = captions(site, "twelve")
    page.locator("#dataset-bulk > button").click()
    page.locator("#bulk-pattern input").check()
    field(page, "bulk-first").fill("(cat")
    page.locator("#bulk-apply").click()
    expect(page.locator(".toast-body")).to_contain_text("no regular expression")
    page.locator(".toast-close").click()
    field(page, "bulk-first").fill(r"\b(cat|dog)\b")
    field(page, "bulk-second").fill(r"big \1")
    expect(page.locator("#bulk-preview")).to_contain_text("6 of 12 pictures would change")
    expect(page.locator("#bulk-preview table")).to_contain_text("a big dog, on a chair")
    assert captions(site, "twelve") == before, "a look changes nothing"
    page.locator("#bulk-apply").click()
    expect(page.locator("#dataset-undo")).to_contain_text("find and replace")
    after = captions(site, "twelve")
    assert after == [text.replace("cat", "big cat").replace("dog", "big dog") for text in before] != before
    page.locator("#dataset-tags [data-tag='a big dog']").click()
    expect(page.locator("#dataset-grid .tiles-head")).to_contain_text(f"{sum('dog' in text for text in after)} of 12")
    field(page, "dataset-filter").fill("")
    expect(page.locator("#dataset-grid .tile")).to_have_count(12)
    undone(page, site, before)


def selected(page: Page, site: Site) -> None:
    tiles = page.locator("#dataset-grid .tile")
    tiles.nth(1).click()
    expect(page.locator("#dataset-stage figcaption")).to_contain_text("2.png")
    tiles.nth(3).click(modifiers=["Shift"])
    expect(page.locator("#dataset-out")).to_have_text("Leave out 3 selected")
    tiles.nth(5).click(modifiers=["Control"])
    expect(page.locator("#dataset-out")).to_have_text("Leave out 4 selected")
    page.locator("#dataset-out").click()
    expect(page.locator("#dataset-grid .tile.out")).to_have_count(4)
    assert [entry.excluded for entry in entries(site, "twelve")] == [number in (1, 2, 3, 5) for number in range(12)]
    page.locator("#dataset-undo").click()
    expect(page.locator("#dataset-grid .tile.out")).to_have_count(0)
    tiles.first.click()
    expect(page.locator("#dataset-out")).to_have_text("Leave out")


def a_fix(page: Page, site: Site) -> None:
    page.locator("#dataset-doctor > button").click()
    page.locator("#doctor-check").click()
    card = page.locator(".finding[data-kind=near_duplicate]")
    expect(card.locator("figure")).to_have_count(2)
    card.locator(".fixes button").first.click()
    expect(card.locator(".done")).to_be_visible()
    assert [entry.name.rpartition("/")[2] for entry in entries(site, "twelve") if entry.excluded] == ["12.png"]
    page.locator("#dataset-undo").click()
    expect(card.locator(".fixes button")).to_be_visible()
    card.locator("figure button").first.click()
    expect(card.locator("figure.out")).to_have_count(1)
    assert sum(entry.excluded for entry in entries(site, "twelve")) == 1
    page.locator("#dataset-undo").click()
    expect(card.locator("figure.out")).to_have_count(0)


def the_crop(page: Page, site: Site) -> None:
    page.locator("#dataset-grid .tile").nth(4).click()
    expect(page.locator("#dataset-stage figcaption")).to_contain_text("5.png")
    kept, stage = page.locator("#dataset-stage .kept"), page.locator("#dataset-stage .picture")
    middle = kept.get_attribute("x") or ""
    box = stage.bounding_box()
    assert box and float(middle) > 0
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    expect(kept).not_to_have_attribute("x", middle)
    x, y = entries(site, "twelve")[4].focus or (0, 0)
    assert x == pytest.approx(0.97, abs=0.02) and y == pytest.approx(0.5, abs=0.02)
    right = float(kept.get_attribute("x") or 0) + float(kept.get_attribute("width") or 0)
    assert right == pytest.approx(120), "the kept part went to the right edge"
    page.locator("#dataset-unfocus").click()
    expect(kept).to_have_attribute("x", middle)
    assert entries(site, "twelve")[4].focus is None


def as_train_has_it(page: Page, site: Site) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-base input").click()
    page.get_by_role("option", name="Practice base", exact=False).click()
    page.locator("#all-settings > button").click()
    page.locator("#all-settings").get_by_role("button", name="Pictures ▼", exact=True).click()
    page.locator("#set-dataset-resolution input").fill("96, 128")
    page.keyboard.press("Tab")
    page.get_by_role("tab", name="Dataset", exact=True).click()
    expect(page.locator("#dataset-eye input")).to_have_value("As in Train: 96, 128 px")
    expect(page.locator("#dataset-stage .kept")).to_have_count(2)
    expect(page.locator("#dataset-stage figcaption")).to_contain_text("128")


def a_share(page: Page, site: Site) -> None:
    page.locator("#dataset-concepts > button").click()
    page.locator("#concept-name input").fill("few")
    page.keyboard.press("Enter")
    expect(page.locator("#concept-name input")).to_have_value("few")
    page.locator("#concept-put").click()
    expect(page.locator("#concept-table [data-testid=cell-0-2]")).to_contain_text("8%")
    part, share = (page.locator(f"#concept-table [data-testid=cell-0-{column}]") for column in (2, 6))
    share.dblclick()
    expect(share.locator("textarea")).to_be_focused()  # keys before that go elsewhere
    share.locator("textarea").fill("50%")
    page.keyboard.press("Enter")
    expect(part).to_contain_text("50%")
    assert open_album(site.home / "datasets" / "twelve").concepts["few"].share == 0.5


def trigger_word(page: Page, site: Site) -> None:
    field(page, "dataset-trigger").fill("red dog")
    expect(page.locator("#dataset-trigger-note")).to_contain_text("“red dog” is a common word")
    field(page, "dataset-trigger").fill("ohwx")
    page.get_by_role("tab", name="Train", exact=True).click()  # at once: it is kept when the field is left
    expect(field(page, "train-trigger")).to_have_value("ohwx")
    page.get_by_role("tab", name="Dataset", exact=True).click()
    field(page, "dataset-trigger").fill("sks")
    expect(page.locator("#dataset-trigger-note .warning")).to_have_count(0)
    field(page, "dataset-class").fill("dog")
    field(page, "dataset-class").blur()
    eventually(lambda: open_album(site.home / "datasets" / "twelve").class_word == "dog", page)
    page.get_by_role("tab", name="Train", exact=True).click()
    expect(field(page, "train-trigger")).to_have_value("sks")
    assert open_album(site.home / "datasets" / "twelve").trigger == "sks"
    taught = page.locator("#train-preset input:checked")
    expect(taught).to_have_value("style")
    page.get_by_role("tab", name="Dataset", exact=True).click()
    page.locator("#dataset-sample-subject").click()
    page.get_by_role("tab", name="Train", exact=True).click()
    expect(taught).to_have_value("subject")


def test_nothing_typed_is_lost(page: Page, site: Site, twelve: list[Path]) -> None:
    for part in (clicks_in_a_row, keys_of_other_boxes, changed_elsewhere, by_itself):
        part(page, site)


def clicks_in_a_row(page: Page, site: Site) -> None:
    page.evaluate("""() => [3, 1, 2, 5].forEach((place, count) => {
        const click = new MouseEvent("click", { bubbles: true, ctrlKey: count > 0 });
        document.querySelectorAll("#dataset-grid .tile")[place].dispatchEvent(click);
    })""")
    expect(page.locator("#dataset-delete")).to_have_text("Delete 4 selected")
    page.locator("#dataset-delete").click()
    expect(page.locator("#dataset-grid .tile")).to_have_count(8)
    assert [Path(entry.name).stem for entry in entries(site, "twelve")] == ["1", "5", *map(str, range(7, 13))]
    page.locator("#dataset-undo").click()
    expect(page.locator("#dataset-grid .tile")).to_have_count(12)


def keys_of_other_boxes(page: Page, site: Site) -> None:
    name = page.locator("#dataset-stage figcaption")
    page.locator("#dataset-grid .tile").first.click()
    expect(name).to_contain_text("1.png")
    field(page, "dataset-filter").press("Alt+ArrowDown")
    field(page, "dataset-filter").press("Control+Enter")
    field(page, "dataset-caption").press("Alt+ArrowRight")
    field(page, "dataset-caption").press("Alt+ArrowDown")
    expect(name).to_contain_text("2.png")


def changed_elsewhere(page: Page, site: Site) -> None:
    folder, second = site.home / "datasets" / "twelve", entries(site, "twelve")[1]
    box = field(page, "dataset-caption")
    other = "of another tab"
    edit(folder, "elsewhere", [second.id], set_captions(other))
    box.fill("typed here")
    box.press("Control+Enter")
    expect(page.locator(".toast-item").first).to_contain_text(f"now it says: {other}")
    expect(box).to_be_editable()
    expect(box).to_have_value("typed here")
    assert captions(site, "twelve")[1] == other
    box.press("Control+Enter")
    expect(page.locator("#dataset-stage figcaption")).to_contain_text("3.png")
    assert captions(site, "twelve")[1] == "typed here"


def by_itself(page: Page, site: Site) -> None:
    box = field(page, "dataset-caption")
    box.fill("saved ")
    eventually(lambda: captions(site, "twelve")[2] == "saved", page)
    box.press_sequentially("while typing")
    expect(box).to_have_value("saved while typing")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]


def eventually(holds: Callable[[], bool], page: Page, times: int = 300) -> None:
    for _ in range(times):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come about")
