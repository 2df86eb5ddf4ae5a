"""`trainer caption`: a model puts the pictures of a set into words, which become its captions in one change.

What the model wrote is kept as it comes, in `.captions/` of the set: a start after a stop, or after any end, goes on
from there. Nothing of it is a caption before all are there; then they are set at once, and can be taken back at once.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image, ImageColor

from trainer.contract.errors import UserError
from trainer.contract.names import identity
from trainer.contract.requests import CaptionRequest, Progress, parse
from trainer.device import ran_out
from trainer.pictures.album import WORDS, Album, Entry, edit, is_own, locate, open_album
from trainer.pictures.captions import fold, with_trigger
from trainer.pictures.decode import Colour, open_picture
from trainer.tools.captioners import Captioner, open_captioner
from trainer.tools.fetching import find_captioner

Say = Callable[[Progress], None]


@dataclass
class Captioned:
    """What came of it.

    Attributes:
        label: of the change, for the undo button; "" where nothing changed.
        changed: pictures whose captions are others now.
        asked: pictures that the model has looked at in this process.
        kept: pictures that it had looked at before.
        skipped: (name, reason) of those without words: unreadable, or nothing was seen.
        notices: sentences for people.
        seconds: from the first picture on, without the loading of the model.
    """

    label: str = ""
    changed: int = 0
    asked: int = 0
    kept: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0


def caption_file(request_file: str) -> None:
    """Answer a request in a file (`-` for standard input): lines of progress, then one JSON object."""
    text = sys.stdin.read() if request_file == "-" else Path(request_file).read_text("utf-8")
    _write(asdict(caption_set(parse(CaptionRequest, text), _report)))


def caption_set(request: CaptionRequest, say: Say) -> Captioned:
    """Caption the pictures of a set.

    Raises:
        UserError: it is a plain folder, the model cannot be had or used, or another process captions this set.
    """
    folder, told = Path(request.dataset).resolve(), Captioned()
    if not is_own(folder):
        fix = "Import it as a set first: `atelier dataset import NAME FOLDER`, or the Dataset tab."
        raise UserError("This is a plain folder, in which nothing is ever changed.", str(folder), fix)
    with _alone(folder):
        album = open_album(folder)
        wanted = _wanted(album, request)
        if wanted:
            say(Progress(what=f"finding {request.model}"))
            model = find_captioner(request.model, request.revision)
            work = folder / WORDS / f"{_identity(model, request)}.jsonl"
            texts = _texts(folder, album, wanted, (model, work), request, say, told)
            _set(folder, texts, request, told)
    return told


def _wanted(album: Album, request: CaptionRequest) -> list[Entry]:
    chosen = set(request.chosen)
    entries = [entry for entry in album.entries if (entry.id in chosen if chosen else not entry.excluded)]
    return [entry for entry in entries if request.mode != "missing" or not entry.captions]


def _texts(
    folder: Path,
    album: Album,
    wanted: Sequence[Entry],
    using: tuple[Path, Path],
    request: CaptionRequest,
    say: Say,
    told: Captioned,
) -> dict[str, str]:
    """Words for pictures, by their ids: those that were kept, and those that the model still has to find."""
    model, work = using
    stamps = {entry.id: _stamp(folder, entry) for entry in wanted}
    kept = {key: text for key, text in read_work(work).items() if key in stamps.values()}
    texts = {entry.id: kept[stamps[entry.id]] for entry in wanted if stamps[entry.id] in kept}
    left = [entry for entry in wanted if entry.id not in texts and not request.known_only]
    told.kept = len(texts)
    if left:
        say(Progress(what=f"loading {_called(request)}"))
        captioner = open_captioner(model, request)
        say(Progress(what="captioning", done=told.kept, total=len(wanted)))
        began = time.monotonic()
        background = ImageColor.getrgb(album.background)[:3]
        for entry, text in _look(folder, left, captioner, request.batch, background, told):
            with work.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"picture": stamps[entry.id], "text": text}) + "\n")
            texts[entry.id] = text
            told.asked += 1
            told.seconds = round(time.monotonic() - began, 2)
            done = told.kept + told.asked + len(told.skipped)
            rest = told.seconds / told.asked * (len(wanted) - done)
            say(Progress(what="captioning", done=done, total=len(wanted), picture=entry.id, caption=text, left=rest))
    told.skipped += [(entry.name, "the model saw nothing in it") for entry in wanted if texts.get(entry.id) == ""]
    return texts


def _look(
    folder: Path, entries: Sequence[Entry], captioner: Captioner, most: int, background: Colour, told: Captioned
) -> Iterator[tuple[Entry, str]]:
    """Let the model look at all pictures, batch by batch; of those that cannot be read only the reason is kept."""
    read = partial(_read, folder, background)
    rest, most = list(entries), min(most, len(entries))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
        while rest:
            batch, rest = rest[:most], rest[most:]
            opened = list(zip(batch, readers.map(read, batch), strict=True))
            told.skipped += [(entry.name, found) for entry, found in opened if isinstance(found, str)]
            good = [(entry, found) for entry, found in opened if not isinstance(found, str)]
            while good:
                texts = _attempt(captioner, [found for _, found in good[:most]], most)
                if texts is None:  # here and not where it happened: nothing holds on to what that attempt had
                    most = max(1, most // 2)
                    told.notices.append(f"the GPU's memory was full: batches of {most} from here on")
                    continue
                yield from zip((entry for entry, _ in good[:most]), texts, strict=True)
                good = good[most:]


def _attempt(captioner: Captioner, images: list[Image.Image], most: int) -> list[str] | None:
    """Words for pictures, or None where they were too many for the GPU's memory."""
    try:
        return captioner(images)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        if most == 1:
            fix = "Stop what else is using it, such as a training, or take a smaller model."
            raise UserError("not even one picture fits into the GPU's memory", "--model", fix) from error
    return None


