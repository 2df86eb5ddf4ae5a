"""How a run is going, read from its folder only: a bar, a loss curve, sample pictures, the end of the log."""

import html
import json
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from app.jobs.model import Shown
from app.jobs.queue import Entry
from trainer.contract.preflight import Preflight, preflight_of
from trainer.contract.rundir import RunDir

POINTS = 240  # of the curve; more cannot be told apart on a screen
RECENT = 30  # steps that the speed is taken from
LOG_BYTES = 6000
SILENT_SECONDS = 300.0  # since the last heartbeat
SILENT = "The log shows where it stands. Stop ends it after a while; Resume goes on from the last save."
NOTICES = 3  # the last ones are shown; events.jsonl has all


@dataclass(frozen=True)
class Track:
    """What was read of events.jsonl so far.

    Attributes:
        offset: bytes of whole lines read.
        steps: step -> (loss, time).
        preflight: what was measured before the first step of the last start.
        notices: what a person should know, in order.
    """

    offset: int
    steps: dict[int, tuple[float, float]]
    preflight: Preflight | None = None
    notices: tuple[str, ...] = ()


_tracks: dict[Path, Track] = {}
_lock = threading.Lock()


def track(run: RunDir) -> Track:
    """Read what was added since the last look. A step that comes again after a resume replaces the first."""
    with _lock:
        path = run.path / "events.jsonl"
        size = path.stat().st_size if path.exists() else 0
        known = _tracks.get(run.path, Track(0, {}))
        if size < known.offset:  # another run under the same name
            known = Track(0, {})
        if size > known.offset:
            known = _read_on(path, known)
        _tracks[run.path] = known
        return known


def _read_on(path: Path, known: Track) -> Track:
    with path.open("rb") as stream:
        stream.seek(known.offset)
        added = stream.read()
    whole = added[: added.rfind(b"\n") + 1]  # a torn last line is left for the next look
    steps, preflight, notices = dict(known.steps), known.preflight, dict.fromkeys(known.notices)
    for line in whole.splitlines():
        try:
            event = json.loads(line)
            match event["kind"]:
                case "step":
                    steps[int(event["step"])] = (float(event["loss"]), float(event["time"]))
                case "preflight":
                    preflight = preflight_of(event)
                case "notice":
                    notices[str(event["text"])] = None
        except (ValueError, KeyError, TypeError):
            continue  # torn by a crash in the middle of the file, or of another version: as if it were not there
    return Track(known.offset + len(whole), steps, preflight, tuple(notices))


def speed(found: Track) -> float:
    """Optimiser steps a second over the last steps, pauses for samples included; 0 while unknown."""
    recent = sorted(found.steps.items())[-RECENT:]
    if len(recent) < 2:
        return 0.0
    (first, (_, begin)), (last, (_, end)) = recent[0], recent[-1]
    return (last - first) / (end - begin) if end > begin else 0.0


def last_loss(found: Track) -> float | None:
    """Mean loss of the last steps: a single one says little."""
    recent = [loss for _, (loss, _) in sorted(found.steps.items())[-RECENT:]]
    return sum(recent) / len(recent) if recent else None


def curve(found: Track) -> pd.DataFrame:
    """The loss as two lines: as it was, and smoothed."""
    steps = sorted(found.steps)
    width = max(1, -(-len(steps) // POINTS))
    rows: list[tuple[int, float, str]] = []
    smooth: float | None = None
    for start in range(0, len(steps), width):
        part = [found.steps[step][0] for step in steps[start : start + width]]
        loss, step = sum(part) / len(part), steps[min(start + width, len(steps)) - 1]
        smooth = loss if smooth is None else 0.9 * smooth + 0.1 * loss
        rows += [(step, loss, "each step"), (step, smooth, "smoothed")]
    return pd.DataFrame(rows, columns=["step", "loss", "line"])


def samples(run: RunDir) -> list[tuple[Path, str]]:
    """Return the sample pictures, newest first, with the step they were drawn at."""
    found = [path for path in run.samples.glob("*.png") if not path.name.startswith(".")]
    found.sort(key=lambda path: (-_step_of(path), path.name))
    return [(path, f"step {_step_of(path)}") for path in found]


def _step_of(path: Path) -> int:
    match = re.search(r"(\d+)", path.stem)
    return int(match.group(1)) if match else 0


def log_tail(run: RunDir) -> str:
    """Return the end of the log; a line that was redrawn in place shows as it ended."""
    try:
        with run.log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")[-40:])


def duration(seconds: float) -> str:
    """Write a time span as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def time_left(item: Entry, found: Track) -> str:
    """Say how long it still takes, or nothing where that is not known."""
    rate = speed(found)
    if item.shown is not Shown.TRAINING or not rate or not item.status.total:
        return ""
    return duration((item.status.total - item.status.step) / rate)


WORDS = {
    Shown.WAITING: "waits for its turn",
    Shown.STARTING: "is starting",
    Shown.PREPARING: "is getting ready: loading the base, reading the pictures",
    Shown.TRAINING: "is training",
    Shown.PAUSED: "is paused",
    Shown.STOPPING: "is stopping and saves",
    Shown.STOPPED: "was stopped and saved; press Resume to go on",
    Shown.DONE: "is done",
    Shown.FAILED: "failed",
    Shown.LOST: "was interrupted",
    Shown.NEW: "was not started",
}


def bar(item: Entry, found: Track) -> str:
    """HTML: the state in words, a bar, and the figures."""
    status = item.status
    share = 100 if item.shown is Shown.DONE else 100 * status.step / status.total if status.total else 0
    loss, left, rate = last_loss(found), time_left(item, found), speed(found)
    figures = [f"step <b>{status.step}</b> of {status.total}"] if status.total else []
    figures += [f"loss <b>{loss:.4f}</b>"] if loss is not None else []
    figures += [f"<b>{rate:.2f}</b> steps/s"] if rate else []
    figures += [f"<b>{left}</b> left"] if left else []
    words = WORDS[item.shown] + (" (started outside this page)" if item.outside else "")
    note = (
        " ".join(filter(None, (status.message, status.fix))) if item.shown not in (Shown.DONE, Shown.TRAINING) else ""
    )
    planned = found.preflight if item.shown in (Shown.PREPARING, Shown.TRAINING) else None
    told = " · ".join(filter(None, (planned.lengths(), planned.words(), planned.samples()))) if planned else ""
    lines = [("plan", f"planned: {told}")] if told else []
    lines += [("note", note)] if note else []
    silent = time.time() - status.heartbeat
    if item.shown in (Shown.TRAINING, Shown.STOPPING) and silent > SILENT_SECONDS:
        lines += [("note", f"No sign of life for {duration(silent)}. {SILENT}")]
    lines += [("notice", text) for text in found.notices[-NOTICES:]]
    return (
        f'<div class="run" data-state="{item.shown.value}" data-run="{html.escape(item.run.name)}"'
        f' data-step="{status.step}">'
        f"<div class=head><b>{html.escape(item.run.name)}</b> {words}</div>"
        f'<div class="track"><div class="fill" style="width:{share:.1f}%"></div></div>'
        f'<div class="figures">{" ".join(f"<span>{figure}</span>" for figure in figures)}</div>'
        + "".join(f'<div class="{kind}">{html.escape(text)}</div>' for kind, text in lines)
        + "</div>"
    )
