"""Captions by a model: which one, how it is asked, how far it is; a process of its own that a page finds again."""

from pathlib import Path
from typing import Any, get_args

import gradio as gr
from pydantic import ValidationError

from app.jobs import captioning
from app.jobs.beside import State
from app.tabs.dataset.desk import Desk, look, news
from app.views import captioners
from app.views.page import kindly, quiet
from trainer.contract.errors import UserError
from trainer.contract.requests import CaptionRequest, Detail

MODES = [("keep it", "missing"), ("get a new one", "replace"), ("get one more", "append")]
DETAILS = {"auto": "as the model is made for", "brief": "a short sentence", "detailed": "some sentences",
           "paragraph": "a paragraph"}  # fmt: skip
PERIOD = 1.0  # seconds between looks while one is going on
RESUMABLE = (State.STOPPED, State.LOST, State.FAILED)
Fields = dict[str, Any]  # field of the request -> its component


def build(desk: Desk, seen: gr.Textbox) -> None:
    """Lay out the panel; `seen` is what it shows, in short."""
    with gr.Accordion("Let a model write the captions", open=False, elem_id="dataset-captioner") as box:
        fields, scope = _fields()
        with gr.Row(elem_classes="tight"):
            begin = gr.Button("Write captions", variant="primary", size="md", elem_id="captioner-start", min_width=140)
            end = gr.Button("Stop", variant="stop", size="md", visible=False, elem_id="captioner-stop", min_width=120)
            again = gr.Button("Resume", variant="primary", size="md", visible=False, elem_id="captioner-resume",
                              min_width=120)  # fmt: skip
            take = gr.Button("", size="md", visible=False, elem_id="captioner-take", min_width=160)
        told = gr.HTML("", elem_id="captioner-told", apply_default_css=False)
    timer = gr.Timer(PERIOD, active=False)
    path = desk.page.dataset
    shown = [seen, told, begin, end, again, take, timer, box, desk.changed]

    def started(path: str, before: str, scope: str, chosen: str, *values: Any) -> Any:
        if scope == "chosen" and not chosen:
            raise UserError("no picture is open or selected", "Of which pictures", "Click one, or choose all.")
        request = asked(desk.own(path), chosen if scope == "chosen" else "", dict(zip(fields, values, strict=True)))
        captioning.start(Path(path), request)
        return refreshed(path, before)

    def resumed(path: str, before: str, **changes: Any) -> Any:
        captioning.resume(desk.own(path), **changes)
        return refreshed(path, before)

    def stopped(path: str, before: str) -> Any:
        captioning.stop(desk.own(path))
        return refreshed(path, before)

    now, one = [path, seen], quiet(trigger_mode="once")
    begin.click(kindly(started), [*now, scope, desk.meant, *fields.values()], shown, **one)
    again.click(kindly(resumed), now, shown, **one)
    take.click(kindly(lambda path, before: resumed(path, before, known_only=True)), now, shown, **one)
    end.click(kindly(stopped), now, shown, **one)
    timer.tick(kindly(refreshed), now, shown, **one)
    gr.on([path.change, desk.changed.change, desk.page.tab.select], kindly(refreshed), now, shown, **quiet())
    path.change(lambda path: _filled(path, fields), path, [*fields.values()], **quiet())


