"""How a run is going, read from its folder only: a bar, a loss curve, sample pictures, the end of the log."""

import functools
import html
import json
import re
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from app.jobs.model import BUSY, ENDING, GOING, Shown
from app.jobs.queue import Entry
from trainer.contract.card import cards
from trainer.contract.preflight import GIB, Preflight, preflight_of
from trainer.contract.rundir import RunDir
from trainer.contract.validation import Round, lowest, round_of
from trainer.pictures.origin import ANOTHER_RUN

RECENT = 30  # steps that the speed is taken from
LOG_BYTES = 6000
SILENT_SECONDS = 300.0  # since the last heartbeat
SILENT = "The log shows where it stands. Stop ends it after a while; Resume goes on from the last save."
LOWEST = "lowest validation loss"  # never "best": that is for eyes to say
OFFERED = "It can go on as a new run, from what this one has learned: press Resume."
NOTICES = 3  # the last ones are shown; events.jsonl has all


@dataclass(frozen=True)
class Track:
    """What was read of events.jsonl so far.

    Attributes:
        offset: bytes of whole lines read.
        steps: step -> (loss, time).
        preflight: what was measured before the first step of the last start.
        notices: what a person should know, in order.
        rates: step -> learning rate of each part that is trained.
        norms: step -> norm of the gradient.
        rounds: step -> what was measured on held-out pictures.
        bands: step -> loss of each band of timesteps, None where nothing fell into it.
        samples: file -> what is told of a sample picture.
        first: optimiser steps that the run was begun with; 0 while unknown.
        amended: whether its length may have changed since.
        peak: bytes of the card's memory that it held at most, once it has ended; 0 while unknown or on a CPU.
    """

    offset: int
    steps: dict[int, tuple[float, float]]
    preflight: Preflight | None = None
    notices: tuple[str, ...] = ()
    rates: dict[int, dict[str, float]] = field(default_factory=dict)
    norms: dict[int, float] = field(default_factory=dict)
    rounds: dict[int, Round] = field(default_factory=dict)
    bands: dict[int, tuple[float | None, ...]] = field(default_factory=dict)
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: int = 0
    amended: bool = False
    peak: int = 0


TABLES = ("steps", "rates", "norms", "rounds", "bands", "samples")
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
    copies: Any = {name: dict(getattr(known, name)) for name in TABLES}
    found = replace(known, offset=known.offset + len(whole), **copies)
    for line in whole.splitlines():
        try:
            found = _with(found, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # torn by a crash in the middle of the file, or of another version: as if it were not there
    return found


def _with(found: Track, event: dict[str, Any]) -> Track:
    """A track with one event more; its own dictionaries take it in."""
    match event["kind"]:
        case "step":
            step = int(event["step"])
            found.steps[step] = (float(event["loss"]), float(event["time"]))
            found.norms.update({step: float(event["norm"])} if "norm" in event else {})
            found.rates.update({step: dict(event["rates"])} if "rates" in event else {})
        case "validation":
            found.rounds[int(event["step"])] = round_of(event)
        case "bands":
            found.bands[int(event["step"])] = tuple(None if one is None else float(one) for one in event["bands"])
        case "sample":
            found.samples[str(event["file"])] = event
        case "preflight":
            return replace(found, preflight=preflight_of(event))
        case "start" if event["step"] == 0 and not found.amended:
            return replace(found, first=int(event["total"]))
        case "amended":
            return replace(found, amended=True)
        case "memory":
            return replace(found, peak=int(event["reserved"]))
        case "notice":
            return replace(found, notices=tuple(dict.fromkeys((*found.notices, str(event["text"])))))
    return found


def speed(found: Track) -> float:
    """Optimiser steps a second over the last steps, pauses for samples included; 0 while unknown."""
    recent = sorted(found.steps.items())[-RECENT:]
    if len(recent) < 2:
        return 0.0
    (first, (_, begin)), (last, (_, end)) = recent[0], recent[-1]
    return (last - first) / (end - begin) if end > begin else 0.0


def pace_words(found: Track) -> str:
    """The speed as people of the field say it; nothing while it is unknown."""
    rate = speed(found)
    return "" if not rate else f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.2f} s/it"


def share(item: Entry) -> float:
    """How much of a run is done, in percent."""
    status = item.status
    return 100.0 if item.shown is Shown.DONE else 100 * status.step / status.total if status.total else 0.0


def card_words(item: Entry) -> str:
    """Which card it is on, in a machine that has several."""
    known = _cards() if item.job and item.job.card else ()
    return f"card {known.index(item.job.card)}" if item.job and len(known) > 1 and item.job.card in known else ""


_cards = functools.cache(cards)  # while a page is served: each look would ask the driver