def _read(folder: Path, background: Colour, entry: Entry) -> Image.Image | str:
    try:
        return open_picture(locate(folder, entry.file), background)
    except UserError as error:
        return error.problem


def _set(folder: Path, texts: dict[str, str], request: CaptionRequest, told: Captioned) -> None:
    """Make the words captions, as one change."""
    before = {entry.id: entry.captions for entry in open_album(folder).entries}

    def put(entry: Entry) -> Entry:
        caption = with_trigger(texts[entry.id], request.trigger)
        captions = PUT[request.mode](entry.captions, caption)
        return entry.model_copy(update={"captions": captions})

    label = f"captions by {_called(request)}"
    after = edit(folder, label, (key for key, text in texts.items() if text), put)
    told.changed = sum(before.get(entry.id) != entry.captions for entry in after.entries)
    told.label = label if told.changed else ""


PUT: dict[str, Callable[[tuple[str, ...], str], tuple[str, ...]]] = {
    "missing": lambda had, new: had or (new,),
    "replace": lambda had, new: (new,),
    "append": lambda had, new: had if new in had else (*had, new),
}


def read_work(path: Path) -> dict[str, str]:
    """Read what a model wrote, by the stamps of the pictures; a line that was not written to its end is cut off.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    try:
        lines = [json.loads(line) for line in whole.split(b"\n") if line]
        return {line["picture"]: line["text"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "what a model wrote before is damaged", str(path), "Delete this file; it is made anew."
        ) from error


def _stamp(folder: Path, entry: Entry) -> str:
    """Tells a picture from any other, and from itself after it was edited where it lies."""
    try:
        state = locate(folder, entry.file).stat()
    except OSError:
        return entry.id
    return identity(f"{entry.id} {state.st_size} {state.st_mtime_ns}")


def _identity(model: Path, request: CaptionRequest) -> str:
    """Names all that the words depend on beside the picture: the model's files, and what is asked of it."""
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in model.iterdir())
    asked = request.model_dump(include={"task", "prompt", "threshold", "character_threshold"})
    return identity(json.dumps([files, asked]))


def _called(request: CaptionRequest) -> str:
    return fold(Path(request.model).name)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    (folder / WORDS).mkdir(exist_ok=True)
    try:
        with FileLock(folder / WORDS / ".lock", timeout=0):
            yield
    except Timeout:
        fix = "Wait until it is done, or stop it: what it has found is kept."
        raise UserError("another process makes captions for this set", str(folder), fix) from None


def _report(progress: Progress) -> None:
    _write(progress.model_dump())


def _write(said: dict) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
