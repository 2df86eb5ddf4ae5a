"""Does the page's queue survive its own death? `kill -9` of the web server and of the supervisor while runs go on.

    python -m benchmarks.crashes --kills 20 --work DIR

A row of runs of the practice base waits in the queue of a served page. At random moments the web server or the
supervisor is killed, each as often as asked, and runs are put into the queue meanwhile. After each kill of the server
it is started again, and an open page in Chromium is loaded anew: the time until it is complete, and until its queue
shows what goes on. Every 50 ms the processes are looked at: no run may have two trainers.

At the end every run must be done, from one start, with the file of the run that nobody touched, bit for bit; the
database whole; and, the page gone, no process left.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.served import LIMIT, LOOK, Site, chromium, new_page, served, until
from trainer.contract.home import demo_folder
from trainer.contract.rundir import RunDir, State

BETWEEN, GONE = 6.0, 15.0  # seconds: between kills at most, until what belongs to a page that was ended is gone
WAITING, STEPS = 3, 40  # runs that wait or go on are never fewer; steps of each
ENDED = ("done", "failed", "lost", "stopped")
SETTINGS = {"training.steps": STEPS, "training.batch_size": 1, "training.threads": 1, "sampling.every": "never",
            "training.seed": 7}  # fmt: skip


@contextmanager
def watched(site: Site) -> Iterator[list[str]]:
    """Look at the processes all the time; what must not be is listed."""
    wrong: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            wrong.extend(f"{run} has {count} trainers" for run, count in site.trainers().items() if count > 1)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield wrong
    finally:
        over.set()
        watcher.join()


def enqueue(site: Site, name: str) -> None:
    """Put a run into the queue; all are alike."""
    site.ask("runs", {"dataset": str(demo_folder() / "style"), "base": "demo", "name": name, "settings": SETTINGS})


def killed_web(site: Site, page: Any) -> dict[str, float]:
    """Kill the server, start it, and load the page that was open anew."""
    assert site.web is not None
    site.web.send_signal(signal.SIGKILL)
    site.web.wait()
    answers, began = site.serve(), time.monotonic()
    page.reload()
    page.wait_for_selector("html[data-live=yes]", timeout=LIMIT * 1000)
    complete = time.monotonic() - began
    page.wait_for_selector("#queue-rows [data-run]", state="attached", timeout=LIMIT * 1000)
    return {"answers": answers, "complete": complete, "live": time.monotonic() - began}


def killed_supervisor(site: Site, page: Any) -> dict[str, float]:
    """Kill the supervisor; seconds until another is there."""
    until(lambda: bool(site.supervisors()), "a supervisor is there")
    for process in site.supervisors():
        process.kill()
    began = time.monotonic()
    until(lambda: bool(site.supervisors()), "another supervisor is there")
    return {"followed": time.monotonic() - began}


KILLS = {"web": killed_web, "supervisor": killed_supervisor}


def campaign(site: Site, kills: int, seed: int, page: Any) -> tuple[list[str], dict[str, list[float]]]:
    """Kill each as often as asked, in random order at random moments; names of the runs, and the times that it took."""
    moments, names = random.Random(seed), ["whole"]
    times: dict[str, list[float]] = {}
    order = [kind for kind in KILLS for _ in range(kills)]
    moments.shuffle(order)
    for number, kind in enumerate(order):
        while unfinished(site) < WAITING:
            names.append(f"run-{len(names):02}")
            enqueue(site, names[-1])
        time.sleep(moments.uniform(0.0, BETWEEN))
        took = {what: round(seconds, 2) for what, seconds in KILLS[kind](site, page).items()}
        for what, seconds in took.items():
            times.setdefault(what, []).append(seconds)
        print(json.dumps({"kill": number + 1, "of": len(order), "what": kind, **took}), flush=True)
    return names, times


def unfinished(site: Site) -> int:
    """How many runs wait or go on."""
    return sum(run["state"] not in ENDED for run in site.ask("runs"))


def judged(site: Site, names: list[str]) -> Iterator[str]:
    """What is wrong with the runs that have ended, with the database, and with what is left when the page is gone."""
    wanted = ending(RunDir(site.home / "runs" / "whole"))
    for name in names:
        run = RunDir(site.home / "runs" / name)
        status, starts = run.status(), sum(event["kind"] == "preflight" for event in run.events())
        if status.state is not State.DONE:
            yield f"{name} ended {status.state.value}: {status.message}"
        elif ending(run) != wanted:
            yield f"{name} has other numbers than the run that nobody touched"
        if starts != 1:
            yield f"{name} was started {starts} times"
    with sqlite3.connect(site.home / "atelier.db") as database:
        if (found := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            yield f"the database: {found}"


def left_over(site: Site) -> list[str]:
    """What is still there a while after the page was ended as a person ends it."""
    assert site.web is not None
    site.web.send_signal(signal.SIGINT)
    site.web.wait(LIMIT)
    end = time.monotonic() + GONE
    while (found := [" ".join(words) for _, words in site.processes()]) and time.monotonic() < end:
        time.sleep(LOOK)
    return [f"left over: {words}" for words in found]


def ending(run: RunDir) -> str:
    """SHA-256 of a file's tensors; its header tells names and times of day."""
    data = run.adapter_file.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


@contextmanager
def browser_page(address: str) -> Iterator[Any]:
    """The Queue tab in Chromium."""
    with chromium() as browser:
        page = new_page(browser)
        page.goto(f"{address}/?run=whole")
        yield page


def measure(site: Site, kills: int, seed: int) -> tuple[list[str], dict[str, Any]]:
    """The whole of it; (what was wrong, what was seen)."""
    site.serve()
    enqueue(site, "whole")
    until(lambda: not unfinished(site), "a run that nobody touches is done", 10 * LIMIT)
    with watched(site) as seen, browser_page(site.address) as page:
        names, times = campaign(site, kills, seed, page)
        until(lambda: not unfinished(site), "all runs have ended", 10 * LIMIT)
    wrong = [*dict.fromkeys(seen), *judged(site, names), *left_over(site)]
    spans = {what: {"median": sorted(all)[len(all) // 2], "most": max(all)} for what, all in times.items()}
    return wrong, {"kills of each": kills, "runs": len(names), "seconds": spans, "load": os.getloadavg()[0]}


def main() -> int:
    """Print a line for every kill, then the sum; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.crashes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of the web server, and of the supervisor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in; it stays")
    options = parser.parse_args()
    with served(options.work) as site:
        wrong, seen = measure(site, options.kills, options.seed)
    print(json.dumps({**seen, "wrong": wrong}, indent=1))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
