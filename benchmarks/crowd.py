"""Fifty people on one page while a run trains: is it answered, and how soon?

    python -m benchmarks.crowd --seconds 180 --work DIR

Forty-two sessions without a browser and eight tabs of one Chromium are on a page that trains a run of the practice base
(niced). Sessions look at tabs, runs, sets and searches, some seconds between two looks, ask for the page's pulse each
second as an open page does, and now and then for a preview. Tabs go round all tabs; each uploads pictures and draws.

Printed: events by kind with median and 95th percentile in seconds, without those that draw; answers with status 5xx;
whether all tabs were usable to the end; what the run did meanwhile. The sessions' own work is on the same machine.
"""

import argparse
import json
import os
import random
import sys
import threading
import time
import urllib.request
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.served import LIMIT, Site, chromium, new_page, served, until
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir, State

SESSIONS, TABS = 42, 8
THINKS = (2.0, 6.0)  # seconds between two looks of one person
DRAWS = 0.02  # share of a session's acts that ask for a picture
STYLE = demo_folder() / "style"
# What people look at: (part of the page, its event).
LOOKS = [
    ("tab-train", "select"), ("tab-preview", "select"), ("tab-library", "select"), ("tab-settings", "select"),
    ("train-dataset", "change"), ("dataset-set", "change"), ("dataset-filter", "change"), ("page-run", "change"),
    ("library-search", "change"), ("train-base", "change"), ("pulse", "beat"),
]  # fmt: skip
NAMES = ("Dataset", "Train", "Queue", "Preview", "Library", "Settings")


