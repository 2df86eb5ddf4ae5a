"""What follows from what: the preset fills the form; the form shows its plan, what differs, and the file it makes."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from app import form
from app.tabs.train import filling
from app.tabs.train.filling import RATES, Components, preset_config
from app.tabs.train.questions import base_for, teachable
from app.tabs.train.settings import event_of, marks_html
from app.tabs.train.starting import config_of, values_of
from app.views import eyes, sets
from app.views.lengths import planned_or_none
from app.views.notes import Note, notes, notes_of, style
from app.views.page import Page, edited, in_turn, kindly, quiet
from app.views.plan import plan_html
from app.views.presets import OWN, about_html
from trainer.contract.catalog import optimizer_row
from trainer.contract.compose import LENGTHS
from trainer.contract.errors import UserError
from trainer.contract.presets import DEFAULT_LENGTH

ASKED = {  # settings that are questions of their own -> the id of the question's component
    "dataset.path": "train-dataset",
    "dataset.trigger": "train-trigger",
    "model.base": "train-base",
    **{f"training.{name}": "train-length" for name in LENGTHS},
}


def wire(page: Page, essential: Components, advanced: Components, told: Components) -> None:
    """Let every change show at once what it makes of the run."""
    inputs = {*essential.values(), *advanced.values()}
    outputs = [*(told[name] for name in ("toml", "marks", "plan")), page.seen, essential["pace"]]

    def show(values: dict[Any, Any]) -> tuple[Any, ...]:
        return _shown(page.home, values_of(values, essential, advanced))

    for filled in (*_fillers(page, essential, advanced, told), *_ways_back(essential, advanced, told)):
        filled.then(show, inputs, outputs, **in_turn("train-form"))
    own = {essential[name] for name in ("base", "preset", "pace", "auto_rate")}
    typed = edited(*(component for component in (essential | advanced).values() if component not in own))
    gr.on(typed, show, inputs, outputs, **in_turn("train-form"))
    of_set = [essential["dataset"], told["summary"]]
    page.dataset.change(
        lambda path: (gr.Dropdown(sets.choices(page.home), value=path), sets.summary_html(page.home, path)),
        page.dataset, of_set, **quiet(),
    )  # fmt: skip
    first = [*of_set, essential["base"], told["given"]]
    page.blocks.load(lambda: _first(page), None, first, **quiet()).then(show, inputs, outputs, **in_turn("train-form"))


def _shown(home: Path, given: dict[str, Any]) -> tuple[Any, ...]:
    """The file, the marks, the plan with notes at the fields, how pictures are seen, and whose the length is."""
    preset = preset_config(given["base"], given["preset"], given["pace"])
    try:
        config = config_of({**given, "dataset": given["dataset"] or "-"}, preset)
    except UserError as error:
        return *_refused(error), gr.skip(), gr.skip()
    planned = planned_or_none(config) if given["dataset"] else None
    plan = plan_html(home, config, filling.found(given["base"], given["preset"]), planned)
    noted = _noted(notes(config, planned.length.steps if planned else None))
    seen = eyes.key_of(config, eyes.kind_of(config.model.base)) if given["base"] else gr.skip()
    pace = given["pace"] if filling.length_of(config) == filling.length_of(preset) else OWN
    # A click on another length that came while this was worked out stands.
    stands = gr.skip() if pace == given["pace"] else pace
    return form.as_toml(config), marks_html(form.changed(config, preset)), noted + plan, seen, stands


def _fillers(page: Page, essential: Components, advanced: Components, told: Components) -> list[Any]:
    """The events that change several fields of the form at once; each writes only those that it can change."""
    base, preset, pace, auto = (essential[name] for name in ("base", "preset", "pace", "auto_rate"))
    length, optimizer, dataset = (
        [essential["length"], essential["unit"]],
        advanced["optimizer.name"],
        essential["dataset"],
    )
    rates = [advanced[key] for key in RATES]
    optimizer.change(kindly(lambda name: optimizer_row(name).one_rate), optimizer, auto, **quiet())
    said, paced = filling.said_by_presets(), filling.said_by_lengths()
    of_preset = [preset, told["about"], pace, *length, *(advanced[key] for key in said)]

    def fill(base: str | None, name: str) -> Any:
        base = (base or "").strip()
        radio, chosen = teachable(base, name)
        filled = filling.shown(preset_config(base, chosen), said)
        return radio, about_html(filling.found(base, chosen)), DEFAULT_LENGTH, *filled

    def follow(path: str | None, before: str | None, given: str, name: str) -> Any:
        wanted, fits = base_for(page.home, path, before or "", given), filling.fit(path, name)
        if wanted == (before or "") and fits == name:
            return gr.skip()
        return wanted or None, wanted, *fill(wanted, fits)

    return [
        gr.on([base.change, preset.input], kindly(fill), [base, preset], of_preset, **quiet()),
        dataset.change(kindly(follow), [dataset, base, told["given"], preset], [base, told["given"], *of_preset],
                       **quiet()),
        pace.input(kindly(lambda *chosen: filling.paced(chosen, paced)), [base, preset, pace, optimizer],
                   [*length, *(advanced[key] for key in paced)], **quiet()),
        auto.input(kindly(filling.auto_rate), [base, preset, pace, auto], [optimizer, *rates], **quiet()),
        optimizer.input(kindly(filling.rates), [base, preset, pace, optimizer], rates, **quiet()),
        told["load"].upload(
            kindly(lambda file, *chosen: filling.like(Path(file), preset_config(*chosen), list(advanced))),
            [told["load"], base, preset], [told["like"], *length, *advanced.values()], **quiet(),
        ),
    ]  # fmt: skip


def _ways_back(essential: Components, advanced: Components, told: Components) -> list[Any]:
    """A click at a setting that differs puts it back to the preset: an event for each group, with its fields."""
    chosen = [essential[name] for name in ("base", "preset", "pace")]

    events = []
    for section in form.advanced():
        fields = [name for name in advanced if name.startswith(f"{section}.")]
        listen = getattr(told["marks"], event_of(section))
        events += [listen(_back(fields), chosen, [advanced[name] for name in fields], **quiet())]
    return events


def _back(fields: list[str]) -> Any:
    def back(event: gr.EventData, base: str, preset: str, pace: str) -> Any:
        return filling.put_back((base, preset, pace), str(event.setting), fields)

    return kindly(back)


def _noted(said: list[Note]) -> str:
    """HTML: notes at their fields, several of one field together."""
    together: dict[str, Note] = {}
    for note in said:
        element = ASKED.get(note.setting, form.field(note.setting).element)
        before = together.get(element)
        together[element] = note if before is None else before._replace(text=f"{before.text} {note.text}")
    return style(together.items())


def _refused(error: UserError) -> tuple[str, str, str]:
    """What stands in the places of the file, the marks and the plan while the form holds a mistake."""
    lines = str(error).splitlines()
    said = "<br>".join(html.escape(line) for line in lines)
    wrong = f'<div class="changed wrong">{said}</div>'
    plan = f'<div class="plan-card wrong"><b>The plan</b><p>{said}</p></div>'
    return "\n".join(f"# {line}" for line in lines), wrong, _noted(notes_of(error)) + plan


def _first(page: Page) -> tuple[Any, ...]:
    """The set that one begins with, and the base for it: where it stood in the page already, nothing tells of it."""
    known = sets.choices(page.home)
    chosen = known[0][1] if known else None
    base = base_for(page.home, chosen, "demo", "demo")
    return gr.Dropdown(known, value=chosen), sets.summary_html(page.home, chosen), base or None, base
