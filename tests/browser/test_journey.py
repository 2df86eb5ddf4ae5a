"""The whole way in a real browser: pictures in, captions, training, reloads and crashes, the slider, the file."""

import base64
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from safetensors import safe_open

from tests.browser.conftest import Site
from tests.browser.preview_steps import use_preview
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir
from trainer.pictures.album import Entry, open_album

PICTURES = demo_folder() / "style"
FETCH = """async source => {
    const blob = await (await fetch(source)).blob();
    return await new Promise(done => {
        const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob);
    });
}"""

pytestmark = pytest.mark.skipif(
    not ((demo_folder() / "base").is_dir() and PICTURES.is_dir()), reason="the embedded base is not built yet"
)


def test_pictures_in_adapter_out(page: Page, site: Site, tmp_path: Path) -> None:
    page.goto(site.address)
    page.wait_for_selector("html[data-live=yes]")
    upload_six(page, site)
    edit_a_caption(page, site)
    choose_a_base(page)
    choose_a_length(page)
    find_and_put_back(page)
    long = train(page, site, "long", 3000)
    watch(page, "long")
    crash_and_restart(page, site, long)  # the page is loaded again there, in the middle of a run
    stop(page, site, long)
    choose_a_base(page)  # a page that was loaded again assumes none
    train(page, site, "short", 30)
    expect(page.locator("#run-bar .run[data-run=short][data-state=done]")).to_be_visible(timeout=90_000)
    expect(page.locator("#run-samples img").first).to_be_visible()
    download(page, tmp_path, site)
    slide(page)
    use_preview(page, tmp_path)


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload_six(page: Page, site: Site) -> None:
    pictures = sorted(path for path in PICTURES.iterdir() if path.suffix in (".png", ".jpg", ".webp"))[:6]
    captions = [path.with_suffix(".txt") for path in pictures]
    page.locator("#dataset-upload input[type=file]").first.set_input_files([*pictures, *filter(Path.exists, captions)])
    expect(page.locator("#dataset-report")).to_contain_text("6 added")
    expect(page.locator("#dataset-grid .tile img")).to_have_count(6)
    assert sum(bool(entry.captions) for entry in entries(site)) == len(captions)


def entries(site: Site) -> tuple[Entry, ...]:
    return open_album(site.home / "datasets" / "my-pictures").entries


def edit_a_caption(page: Page, site: Site) -> None:
    before = entries(site)
    page.locator("#dataset-grid .tile").nth(1).click()
    box = page.locator("#dataset-caption textarea")
    expect(box).to_have_value(before[1].captions[0])
    box.fill("a thing that I describe myself")
    page.locator("#dataset-save").click()
    expect(box).to_have_value(before[2].captions[0])
    changed = [entry.captions for entry in entries(site) if entry not in before]
    assert changed == [("a thing that I describe myself",)]


def train(page: Page, site: Site, name: str, steps: int) -> RunDir:
    tab(page, "Train")
    expect(page.locator("#train-summary")).to_contain_text("6 pictures")
    page.locator("#train-unit input").click()
    page.get_by_role("option", name="steps", exact=True).click()
    page.locator("#train-length input").fill(str(steps))
    page.locator("#train-length input").blur()
    expect(page.locator("#train-lengths")).to_contain_text(f"{steps} steps = ")
    expect(page.locator("#train-pace input:checked")).to_have_value("own")
    page.locator("#train-name input, #train-name textarea").first.fill(name)
    few_samples(page)
    page.locator("#train-go").click()
    expect(page.locator(f"#run-bar .run[data-run={name}]")).to_be_visible()
    return RunDir(site.home / "runs" / name)


def choose_a_base(page: Page) -> None:
    """None is assumed for own pictures: it is asked for, and once it is chosen one can train, within a minute."""
    began = time.monotonic()
    tab(page, "Train")
    expect(page.locator("#train-base-note")).to_contain_text("No base is chosen yet")
    base = page.locator("#train-base input")
    expect(base).to_have_value("")
    base.click()
    page.get_by_role("option", name="Practice base", exact=False).click()
    expect(page.locator("#train-base-note")).to_contain_text("Files made with it work only here")
    expect(page.locator("#train-lengths")).to_contain_text("6 pictures in 1 shape")
    expect(page.locator("#train-lengths")).to_contain_text("MB, fp16")
    expect(page.locator("#train-go")).to_be_enabled()
    assert time.monotonic() - began < 60


def find_and_put_back(page: Page) -> None:
    """A word finds settings in groups that were never open; one that was changed goes back alone."""
    page.locator("#all-settings > button").click()
    find = page.locator("#train-search input")
    find.fill("rank inner")
    rank = page.locator("#set-adapter-rank input")
    expect(rank).to_be_visible()
    expect(page.locator("#set-adapter-dropout")).to_be_hidden()
    expect(page.locator("#group-engine")).to_be_hidden()
    rank.fill("8")
    rank.blur()
    page.locator("#changed button[data-setting='adapter.rank']").click()
    expect(page.locator("#changed")).to_contain_text("All as the preset has it.")
    expect(rank).to_have_value("16")
    find.press("Escape")
    expect(page.locator("#group-engine")).to_be_visible()
    page.locator("#all-settings > button").click()