class Seen:
    """What was measured, by all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def took(self, what: str, began: float) -> None:
        """An event that began then has been answered."""
        with self._lock:
            self.seconds[what].append(time.monotonic() - began)

    def failed(self, what: str) -> None:
        """Something was not answered as it should be."""
        with self._lock:
            self.wrong.append(what)


class Session:
    """One person without a browser, who speaks as gradio_client does: that refuses events that are the page's own.

    Inputs of an event are what the page was delivered with, or what is said here.
    """

    def __init__(self, address: str, said: dict[str, Any]) -> None:
        self._http = httpx.Client(base_url=f"{address}/gradio_api", timeout=LIMIT)
        self._hash = uuid.uuid4().hex
        config = httpx.get(f"{address}/config", timeout=LIMIT).raise_for_status().json()
        parts = {part["id"]: part for part in config["components"]}
        self._events: dict[tuple[str, str], list[tuple[int, list[Any]]]] = defaultdict(list)
        for listener in filter(lambda one: one["backend_fn"], config["dependencies"]):
            values = [self._value(parts[number], said) for number in listener["inputs"]]
            for target, event in listener["targets"]:
                if target in parts and (name := parts[target]["props"].get("elem_id")):
                    self._events[name, event].append((listener["id"], values))

    @staticmethod
    def _value(part: dict[str, Any], said: dict[str, Any]) -> Any:
        return said.get(part["props"].get("elem_id") or "", part["props"].get("value"))

    def act(self, name: str, event: str) -> None:
        """Do what the page does at an event: ask all who listen to it, and wait for each.

        Raises:
            httpx.HTTPError: an answer was not as it should be.
            RuntimeError: nobody listens to this, or a listener failed.
        """
        if not (listening := self._events[name, event]):
            raise RuntimeError("nobody listens to this")
        for number, values in listening:
            asked = {"data": values, "fn_index": number, "session_hash": self._hash}
            self._http.post("queue/join", json=asked).raise_for_status()
            with self._http.stream("GET", "queue/data", params={"session_hash": self._hash}) as answer:
                answer.raise_for_status()
                told = (json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:"))
                last = next(one for one in told if one["msg"] in ("process_completed", "unexpected_error"))
            if not last.get("success"):
                raise RuntimeError(f"it failed: {str(last)[:200]}")


def browse(address: str, said: dict[str, Any], seed: int, seen: Seen) -> None:
    """One session until it is over."""
    choose = random.Random(seed)
    session = Session(address, said)
    while not seen.over.wait(choose.uniform(*THINKS)):
        name, event = ("preview-draw", "click") if choose.random() < DRAWS else choose.choice(LOOKS)
        what, began = "draw" if name == "preview-draw" else f"{name} {event}", time.monotonic()
        try:
            session.act(name, event)
        except (httpx.HTTPError, RuntimeError, StopIteration) as error:
            seen.failed(f"{what}: {error!r}"[:300])
        seen.took(what, began)


def pulses(address: str, seen: Seen) -> None:
    """What every open page asks for each second, for all sessions."""
    while not seen.over.wait(1.0 / SESSIONS):
        began = time.monotonic()
        try:
            urllib.request.urlopen(f"{address}/pulse", timeout=LIMIT).close()
        except OSError as error:
            seen.failed(f"pulse: {error!r}")
        seen.took("pulse", began)


def upload(page: Any, files: list[Path]) -> None:
    """Send pictures and wait for their tiles."""
    page.get_by_role("tab", name="Dataset", exact=True).click()
    page.locator("#dataset-upload input[type=file]").first.set_input_files([str(path) for path in files])
    page.wait_for_selector(
        "#dataset-report:has-text('added'), #dataset-report:has-text('already')", timeout=LIMIT * 1000
    )


def visit(page: Any, seen: Seen) -> None:
    """Go round all tabs; each is there when what belongs to it can be seen."""
    for name in NAMES:
        began = time.monotonic()
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_selector(f'[role=tabpanel][id="tab-{name.lower()}"]:visible', timeout=LIMIT * 1000)
        seen.took(f"browser: {name}", began)


def tabs(address: str, seen: Seen) -> None:
    """Eight tabs of one browser until it is over; at the end all of them once more."""
    from playwright.sync_api import Error  # noqa: PLC0415 - a part of the tests' packages

    def answered(response: Any) -> None:
        if response.status >= 500:
            seen.failed(f"{response.status} {response.url}")

    pictures = sorted(STYLE.glob("*.png"))
    with chromium() as browser:
        try:
            pages = [new_page(browser) for _ in range(TABS)]
            for page in pages:
                page.on("response", answered)
                page.goto(address)
                page.wait_for_selector("html[data-live=yes]", timeout=LIMIT * 1000)
            turn = 0
            while not seen.over.is_set():
                page, round_ = pages[turn % TABS], turn // TABS
                visit(page, seen)
                if round_ == 0:
                    began = time.monotonic()
                    upload(page, pictures[turn * 3 : turn * 3 + 3])
                    seen.took("browser: upload of three", began)
                elif round_ == 1:
                    page.get_by_role("tab", name="Preview", exact=True).click()
                    page.locator("#preview-prompt textarea").fill("a cat")
                    page.locator("#preview-draw").click()
                turn += 1
            for page in pages:
                visit(page, seen)
        except Error as error:
            seen.failed(f"browser: {error!r}"[:300])


def train(site: Site) -> RunDir:
    """A long run that is under way, with less right to the processor than the page."""
    settings = {
        "training.steps": 20_000,
        "training.batch_size": 2,
        "sampling.every": "never",
        "training.save_every": "200",
    }
    site.ask("runs", {"dataset": str(STYLE), "base": "demo", "name": "going", "settings": settings})
    run = RunDir(site.home / "runs" / "going")
    until(lambda: run.status().state is State.TRAINING and run.status().step > 0, "the run trains")
    psutil.Process(run.status().pid).nice(10)
    return run


def measure(site: Site, seconds: float) -> tuple[Seen, dict[str, Any]]:
    """All of them at once for some time; (what was measured, what the run did)."""
    site.serve()
    run, seen = train(site), Seen()
    said = {
        "page-run": "going", "page-dataset": str(STYLE), "train-dataset": str(STYLE),
        "library-search": "a", "preview-base": "demo", "preview-prompt": "a cat", "train-base": "demo",
    }  # fmt: skip
    crowd = [threading.Thread(target=browse, args=(site.address, said, n, seen), daemon=True) for n in range(SESSIONS)]
    crowd += [threading.Thread(target=each, args=(site.address, seen), daemon=True) for each in (pulses, tabs)]
    before = run.status().step
    for one in crowd:
        one.start()
    time.sleep(seconds)
    after = run.status()
    seen.over.set()
    for one in crowd:
        one.join(LIMIT)
    if after.state is not State.TRAINING or after.step <= before:
        seen.failed(f"the run was {after.state.value} at step {after.step}, {before} at first")
    return seen, {"steps of the run": after.step - before}


def report(seen: Seen) -> dict[str, Any]:
    """Median and 95th percentile of each kind, and of all that draw nothing."""

    def spread(times: list[float]) -> dict[str, float]:
        ordered = sorted(times)
        return {"events": len(ordered), "median": round(ordered[len(ordered) // 2], 3),
                "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 3)}  # fmt: skip

    pages = [one for what, times in seen.seconds.items() if what not in ("draw", "pulse") for one in times]
    rows = {what: spread(times) for what, times in sorted(seen.seconds.items())}
    return {"kinds": rows, "all but draw and pulse": spread(pages), "wrong": seen.wrong[:20], "faults": len(seen.wrong)}


def main() -> int:
    """Print what was measured; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.crowd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--work", type=Path, help="folder to work in; it stays")
    options = parser.parse_args()
    with served(options.work) as site:
        seen, run = measure(site, options.seconds)
    print(json.dumps({**report(seen), **run, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}, indent=1))
    return int(bool(seen.wrong))


if __name__ == "__main__":
    sys.exit(main())
