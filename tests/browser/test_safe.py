"""In a real browser: logging in, and that nothing anybody wrote runs as a script, wherever the page shows it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, expect
from safetensors.numpy import save_file

from app.gate import accounts
from tests.browser.conftest import Site
from trainer.contract.compose import compose
from trainer.contract.rundir import State, create_run

WORD = "eleven cats on a roof"
TABS = ("Dataset", "Train", "Queue", "Preview", "Library", "Settings")


@pytest.fixture
def violations(page: Page) -> Iterator[list[str]]:
    """What the browser refused to do by the page's policy."""
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "violates" in message.text:
            said.append(message.text)

    page.on("console", hear)
    yield said


@pytest.fixture
def closed_site(site: Site) -> Site:
    """The page, asking for a login."""
    accounts.add(site.home, "ada", WORD, admin=False)
    site.kill()
    site.options = ["--login"]
    site.start()
    return site


def test_the_page_lives_within_its_policy(page: Page, site: Site, violations: list[str]) -> None:
    page.goto(site.address)
    for name in TABS:
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(400)
    assert violations == []


SCRIPTS = (
    "<img src=x onerror=\"window.ran='img'\">",
    "<svg onload=\"window.ran='svg'\">",
    "<script>window.ran='script'</script>",
    '"><iframe srcdoc="<script>parent.ran=\'frame\'</script>">',
    "'-(window.ran='quote')-'",
    "[a](javascript:window.ran='link') <a href=\"javascript:window.ran='a'\">x</a>",
    "</textarea><details open ontoggle=\"window.ran='toggle'\">",
    "${window.ran='dollar'} {{constructor.constructor('window.ran=1')()}} $$\\href{javascript:window.ran=2}{x}$$",
)


def poison(home: Path) -> None:
    """Scripts in every text that a user can store: names, captions, trigger words, prompts, metadata, logs."""
    everything = " ".join(SCRIPTS)
    folder = home / "datasets" / "<img src=x onerror=window.ran='set'>"
    folder.mkdir(parents=True)
    for number, text in enumerate(SCRIPTS):
        name = f"<img src=x onerror=window.ran='file{number}'>"
        Image.new("RGB", (64, 64), (number * 20, 0, 0)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    config = compose([{
        "dataset": {"path": str(folder), "trigger": SCRIPTS[0], "class_word": SCRIPTS[1]},
        "sampling": {"prompts": [everything], "negative": SCRIPTS[2]},
    }])  # fmt: skip
    run = create_run(home, "poisoned", config)
    metadata = {"ss_output_name": everything, "modelspec.title": everything, "ss_training_comment": everything,
                "ss_tag_frequency": json.dumps({everything: {everything: 1}}), "modelspec.trigger_phrase": everything,
                "ss_base_model_version": everything, "modelspec.author": everything}  # fmt: skip
    tensors = {f"lora_unet_{SCRIPTS[0]}.lora_down.weight": np.zeros((4, 8), np.float32),
               f"lora_unet_{SCRIPTS[0]}.lora_up.weight": np.zeros((8, 4), np.float32)}  # fmt: skip
    save_file(tensors, run.adapter_file, metadata)
    shutil.copy(run.adapter_file, home / "library" / "<img src=x onerror=window.ran='adapter'>.safetensors")
    run.log.write_text(everything)
    run.write_status(State.FAILED, message=everything, fix=everything)
    sheet = run.samples / "step-1.png"
    Image.new("RGB", (64, 64)).save(sheet)
    event = {"kind": "sample", "step": 1, "file": sheet.name, "prompt": everything, "seed": 1, "strength": 1.0}
    (run.path / "events.jsonl").write_text(json.dumps(event) + "\n")


def test_nothing_that_is_stored_runs(page: Page, site: Site, violations: list[str]) -> None:
    poison(site.home)
    page.set_default_timeout(20_000)
    page.goto(f"{site.address}?run=poisoned")
    for name in TABS:
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(1200)
        if name == "Queue":
            page.locator("#queue-rows [data-run=poisoned] .open").click()
            page.wait_for_timeout(600)
        if name == "Library":
            for number in range(2):
                page.locator("#library-gallery .open").nth(number).click()
                page.wait_for_timeout(800)
        assert page.evaluate("window.ran") is None, name
    text = page.locator("body").inner_text()
    assert "onerror" in page.content() and text, "the names were shown, as text"
    assert violations == [], "nothing even tried: what is stored is escaped, the policy is behind that"
    page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror=\"window.ran='control'\">`)")
    for _ in range(600):
        if violations:
            break
        page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None and violations, "one that slipped through is stopped by the policy"


def test_logging_in(page: Page, tmp_path: Path, closed_site: Site) -> None:
    page.goto(f"{closed_site.address}?run=mine")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not fit together")
    expect(page.get_by_label("Password")).to_be_focused()
    for look in ("light", "dark"):
        page.emulate_media(color_scheme=look)
        page.screenshot(path=tmp_path / f"login-{look}.png")
    page.keyboard.type(WORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Dataset", exact=True)).to_be_visible()
    assert page.url.endswith("?run=mine")
    page.get_by_role("tab", name="Settings", exact=True).click()
    expect(page.locator("#settings-who")).to_contain_text("ada")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.goto(closed_site.address)
    expect(page.get_by_label("Password")).to_be_visible()