def choose_a_length(page: Page) -> None:
    """A length fills the number; what a preset takes is told; a rate that is found fills optimiser and rate."""
    tab(page, "Train")
    expect(page.locator("#train-about")).to_contain_text("20 pictures take about")
    expect(page.locator("#train-pace input:checked")).to_have_value("good")
    number = page.locator("#train-length input")
    good = float(number.input_value())
    page.locator("#train-pace").get_by_text("Best", exact=True).click()
    expect(number).not_to_have_value(f"{good:g}")
    assert float(number.input_value()) > good
    page.locator("#all-settings > button").click()
    auto = page.locator("#train-auto-rate input")
    auto.check()
    expect(page.locator("#changed")).to_contain_text("optimizer.name adamw → prodigy")
    auto.uncheck()
    expect(page.locator("#changed")).to_contain_text("All as the preset has it.")
    page.locator("#all-settings > button").click()


def few_samples(page: Page) -> None:
    """Fewer sample pictures than the preset has, by All settings: what differs is told there."""
    if not page.locator("#set-sampling-steps").is_visible():
        page.locator("#all-settings > button").click()
        page.get_by_role("button", name="Sample pictures", exact=False).click()
    every, steps = page.locator("#set-sampling-every input"), page.locator("#set-sampling-steps input")
    every.fill("50%")
    every.press("Enter")
    steps.fill("8")
    steps.blur()
    expect(page.locator("#changed")).to_contain_text("sampling.steps 20 → 8")
    expect(page.locator("#changed")).to_contain_text("sampling.every 25% → 50%")


def watch(page: Page, name: str) -> None:
    """The page shows the run going on: the bar moves and the curve is there."""
    tab(page, "Queue")
    bar = page.locator(f"#run-bar .run[data-run={name}][data-state=training]")
    expect(bar).to_be_visible()
    first = int(bar.get_attribute("data-step") or 0)
    expect(bar).not_to_have_attribute("data-step", str(first))
    assert int(bar.get_attribute("data-step") or 0) > first
    expect(page.locator("#run-loss .vega-embed canvas, #run-loss svg.marks, #run-loss canvas").first).to_be_visible()


def crash_and_restart(page: Page, site: Site, run: RunDir) -> None:
    pid = run.status().pid
    site.kill()
    page.goto("about:blank")  # the page would load itself again once the server is back, in the middle of our own visit
    step = run.status().step
    site.start()
    limit = time.monotonic() + 30
    while run.status().step <= step:
        assert time.monotonic() < limit, "the run did not go on without the server"
        time.sleep(0.1)
    assert run.status().pid == pid
    page.goto(site.address)
    watch(page, run.name)


def stop(page: Page, site: Site, run: RunDir) -> None:
    page.locator("#run-stop").click()
    expect(page.locator(f"#run-bar .run[data-run={run.name}][data-state=stopped]")).to_be_visible()
    assert list(run.checkpoints.iterdir())
    expect(page.locator(f"#queue-rows [data-run={run.name}][data-state=stopped]")).to_be_visible()


def download(page: Page, tmp_path: Path, site: Site) -> None:
    page.evaluate("() => { window.left = 0; addEventListener('beforeunload', () => { window.left += 1; }); }")
    with page.expect_download() as started:
        page.locator("#run-download").click()
    target = tmp_path / started.value.suggested_filename
    started.value.save_as(target)
    assert target.name == "short.safetensors"
    assert page.evaluate("window.left") == 0, "the page has hung up"
    with safe_open(target, "np") as file:
        assert any(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118 - it is no mapping


def slide(page: Page) -> None:
    """At strength 0 both sides are the same picture; at 1 the style has come; moved back, it is gone again."""
    page.locator("#run-try").click()
    shown(page, "1.0")
    assert difference(page) > 4
    move(page, "0")
    shown(page, "0.0")
    assert difference(page) == 0
    move(page, "1")
    shown(page, "1.0")
    assert difference(page) > 4
    page.locator("#preview-strength-0 input[type=range]").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    shown(page, "0.8")


def move(page: Page, value: str) -> None:
    number = page.locator("#preview-strength-0 input[type=number]")
    number.fill(value)
    number.blur()


def shown(page: Page, strengths: str) -> None:
    expect(page.locator(f'#preview-bar .sides[data-strengths="{strengths}"]')).to_be_visible()
    expect(page.locator("#preview-result .duo[data-mark='']")).to_be_visible()
    expect(page.locator("#preview-result .under")).to_have_attribute("src", re.compile("^/previews/"))


def difference(page: Page) -> float:
    """Mean difference of the two pictures in the page, of 255."""
    images = page.locator("#preview-result img")
    expect(images).to_have_count(2)
    found = []
    for image in images.all():
        data = page.evaluate(FETCH, image.get_attribute("src"))
        found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB"), float))
    return float(abs(found[0] - found[1]).mean())
