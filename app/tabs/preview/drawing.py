"""Base and result, drawn as few times as may be: a draft while a slider moves, then the whole."""

import html
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from app.preview import Engine
from app.tabs.preview.form import Form, Wanted, wanted
from app.tabs.preview.stage import DRAFT, HALF, Shown, inline
from app.views import pictures, previews
from app.views.previews import address
from trainer.contract.requests import GenerateRequest, Picture, Strength
from trainer.formats.parameters import decimal_text
from trainer.formats.prompt import take_tags

DRAFT_STEPS = 6
FRAMES = 4  # pictures on the way
PAUSE = 0.15  # seconds between two words of how far it is: each costs the browser time
MOST_BASES = 50
View = tuple[Any, Any, Any]  # what the bar, the stage and the history are given
NOTHING: View = (gr.skip(), gr.skip(), gr.skip())

CANCEL = """element.addEventListener("click", event => {
    if (event.target.closest("[data-act=cancel]")) trigger("cancel", {});
});"""


@dataclass(frozen=True)
class Desk:
    """What drawing needs.

    Attributes:
        home: the data folder.
        engine: draws.
        bases: a request with the first adapter only -> the base's picture, so that a slider draws one picture.
    """

    home: Path
    engine: Engine
    bases: dict[GenerateRequest, Path] = field(default_factory=dict)


def bar_html(words: str, share: float) -> str:
    """HTML: how far it is, and the way to cancel it."""
    fill = f'<div class="fill" style="width:{share:.0f}%"></div>'
    return (
        f'<div class="going"><span>{words}</span><div class="track">{fill}</div>'
        '<button type="button" data-act="cancel">Cancel</button></div>'
    )


def caption_html(strengths: Sequence[float | Strength], notices: Sequence[str], words: str) -> str:
    """HTML: words about what is shown, and what the engine wants known."""
    values = " ".join(str(one.unet if isinstance(one, Strength) else one) for one in strengths)
    told = "".join(f'<div class="hint">{html.escape(notice)}</div>' for notice in notices)
    return f'<div class="sides" data-strengths="{values}"><span>{html.escape(words)}</span></div>{told}'


def words_of(strengths: Sequence[float | Strength], tagged: bool = False) -> str:
    """What a result is, in words."""
    if not strengths and not tagged:
        return "no adapter: the base alone"
    told = ", ".join(map(_strength, strengths))
    return f"with adapters at {told}" if told else "with adapters of the prompt"


def _strength(one: float | Strength) -> str:
    if not isinstance(one, Strength):
        return decimal_text(one)
    text = f" (text {decimal_text(one.text_encoder)})" if one.text_encoder is not None else ""
    return f"{decimal_text(one.unet)}{text}{f' {one.blocks}' if one.blocks else ''}"


