"""The README's pictures, taken from the real thing.

    atelier demo && python docs/make_pictures.py

takes the sweep of the newest demo run, screenshots of the page that shows it and of the sample pictures as a set, and
writes them to `docs/`; `--only dataset` needs no run.
"""

import argparse
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from trainer.contract.home import find_home
from trainer.contract.rundir import RunDir, list_runs

DOCS = Path(__file__).parent
PORT = 7955
ADDRESS = f"http://127.0.0.1:{PORT}/"
TABS = ("Dataset", "Train", "Queue", "Preview", "Library", "Settings")


def newest_demo(home: Path) -> RunDir:
    """The newest run that has a sweep picture."""
    return next(run for run in list_runs(home) if (run.path / "sweep.png").exists())


def wait_for_page() -> None:
    """Wait until the page answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(ADDRESS, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(ADDRESS)


def take_dataset(page: Page, folder: Path) -> None:
    """A screenshot of a set: its tiles, the open picture with its crop, its captions."""
    page.locator("#dataset-sample-style").click()
    expect(page.locator("#dataset-grid .tile")).to_have_count(20, timeout=60_000)
    page.locator("#dataset-grid .tile").nth(5).click()
    expect(page.locator("#dataset-stage figcaption")).to_contain_text("butterfly", timeout=60_000)
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_timeout(2500)  # the small copies are made
    page.screenshot(path=folder / "dataset.png", full_page=True)


def take_run(page: Page, folder: Path) -> None:
    """Screenshots of the finished run and of its preview."""
    page.get_by_role("tab", name="Queue", exact=True).click()
    expect(page.locator("#run-samples img").first).to_be_visible()
    page.wait_for_timeout(2500)  # the chart draws itself in
    page.screenshot(path=folder / "train.png")
    page.locator("#run-try").click()
    expect(page.locator("#preview-bar .sides")).to_be_visible(timeout=180_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "preview.png")


def take_all(page: Page, folder: Path, prefix: str) -> None:
    """Whole-page screenshots of every tab, for looking at."""
    for name in TABS:
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(2500)
        page.screenshot(path=folder / f"{prefix}-{name.lower()}.png", full_page=True)


PAGES = {"run": take_run, "dataset": take_dataset}


def main() -> None:
    """Take the README's pictures, or with --all every tab in two widths, light and dark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--only", choices=[*PAGES], default=None)
    parser.add_argument("--all", type=Path, default=None, help="folder for screenshots of every tab")
    options = parser.parse_args()
    home = find_home(options.data_dir)
    server = subprocess.Popen([sys.executable, "-m", "app", "ui", "--data-dir", str(home), "--port", str(PORT)])
    try:
        wait_for_page()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            if options.all:
                options.all.mkdir(parents=True, exist_ok=True)
                for width, scheme in ((1440, "light"), (1440, "dark"), (800, "light"), (800, "dark")):
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    page.goto(f"{ADDRESS}?__theme={scheme}")
                    take_all(page, options.all, f"{width}-{scheme}")
            else:
                if options.only is None:
                    shutil.copyfile(newest_demo(home).path / "sweep.png", DOCS / "sweep.png")
                for name in [options.only] if options.only else PAGES:
                    page = browser.new_page(viewport={"width": 1280, "height": 860})
                    page.goto(ADDRESS)
                    page.wait_for_selector("html[data-live=yes]")
                    PAGES[name](page, DOCS)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
