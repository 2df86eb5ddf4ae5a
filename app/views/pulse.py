"""Whether something happened: the one thing that an open page asks for each second, instead of all that it shows.

An event of Gradio's costs the browser time for every part that it may change, whether or not it changes: some twenty
parts each second kept an idle page busy, and a laden machine slow. So a page asks for one word, which the server makes
of the times and sizes of files, and only a word that is another one becomes an event.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import gradio as gr

from app import owners
from app.jobs.beside import SAID
from app.jobs.fetching import SHELF
from app.jobs.store import database

PLACE = "/pulse"
TOLD_BY = ("status.json", "events.jsonl", "amendments.jsonl", "log.txt", "requests", "samples", "export")

# A run from a terminal whose process is gone changes no file: `at least` is for what only the clock can tell, and rare,
# for each beat costs the browser a few tenths of a second. A page in the background does not ask. What `trigger` is
# called with before the page is complete is lost, so the first word comes a bit later. A page that is busy with what it
# was told, as on a laden machine, rests three times as long before it is told more: it answers the hand meanwhile.
SCRIPT = """
const every = 1000, atLeast = 30000, rests = 3;
let last = null, told = performance.now(), busy = 0;
new PerformanceObserver(seen => seen.getEntries().forEach(task => busy += task.duration)).observe({ type: "longtask" });
const look = async () => {
    if (!document.hidden) {
        const answer = await fetch("PLACE", { cache: "no-store" }).catch(() => null);
        const word = answer?.ok ? await answer.text() : last;
        const since = performance.now() - told;
        if (word !== last && since > rests * busy || since > atLeast) {
            last = word;
            told = performance.now();
            busy = 0;
            trigger("beat");
        }
    }
    setTimeout(look, every);
};
setTimeout(look, every);
""".replace("PLACE", PLACE)


def build() -> gr.HTML:
    """The part of the page that asks; its event `beat` is for whoever shows what goes on."""
    return gr.HTML("", js_on_load=SCRIPT, apply_default_css=False, visible="hidden", elem_id="pulse")


def word(home: Path) -> str:
    """A word that becomes another one when a run that one may see, or the queue, changes."""
    found = blake2b(digest_size=12)
    for path in _telling(home):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.update(f"{path} {state.st_mtime_ns} {state.st_size}\n".encode())
    return found.hexdigest()


def _telling(home: Path) -> Iterator[Path]:
    yield database(home)  # its log is gone whenever nobody has it open: what was written is in it a moment later
    yield from sorted((home / SHELF).glob(f"*/{SAID}"))
    for run in sorted((home / "runs").glob("*/")):
        if owners.visible(run):
            yield from (run, *(run / name for name in TOLD_BY))