class Pace:
    """Says whether it is time for another word."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        """Whether the last time that it was, is long enough ago."""
        if (now := time.monotonic()) < self._next:
            return False
        self._next = now + PAUSE
        return True


def draw(desk: Desk, form: Form, slot: str) -> Iterator[View]:
    """Draw the picture of the form, and the base's where it is not known, as far as both differ.

    Raises:
        UserError: the form or the engine says so.
    """
    asked = wanted(desk.home, form, previews.folder(desk.home))
    picture, key = asked.request.pictures[0], _key(asked)
    base = desk.bases.get(key)
    base = base if base and base.exists() else None
    todo = [picture] if asked.changed else []
    given = {"pictures": tuple(todo if base else [_plain(picture), *todo]), "frames": max(1, form.steps // FRAMES)}
    request = asked.request.model_copy(update=given)
    if base and not todo:
        yield _finished(desk, form, asked, (base, base), 0.0, ())
        return
    shown = _blank(desk, asked, base)
    yield bar_html("Getting ready …", 0), shown.but(words="", mark=HALF).value("begin"), gr.skip()
    places, pace, last = len(request.pictures), Pace(), dict[str, Any]()
    for last in desk.engine.draw(request, slot):
        if view := _on_the_way(last, shown, places, pace):
            yield view
    if last["kind"] == "cancelled":
        if desk.engine.newest(request, slot):
            yield '<div class="sides"><span>Cancelled.</span></div>', gr.skip(), gr.skip()
        return
    files = [Path(one) for one in last["files"]]
    base = base or files[0]
    while len(desk.bases) >= MOST_BASES:
        desk.bases.pop(next(iter(desk.bases)))
    desk.bases[key] = base
    yield _finished(desk, form, asked, (base, files[-1] if todo else base), last["seconds"], last.get("notices", ()))


def _on_the_way(answer: dict[str, Any], shown: Shown, places: int, pace: Pace) -> View | None:
    """What is shown of an answer before the last, if anything."""
    if answer["kind"] == "progress" and pace.due():
        return bar_html("Drawing", 100 * answer["step"] / max(1, answer["steps"])), gr.skip(), gr.skip()
    if answer["kind"] != "frames":
        return None
    drawn = dict(zip(answer["places"], (inline(Path(one)) for one in answer["files"]), strict=True))
    if not (result := drawn.get(places - 1)):
        return None
    base = drawn.get(0, "") if places > 1 else shown.base
    return gr.skip(), shown.but(base=base, result=result, mark=HALF).value(), gr.skip()


def draft(desk: Desk, form: Form, slot: str) -> Iterator[View]:
    """Draw the result in a few steps, for a slider that still moves; it is in no history."""
    asked = wanted(desk.home, form, pictures.cache(desk.home) / "preview")
    if not asked.changed or form.steps <= DRAFT_STEPS:
        yield NOTHING
        return
    base = desk.bases.get(_key(asked, previews.folder(desk.home)))
    request = asked.request.model_copy(update={"steps": DRAFT_STEPS})
    for answer in desk.engine.draw(request, slot):
        if answer["kind"] == "done":
            file = Path(answer["files"][0])
            shown = _blank(desk, asked, base)
            yield gr.skip(), shown.but(result=inline(file), mark=DRAFT).value(), gr.skip()
            file.unlink(missing_ok=True)


def _key(asked: Wanted, out: Path | None = None) -> GenerateRequest:
    """What the base's picture depends on. The first adapter stays: the engine takes the clip skip from there."""
    request = asked.request
    alone = _plain(request.pictures[0]).model_copy(update={"strengths": ()})
    changes = {"id": "", "adapters": request.adapters[:1], "pictures": (alone,), "out": str(out or request.out)}
    return request.model_copy(update=changes)


def _plain(picture: Picture) -> Picture:
    """The base's own: no adapter, nor one that the prompt names."""
    still = (0.0,) * len(picture.strengths)
    return picture.model_copy(update={"prompt": take_tags(picture.prompt)[0].strip(), "strengths": still})


def _blank(desk: Desk, asked: Wanted, base: Path | None) -> Shown:
    size = (pictures.size(base) if base else None) or asked.request.size or (1, 1)
    words = words_of(asked.request.pictures[0].strengths, asked.changed)
    return Shown(address(base.name) if base else "", "", *size, words)


def _finished(
    desk: Desk, form: Form, asked: Wanted, files: tuple[Path, Path], seconds: float, notices: Sequence[str]
) -> View:
    """Keep it in the history and show it."""
    base, result = files
    strengths = asked.request.pictures[0].strengths
    size = pictures.size(result) or (1, 1)
    facts = {
        "words": form.prompt, "picture": result.name, "base": base.name, "files": sorted({base.name, result.name}),
        "form": form.model_dump(mode="json"), "said": words_of(strengths, asked.changed), "size": size,
    }  # fmt: skip
    previews.keep(desk.home, asked.request.id, facts)
    said = caption_html(strengths, [*asked.notices, *notices], f"drawn in {seconds:.1f} s")
    return said, shown_of(facts).value(), asked.request.id


def shown_of(facts: dict[str, Any]) -> Shown:
    """A picture as it was kept."""
    width, height = facts["size"]
    return Shown(address(facts["base"]), address(facts["picture"]), width, height, facts["said"],
                 download=facts["picture"])  # fmt: skip