def memory(item: Entry, found: Track) -> str:
    """What a run takes of the card at most, as it was measured; on a CPU what its process holds now."""
    if peak := found.peak or (found.preflight.reserved if found.preflight else 0):
        return f"{peak / GIB:.1f} GiB of the card"
    try:
        return f"{psutil.Process(item.status.pid).memory_info().rss / GIB:.1f} GiB of memory" if item.status.pid else ""
    except psutil.Error:  # it has ended just now
        return ""


def last_loss(found: Track) -> float | None:
    """Mean loss of the last steps: a single one says little."""
    recent = [loss for _, (loss, _) in sorted(found.steps.items())[-RECENT:]]
    return sum(recent) / len(recent) if recent else None


def samples(run: RunDir) -> list[tuple[Path, str]]:
    """Return the sample pictures, newest first, with the step they were drawn at."""
    found = [path for path in run.samples.glob("*.png") if not path.name.startswith(".")]
    found.sort(key=lambda path: (-_step_of(path), path.name.count("-"), path.name))  # strength 1 has the shorter name
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
    Shown.NO_ROOM: "waits for room on the disk",
    Shown.PAUSING: "saves and pauses",
    Shown.PAUSED: "is paused; press Resume to go on",
    Shown.STOPPING: "is stopping and saves",
    Shown.STOPPED: "was stopped and saved; press Resume to go on",
    Shown.DONE: "is done",
    Shown.FAILED: "failed",
    Shown.LOST: "was interrupted",
    Shown.NEW: "was not started",
}


def lowest_step(found: Track) -> int | None:
    """The step with the lowest validation loss; None before there are two to compare."""
    rounds = [found.rounds[step] for step in sorted(found.rounds)]
    best = lowest(rounds)
    return best.step if best is not None and len(rounds) > 1 else None


def badge(run: RunDir, found: Track) -> str:
    """Where the validation loss is lowest, and whether a checkpoint of that step is there. It chooses nothing."""
    step = lowest_step(found)
    if step is None:
        return ""
    kept = "its checkpoint is kept" if (run.checkpoints / f"step-{step:06d}").is_dir() else "no checkpoint of it"
    return f"{LOWEST} {found.rounds[step].loss:.4f} at step {step} ({kept})"


def _planned(item: Entry, found: Track) -> str:
    """What was measured before the first step; nothing where the length has changed since."""
    plan = found.preflight if item.shown in (Shown.PREPARING, Shown.TRAINING) else None
    if plan is None or (plan.length and item.status.total not in (0, plan.length.steps)):
        return ""
    return " · ".join(filter(None, (plan.lengths(), plan.words(), plan.samples())))


def _note(item: Entry) -> str:
    """What the run says of its end. A refused resume is told in words of the command line: the page has buttons."""
    if item.shown in (Shown.DONE, Shown.TRAINING):
        return ""
    fix = OFFERED if ANOTHER_RUN in item.status.message else item.status.fix
    return "\n".join(filter(None, (item.status.message, fix)))


def bar(item: Entry, found: Track) -> str:
    """HTML: the state in words, a bar, and the figures."""
    status = item.status
    loss, left, going = last_loss(found), time_left(item, found), item.shown in BUSY
    figures = [f"step <b>{status.step}</b> of {status.total}"] if status.total else []
    figures += [f"loss <b>{loss:.4f}</b>"] if loss is not None else []
    figures += [pace] if (pace := pace_words(found)) else []
    figures += [held] if going and (held := memory(item, found)) else []
    figures += [f"<b>{left}</b> left"] if left else []
    words = WORDS[item.shown] + (" (started outside this page)" if item.outside else "")
    lines = [("plan", f"planned: {told}")] if (told := _planned(item, found)) else []
    lines += [("note", note)] if (note := _note(item)) else []
    silent = time.time() - status.heartbeat
    if item.shown in (*GOING, *ENDING) and silent > SILENT_SECONDS:
        lines += [("note", f"No sign of life for {duration(silent)}. {SILENT}")]
    lines += [("badge", text)] if (text := badge(item.run, found)) else []
    lines += [("notice", text) for text in found.notices[-NOTICES:]]
    return (
        f'<div class="run" data-state="{item.shown.value}" data-run="{html.escape(item.run.name)}"'
        f' data-step="{status.step}">'
        f"<div class=head><b>{html.escape(item.run.name)}</b> {words}</div>"
        f'<div class="track"><div class="fill" style="width:{share(item):.1f}%"></div></div>'
        f'<div class="figures">{" ".join(f"<span>{figure}</span>" for figure in figures)}</div>'
        + "".join(f'<div class="{kind}">{html.escape(text)}</div>' for kind, text in lines)
        + "</div>"
    )
