"""Models that write captions: those that are offered by name, and how far one of them is with a set, as HTML."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app.jobs.beside import State
from app.jobs.captioning import Captioning
from app.views import grid, sets
from app.views.progress import duration
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry

PAGE_NAMES = {"--model": "Model", "--revision": "Revision", "--prompt": "Prompt", "--task": "How much it says"}
SKIPPED = 10  # pictures that are named


class Captioner(NamedTuple):
    """A model that is offered; its licence and size are those of its page on the Hub."""

    id: str
    title: str
    licence: str
    size: str
    about: str
    tagger: bool = False
    prompt: bool = True


OFFERED = (
    Captioner("florence-community/Florence-2-base", "Florence-2 base: sentences, quick", "MIT", "up to 1 GB",
              "One to three plain sentences. 0.23 billion parameters: runs on a processor too.", prompt=False),
    Captioner("florence-community/Florence-2-large", "Florence-2 large: sentences, more exact", "MIT", "up to 3 GB",
              "As the small one, and sees more. 0.77 billion parameters.", prompt=False),
    Captioner("Salesforce/blip-image-captioning-large", "BLIP large: one short sentence", "BSD-3-Clause", "1.9 GB",
              "Goes on with the prompt, such as “a drawing of”. 0.47 billion parameters."),
    Captioner("HuggingFaceTB/SmolVLM-Instruct", "SmolVLM: does what the prompt asks", "Apache-2.0", "4.5 GB",
              "A chat model, for a graphics card. 2.2 billion parameters."),
    Captioner("SmilingWolf/wd-vit-tagger-v3", "WD tagger v3 ViT: tags, quick", "Apache-2.0", "0.4 GB",
              "Danbooru tags, for drawings and anime. Runs on a processor too.", tagger=True, prompt=False),
    Captioner("SmilingWolf/wd-eva02-large-tagger-v3", "WD tagger v3 EVA-02: tags, exact", "Apache-2.0", "1.3 GB",
              "As the quick one, and misses fewer.", tagger=True, prompt=False),
)  # fmt: skip
_OFFERED = {one.id: one for one in OFFERED}


def choices() -> list[tuple[str, str]]:
    """Return (title with licence and size, Hub id) of the models that are offered."""
    return [(f"{one.title} ({one.licence}, {one.size})", one.id) for one in OFFERED]


def asks(model: str) -> tuple[bool, bool, bool]:
    """Return whether a model has thresholds, has several lengths, and takes a prompt; all where it is not known."""
    if known := _OFFERED.get(model):
        return known.tagger, not known.tagger and "blip" not in model, known.prompt
    try:
        folder = Path(model).expanduser() if model else Path()
        tags, config = (folder / "selected_tags.csv").is_file(), (folder / "config.json").is_file()
    except (OSError, RuntimeError, ValueError):
        tags = config = False  # it is still being typed
    return tags or not config, not tags, not tags


def note_html(model: str | None) -> str:
    """HTML: what one should know of a model before it is used."""
    name = (model or "").strip()
    if known := _OFFERED.get(name):
        said = f"{known.about} Licence {known.licence}; {known.size} are fetched from the Hub when it is first used."
        return f'<div class="base-note"><code>{html.escape(name)}</code> {html.escape(said)}</div>'
    said = (
        "A folder, or a Hub id as owner/name: Florence-2, BLIP, a chat model that sees pictures (LLaVA and its kin), "
        "or a WD tagger. Its weights must be safetensors or ONNX; code that comes with it is never run."
    )
    return f'<div class="base-note">{said}</div>'


def in_page(error: UserError) -> UserError:
    """An error of the command line, with the names that its options have in the page."""
    return UserError(error.problem, PAGE_NAMES.get(error.where, error.where), error.fix)


def state_html(folder: Path, album: Album, found: Captioning) -> str:
    """HTML: how far a captioning is, the picture that was captioned last, what came of it."""
    if found.request is None:
        return ""
    name = html.escape(Path(found.request.model).name)
    words = {
        State.RUNNING: "is writing captions" if _total(found) else f"is getting ready{_stage(found)}",
        State.STOPPED: "was stopped; what it wrote is kept",
        State.LOST: "was interrupted; what it wrote is kept",
        State.FAILED: "could not do it",
        State.DONE: "is done",
    }[found.state]
    total, done = _total(found), found.progress.done if found.progress else 0
    share = 100 if found.state is State.DONE else 100 * done / total if total else 0
    figures = [f"<b>{done}</b> of {sets.count(total, 'picture')}"] if total else []
    figures += [f"<b>{left}</b> left"] if (left := _left(found)) else []
    return (
        f'<div class="run" data-state="{found.state.value}" data-done="{done}">'
        f'<div class="head"><b>{name}</b> {words}</div>'
        f'<div class="track"><div class="fill" style="width:{share:.1f}%"></div></div>'
        f'<div class="figures">{"".join(f"<span>{figure}</span>" for figure in figures)}</div>'
        f"{_last_html(folder, album, found)}{_answer_html(found.answer)}{_error_html(found.error)}</div>"
    )


def _total(found: Captioning) -> int:
    return found.progress.total if found.progress else 0


def _stage(found: Captioning) -> str:
    return f": {html.escape(found.progress.what)}" if found.progress else ""


def _left(found: Captioning) -> str:
    """How long it still takes: as it was said last, less what has gone by since."""
    if found.state is not State.RUNNING or not found.progress or found.progress.left is None:
        return ""
    return duration(max(0.0, found.progress.left - found.age))


def _last_html(folder: Path, album: Album, found: Captioning) -> str:
    """HTML: the picture that was captioned last, and its words."""
    entry = _entry(album, found.progress.picture) if found.progress else None
    if entry is None or found.progress is None or found.state is not State.RUNNING:
        return ""
    words = html.escape(found.progress.caption) or "<i>it saw nothing in it</i>"
    return (
        f'<figure class="said"><img src="{grid.source(folder, entry)}" alt="">'
        f"<figcaption><b>{html.escape(entry.name)}</b><br>{words}</figcaption></figure>"
    )


def _entry(album: Album, picture: str) -> Entry | None:
    return next((entry for entry in album.entries if entry.id == picture), None)


def _answer_html(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return ""
    changed, skipped = int(answer.get("changed", 0)), list(answer.get("skipped", ()))
    said = f"{sets.count(changed, 'picture')} got a caption; Undo above takes them all back."
    if not changed:
        said = "No picture got another caption: there was none to ask for, or they have these words already."
    lines = [f"{name}: {reason}" for name, reason in skipped[:SKIPPED]] + list(answer.get("notices", ()))
    lines += [f"and {len(skipped) - SKIPPED} more without words"] if len(skipped) > SKIPPED else []
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div class="report">{said}{f"<ul>{listed}</ul>" if listed else ""}</div>'


def _error_html(error: UserError | None) -> str:
    return f'<div class="notice">{html.escape(str(in_page(error)))}</div>' if error else ""
