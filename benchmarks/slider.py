"""How soon does a picture follow the finger? A strength slider is dragged in Chromium, on the practice base.

    python -m benchmarks.slider --moves 10 --work DIR

Preview draws 20 steps with one adapter. The slider's thumb is taken with the mouse, moved in some steps with a pause
between them, and let go. From the last movement before a pause to the decoded draft in the page; and from the release
of the button to the decoded picture: milliseconds by the page's own clock, as JSON. The first move warms up and does
not count. Take a machine that does nothing else.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from benchmarks.preview import make_adapters
from benchmarks.served import LIMIT, Site, chromium, new_page, served
from trainer.contract.home import find_home

STEPS, PAUSE = 20, 1500  # of the picture; milliseconds that a hand rests while it drags
# What has been seen so far: [what, when it was asked for, when it could be seen].
WATCH = """() => {
    window.seen = [];
    let moved = 0, released = 0;
    const range = () => document.querySelector("#preview-strength-0 input[type=range]");
    document.addEventListener("input", event => { if (event.target === range()) moved = performance.now(); }, true);
    document.addEventListener("change", event => {
        if (event.target === range() && event.target.type === "range") released = performance.now();
    }, true);
    const told = new Set();
    new MutationObserver(async () => {
        const duo = document.querySelector("#preview-result .duo"), image = duo?.querySelector("img.under");
        if (!image?.src || told.has(image.src) || !["", "draft"].includes(duo.dataset.mark)) return;
        const mark = duo.dataset.mark, asked = mark ? moved : released;
        told.add(image.src);
        await image.decode().catch(() => null);
        requestAnimationFrame(() => window.seen.push([mark || "picture", asked, performance.now()]));
    }).observe(document.querySelector("#preview-result"), { subtree: true, attributes: true, childList: true });
}"""


def drag(page: Any, choose: random.Random) -> list[tuple[str, float]]:
    """Take the thumb, move it, rest, move it on, let go; (what, milliseconds) of what was seen."""
    page.evaluate("window.seen.length = 0")
    box = page.locator("#preview-strength-0 input[type=range]").bounding_box()
    value = float(page.locator("#preview-strength-0 input[type=range]").input_value())
    middle, mouse = box["y"] + box["height"] / 2, page.mouse
    mouse.move(box["x"] + box["width"] * (value + 2) / 4, middle)
    mouse.down()
    for share in (choose.uniform(0.1, 0.9), choose.uniform(0.1, 0.9)):
        mouse.move(box["x"] + box["width"] * share, middle, steps=5)
        page.wait_for_timeout(PAUSE)
    mouse.move(box["x"] + box["width"] * choose.uniform(0.1, 0.9), middle, steps=5)
    mouse.up()
    page.wait_for_function("window.seen.some(one => one[0] === 'picture' && one[1] > 0)", timeout=LIMIT * 1000)
    return [(what, seen - asked) for what, asked, seen in page.evaluate("window.seen") if asked]


def measure(site: Site, moves: int, seed: int) -> dict[str, list[float]]:
    """Open Preview with an adapter, draw once, and drag."""
    find_home(site.home)
    adapter = make_adapters("demo", site.home / "library", 1)[0]
    site.serve()
    times: dict[str, list[float]] = {}
    with chromium() as browser:
        page = new_page(browser)
        page.set_default_timeout(LIMIT * 1000)
        page.goto(site.address)
        page.wait_for_selector("html[data-live=yes]")
        page.get_by_role("tab", name="Preview", exact=True).click()
        page.locator("#preview-prompt textarea").fill("a cat face")
        page.locator("#preview-file-0").select_option(label=adapter.stem)
        page.wait_for_selector("#preview-strength-0")
        page.locator("#preview-draw").click()
        page.wait_for_selector("#preview-result .duo[data-mark=''] img.under[src]")
        page.evaluate(WATCH)
        choose = random.Random(seed)
        for move in range(moves + 1):
            for what, milliseconds in drag(page, choose):
                if move:
                    times.setdefault(what, []).append(milliseconds)
    return times


def main() -> int:
    """Print the figures; 0 where both a draft and a picture were seen."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.slider", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in; it stays")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with served(options.work) as site:
        times = measure(site, options.moves, options.seed)
    rows = {what: {"seen": len(all_), "median_ms": round(sorted(all_)[len(all_) // 2]), "most_ms": round(max(all_))}
            for what, all_ in times.items()}  # fmt: skip
    print(json.dumps({"steps": STEPS, **rows, "cpus": os.cpu_count(), "load_before": load}, indent=1))
    return int(set(rows) != {"draft", "picture"})


if __name__ == "__main__":
    sys.exit(main())