def _fields() -> tuple[Fields, gr.Radio]:
    """The components of what is asked, by the fields of the request; and of which pictures."""
    fields: Fields = {}
    first = captioners.OFFERED[0].id
    with gr.Row(elem_classes="tight"):
        fields["model"] = gr.Dropdown(captioners.choices(), value=first, label="Model", allow_custom_value=True,
                                      elem_id="captioner-model", min_width=280,
                                      info="Choose, or type a Hub id or a folder.")  # fmt: skip
        fields["mode"] = gr.Radio(MODES, value="missing", label="Pictures that have a caption", min_width=280,
                                  elem_id="captioner-mode")  # fmt: skip
    note = gr.HTML(captioners.note_html(first), elem_id="captioner-note", padding=False)
    has, several, free = captioners.asks(first)
    with gr.Row(elem_classes="tight"):
        details = [(DETAILS[key], key) for key in get_args(Detail)]
        fields["task"] = gr.Dropdown(details, value="auto", label="How much it says", visible=several,
                                     elem_id="captioner-task", min_width=180)  # fmt: skip
        fields["prompt"] = gr.Textbox(label="Prompt", placeholder="its own", visible=free, elem_id="captioner-prompt",
                                      info="Said to the model instead, where it takes one.", min_width=220)  # fmt: skip
    with gr.Row(elem_classes="tight"):
        for name, value, label in (("threshold", 0.35, "Least probability of a tag"),
                                   ("character_threshold", 0.85, "… of a character's name")):  # fmt: skip
            fields[name] = gr.Slider(0.01, 0.99, value, step=0.01, label=label, visible=has, min_width=200,
                                     elem_id=f"captioner-{name.replace('_', '-')}")  # fmt: skip
    with gr.Row(elem_classes="tight"):
        fields["trigger"] = gr.Textbox(label="Put in front", placeholder="nothing", elem_id="captioner-trigger",
                                       info="Of each caption. Training adds the set's trigger by itself.",
                                       min_width=200)  # fmt: skip
        fields["batch"] = gr.Number(8, label="Pictures at once", minimum=1, maximum=512, precision=0, min_width=110,
                                    elem_id="captioner-batch", info="Fewer where memory is short.")  # fmt: skip
        fields["revision"] = gr.Textbox(label="Revision", placeholder="main", elem_id="captioner-revision",
                                        info="Of a model from the Hub.", min_width=120)  # fmt: skip
        scope = gr.Radio([("all", "all"), ("the open or selected", "chosen")], value="all",
                         label="Of which pictures", elem_id="captioner-scope", min_width=220)  # fmt: skip
    follows = [note, *(fields[name] for name in ("task", "prompt", "threshold", "character_threshold"))]
    fields["model"].change(_follow_model, fields["model"], follows, **quiet(trigger_mode="always_last"))
    return fields, scope


def _filled(path: str, fields: Fields) -> Any:
    """What was asked of this set last; the fields stay where nothing was."""
    request = captioning.look(Path(path)).request if path else None
    return [getattr(request, name) for name in fields] if request else gr.skip()


def _follow_model(model: str | None) -> Any:
    has, several, free = captioners.asks((model or "").strip())
    return (
        captioners.note_html(model),
        gr.Dropdown(visible=several),
        gr.Textbox(visible=free),
        gr.Slider(visible=has),
        gr.Slider(visible=has),
    )


def asked(folder: Path, chosen: str, values: Fields) -> CaptionRequest:
    """The request that stands in the page; what the model's kind has no use for is left as it is by itself.

    Raises:
        UserError: a field cannot be used.
    """
    model = str(values["model"] or "").strip()
    if not model:
        raise UserError("no model is named", "Model", "Choose one, or type a Hub id or a folder.")
    has, several, free = captioners.asks(model)
    unused = {"task": several, "prompt": free, "threshold": has, "character_threshold": has}
    used = {name: value for name, value in values.items() if unused.get(name, True) and value is not None}
    texts = {name: used[name].strip() for name in ("prompt", "trigger", "revision") if used.get(name)}
    try:
        return CaptionRequest.model_validate(
            {**used, **texts, "dataset": str(folder), "model": model, "chosen": tuple(chosen.split())}
        )
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise UserError(told, "Let a model write the captions", "Correct it, then begin again.") from error


def refreshed(path: str, before: str) -> Any:
    """New values of the panel; nothing where all is as it was `before`.

    Word goes round that the set has changed where its captioning ended since then.
    """
    folder, found = Path(path or "."), captioning.look(Path(path)) if path else captioning.Captioning()
    done = found.progress.done if found.progress else 0
    now = f"{path}|{found.state}|{done}"
    going = found.state is State.RUNNING
    if now == before and not going:
        return gr.skip()
    finished = found.state is State.DONE and before.rpartition("|")[0] == f"{path}|{State.RUNNING}"
    can_take = found.state in (State.STOPPED, State.LOST) and done
    return (
        now,
        captioners.state_html(folder, look(path, "", "all")[0], found),
        gr.Button(visible=not going, variant="secondary" if found.state in RESUMABLE else "primary"),
        gr.Button(visible=going),
        gr.Button("Try again" if found.state is State.FAILED else "Resume", visible=found.state in RESUMABLE),
        gr.Button(f"Use the {done} written so far", visible=bool(can_take)),
        gr.Timer(active=going),
        gr.Accordion(open=True) if going else gr.skip(),
        news() if finished else gr.skip(),
    )
