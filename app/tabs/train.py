"""Train: six questions, one button; every other setting under "All settings"; the run live beside it."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app import form
from app.jobs import queue
from app.settings import change_settings, load_settings
from app.views import eyes, live, sets
from app.views.bases import BASES, note_html, shelf
from app.views.lengths import UNITS, lengths_html, planned_or_none
from app.views.notes import Note, notes, notes_of, style
from app.views.page import Page, edited, in_turn, kindly, quiet
from app.views.presets import OWN, PACES, about_html
from trainer.contract.catalog import check_package, optimizer_row
from trainer.contract.compose import LENGTHS, compose
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError
from trainer.contract.presets import AUTO_RATE, DEFAULT_LENGTH, Preset, load_preset, presets
from trainer.formats.bases import check_base
from trainer.formats.foreign import read_foreign
from trainer.pictures.gather import check_run

ID = "train"
PRESETS = {"style": "A style", "subject": "A subject: one person, animal or thing"}

ASKED = {  # settings that are questions of their own -> the id of the question's component
    "dataset.path": "train-dataset",
    "dataset.trigger": "train-trigger",
    "model.base": "train-base",
    **{f"training.{name}": "train-length" for name in LENGTHS},
}
RATES = tuple(f"optimizer.{part}learning_rate" for part in ("", "text_encoder_", "text_encoder_2_"))

Components = dict[str, Any]  # setting or question -> its component


def build(page: Page) -> None:
    """Lay out the tab."""
    settings = load_settings(page.home)
    preset = _preset(settings.base, settings.preset)
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=4, min_width=340):
            essential, asked = _essential(page, settings.base, settings.preset, preset)
            go = gr.Button("Train", variant="primary", size="lg", elem_id="train-go")
            problem = gr.Markdown(visible=False, elem_id="train-problem")
            advanced, told = _advanced(preset)
            told |= asked
        with gr.Column(scale=6, min_width=380):
            live.build(page)
    _wire(page, essential, advanced, told)
    go.click(
        _submit(page, essential, advanced), {*essential.values(), *advanced.values()}, [page.run, problem], **quiet()
    )


def _found(base: str, name: str) -> Preset:
    """A preset; one that this base lacks is replaced by its first."""
    place = shelf(base)
    known = presets(place)
    return load_preset(name if name in known else next(iter(known)), place)


def _preset(base: str, name: str, pace: str = DEFAULT_LENGTH) -> RunConfig:
    """The config that a preset alone gives in one of its lengths; somebody's own length is over the good one."""
    layers = _found(base, name).layers("" if pace == OWN else pace)
    return compose([*layers, {"model": {"base": base}, "dataset": {"path": "-"}}])


def _length(config: RunConfig) -> tuple[str, float]:
    return next((name, value) for name in LENGTHS if (value := getattr(config.training, name)) is not None)


def _essential(page: Page, base: str, preset_name: str, preset: RunConfig) -> tuple[Components, Components]:
    """The questions; and what is told of the set, of the preset, and of the length."""
    with gr.Group():
        dataset = gr.Dropdown(sets.choices(page.home), label="Pictures", info="A set from the Dataset tab.",
                              allow_custom_value=True, elem_id="train-dataset")  # fmt: skip
        summary = gr.HTML(elem_id="train-summary", padding=False)
        teach = gr.Radio([(PRESETS.get(name, name), name) for name in presets(shelf(base))], value=preset_name,
                         label="What to teach", elem_id="train-preset")  # fmt: skip
        about = gr.HTML(about_html(_found(base, preset_name)), padding=False, elem_id="train-about")
        model = gr.Dropdown(BASES, value=base, label="Base model", allow_custom_value=True, elem_id="train-base",
                            info="Choose, or type a .safetensors file, a diffusers folder or a Hub id.")  # fmt: skip
        note = gr.HTML(note_html(base), padding=False)
        trigger = gr.Textbox(label="Trigger word", placeholder="none", elem_id="train-trigger",
                             info="A rare word that calls the subject in prompts. A style can do without.")  # fmt: skip
        warning = gr.HTML("", elem_id="train-trigger-note", padding=False)
        trigger.change(sets.trigger_note_html, trigger, warning, **in_turn("train-trigger-note"))
        taught = _how_long(preset)
        lengths = gr.HTML(padding=False)
        name = gr.Textbox(label="Name", placeholder="made from the set and what is taught", elem_id="train-name",
                          info="Of the run and of the finished file.")  # fmt: skip
    _follow_set(page, dataset, trigger, summary)
    model.change(note_html, model, note, **quiet())
    questions = {"dataset": dataset, "preset": teach, "base": model, "trigger": trigger, **taught, "name": name}
    return questions, {"summary": summary, "about": about, "lengths": lengths}


def _how_long(preset: RunConfig) -> Components:
    """The length: as the preset has it, or a number; and whether the rate is to be found."""
    unit, length = _length(preset)
    pace = gr.Radio(PACES, value=DEFAULT_LENGTH, label="How long", elem_id="train-pace")
    with gr.Row():
        number = gr.Number(length, label="Length", minimum=0, elem_id="train-length", min_width=90, scale=2)
        kind = gr.Dropdown(UNITS, value=unit, label="counted in", elem_id="train-unit", min_width=150, scale=3)
    auto = gr.Checkbox(False, label="Choose the learning rate for me", elem_id="train-auto-rate",
                       info="Prodigy finds it while it trains, and needs more steps for that.")  # fmt: skip
    return {"pace": pace, "length": number, "unit": kind, "auto_rate": auto}


def _follow_set(page: Page, dataset: gr.Dropdown, trigger: gr.Textbox, summary: gr.HTML) -> None:
    """The summary and the trigger word of the set that is chosen; a trigger that somebody typed here stays."""
    filled = gr.Textbox("", visible="hidden")  # what was taken from a set last

    def follow(path: str | None, typed: str, before: str) -> Any:
        own = sets.trigger(Path(path)) if path else ""
        kept = bool(typed) and typed != before
        return sets.summary_html(page.home, path), gr.skip() if kept else own, before if kept else own

    gr.on([dataset.change, page.tab.select], follow, [dataset, trigger, filled], [summary, trigger, filled], **quiet())


def _advanced(preset: RunConfig) -> tuple[Components, Components]:
    """Every other setting, made from the schema; and what is told of all of them."""
    components: Components = {}
    with gr.Accordion("All settings", open=False, elem_id="all-settings"):
        load = gr.UploadButton("Load settings from a file", file_types=[".toml", ".json", ".safetensors"], size="sm",
                               elem_id="train-like")  # fmt: skip
        like = gr.HTML(padding=False, elem_id="train-like-told")
        marks = gr.HTML(_marks({}), elem_id="changed")
        for section, fields in form.advanced().items():
            with gr.Accordion(form.TITLES.get(section, section), open=False), gr.Row(equal_height=True):
                for item in fields:
                    components[item.name] = form.component(item, form.value_of(preset, item.name))
        with gr.Accordion("As a file (config.toml)", open=False):
            toml = gr.Code(show_label=False, interactive=False, elem_id="train-toml", buttons=["copy", "download"])
    return components, {"toml": toml, "marks": marks, "load": load, "like": like}


def _marks(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """HTML: what differs from the preset, and a rule that marks those components."""
    if not changes:
        return '<div class="changed">All as the preset has it.</div>'
    rows = "".join(
        f"<li><code>{name}</code> {_words(old)} → <b>{_words(new)}</b></li>" for name, (old, new) in changes.items()
    )
    rule = ",".join(f"#{form.field(name).element}" for name in changes)
    mark = f"<style>{rule}{{box-shadow:inset 3px 0 0 var(--primary-500)}}</style>"
    return f'{mark}<div class="changed">Differs from the preset:<ul>{rows}</ul></div>'


def _words(value: Any) -> str:
    return "–" if value is None or value == () else str(value)


def _config(values: Mapping[str, Any], preset: RunConfig) -> RunConfig:
    """Build the config of what stands in the page. Raises UserError with every mistake."""
    base, length = str(values["base"]).strip(), values["length"]
    if isinstance(length, float) and length.is_integer():
        length = int(length)
    own = {
        "model": {"base": base},
        "dataset": {"path": str(values["dataset"] or ""), "trigger": str(values["trigger"] or "").strip()},
        "training": {values["unit"]: length},
    }
    settings = form.layer({name: value for name, value in values.items() if "." in name})
    return compose([preset.model_dump(exclude_none=True), settings, own], "reset")


def _values(inputs: Mapping[Any, Any], essential: Components, advanced: Components) -> dict[str, Any]:
    return {name: inputs[component] for name, component in (essential | advanced).items()}


def _submit(page: Page, essential: Components, advanced: Components) -> Any:
    def submit(inputs: dict[Any, Any]) -> Any:
        values = _values(inputs, essential, advanced)
        try:
            if not values["dataset"]:
                raise UserError("no pictures are chosen", "Pictures", "Choose a set, or make one in the Dataset tab.")
            config = _config(values, _preset(values["base"], values["preset"], values["pace"]))
            sets.check(Path(config.dataset.path))
            check_run(config, sets.album)
            check_base(config.model.base)
            check_package(optimizer_row(config.optimizer.name))
            run = queue.submit(
                page.home, str(values["name"] or "").strip() or _default_name(config, values["preset"]), config
            )
        except UserError as error:
            return gr.skip(), gr.Markdown(
                "**This cannot start yet.**\n\n" + "\n\n".join(str(error).splitlines()), visible=True
            )
        change_settings(page.home, base=values["base"], preset=values["preset"])
        return run.name, gr.Markdown(visible=False)

    return submit


def _default_name(config: RunConfig, preset: str) -> str:
    """The set's name, and what is taught unless the set says so itself."""
    name = Path(config.dataset.path).name
    return name if preset in name else f"{name}-{preset}"


def _noted(said: list[Note]) -> str:
    """HTML: notes at their fields, several of one field together."""
    together: dict[str, Note] = {}
    for note in said:
        element = ASKED.get(note.setting, form.field(note.setting).element)
        before = together.get(element)
        together[element] = note if before is None else before._replace(text=f"{before.text} {note.text}")
    return style(together.items())


def _like(path: Path, preset: RunConfig, fields: list[str]) -> tuple[Any, ...]:
    """What the form holds after another trainer's settings were put over a preset, and what was not taken.

    Raises:
        UserError: nothing in the file is known.
    """
    found = read_foreign(path)
    config = compose([preset.model_dump(exclude_none=True), found.layer], "reset")
    rows = "".join(
        f"<li><code>{html.escape(name)}</code> {html.escape(str(value)[:60])}: {html.escape(reason)}</li>"
        for name, value, reason in found.left
    )
    rest = f"Without a counterpart:<ul>{rows}</ul>" if rows else ""
    said = f'<div class="changed">{len(found.taken)} settings taken over. {rest}</div>'
    return said, *_shown(config, fields)


def _wire(page: Page, essential: Components, advanced: Components, told: Components) -> None:
    """What follows from what: the preset fills the form, the form shows what differs and the file it makes."""
    inputs = {*essential.values(), *advanced.values()}
    outputs = [*(told[name] for name in ("toml", "marks", "lengths")), page.seen]
    outputs += [essential["pace"], essential["auto_rate"]]

    def show(values: dict[Any, Any]) -> tuple[Any, ...]:
        given = _values(values, essential, advanced)
        preset = _preset(given["base"], given["preset"], given["pace"])
        try:
            config = _config({**given, "dataset": given["dataset"] or "-"}, preset)
        except UserError as error:
            return *_refused(error), gr.skip(), gr.skip(), gr.skip()
        length = planned_or_none(config) if given["dataset"] else None
        noted = _noted(notes(config, length.steps if length else None)) + lengths_html(config, length)
        seen = eyes.key_of(config, eyes.kind_of(config.model.base))
        pace = given["pace"] if _length(config) == _length(preset) else OWN
        found = optimizer_row(config.optimizer.name).one_rate
        return form.as_toml(config), _marks(form.changed(config, preset)), noted, seen, pace, found

    for filled in _fillers(essential, advanced, told):
        filled.then(show, inputs, outputs, **in_turn("train-form"))
    own = {essential[name] for name in ("base", "preset", "pace", "auto_rate")}
    typed = edited(*(component for component in (essential | advanced).values() if component not in own))
    gr.on(typed, show, inputs, outputs, **in_turn("train-form"))
    of_set = [essential["dataset"], told["summary"]]
    page.dataset.change(
        lambda path: (gr.Dropdown(sets.choices(page.home), value=path), sets.summary_html(page.home, path)),
        page.dataset, of_set, **quiet(),
    )  # fmt: skip
    page.blocks.load(lambda: _first(page), None, of_set, **quiet()).then(show, inputs, outputs, **in_turn("train-form"))


def _fillers(essential: Components, advanced: Components, told: Components) -> list[Any]:
    """The events that change several fields of the form at once."""
    base, preset, pace, auto = (essential[name] for name in ("base", "preset", "pace", "auto_rate"))
    length, optimizer = [essential["length"], essential["unit"]], advanced["optimizer.name"]
    rates = [advanced[key] for key in RATES]
    of_preset = [preset, told["about"], pace, *length, *advanced.values()]

    def fill(base: str, name: str) -> Any:
        known, config = presets(shelf(base)), _preset(base, name)
        chosen = name if name in known else next(iter(known))
        radio = gr.Radio([(PRESETS.get(key, key), key) for key in known], value=chosen)
        return radio, about_html(_found(base, name)), DEFAULT_LENGTH, *_shown(config, list(advanced))

    return [
        gr.on([base.change, preset.input], kindly(fill), [base, preset], of_preset, **quiet()),
        essential["dataset"].change(
            kindly(lambda path, base, chosen: fill(base, name) if (name := _fit(path, chosen)) else gr.skip()),
            [essential["dataset"], base, preset], of_preset, **quiet(),
        ),
        pace.input(kindly(lambda *chosen: _paced(chosen, list(advanced))), [base, preset, pace, optimizer],
                   [*length, *advanced.values()], **quiet()),
        auto.input(kindly(_auto_rate), [base, preset, pace, auto], [optimizer, *rates], **quiet()),
        optimizer.input(kindly(_rates), [base, preset, pace, optimizer], rates, **quiet()),
        told["load"].upload(
            kindly(lambda file, *chosen: _like(Path(file), _preset(*chosen), list(advanced))),
            [told["load"], base, preset], [told["like"], *length, *advanced.values()], **quiet(),
        ),
    ]  # fmt: skip


def _shown(config: RunConfig, fields: list[str]) -> tuple[Any, ...]:
    """What the form holds of a config: length, its unit, and these settings."""
    unit, length = _length(config)
    return length, unit, *(form.to_page(form.field(key), form.value_of(config, key)) for key in fields)


def _paced(chosen: tuple[str, ...], fields: list[str]) -> tuple[Any, ...]:
    """What another length changes in the form: only what the preset's lengths say, all else stays as it was set.

    Args:
        chosen: base, preset, length and optimiser; rates are for the preset's own optimiser.
        fields: settings of the form.
    """
    base, name, pace, optimizer = chosen
    if pace == OWN:
        return (gr.skip(),) * (2 + len(fields))
    config, lengths = _preset(base, name, pace), _found(base, name).lengths.values()
    said = {f"{section}.{key}" for layer in lengths for section, values in layer.items() for key in values}
    said -= set() if optimizer == config.optimizer.name else set(RATES)
    length, unit, *values = _shown(config, fields)
    return length, unit, *(value if key in said else gr.skip() for key, value in zip(fields, values, strict=True))


def _refused(error: UserError) -> tuple[str, str, str]:
    """What stands in the places of the file, the marks and the notes while the form holds a mistake."""
    lines = str(error).splitlines()
    said = "<br>".join(html.escape(line) for line in lines)
    return "\n".join(f"# {line}" for line in lines), f'<div class="changed wrong">{said}</div>', _noted(notes_of(error))


def _fit(path: str | None, chosen: str) -> str:
    """The preset that a sample set is there for, "" where it is chosen already."""
    name = sets.teaches(path)
    return "" if name == chosen else name


def _rates(base: str, preset: str, pace: str, optimizer: str) -> list[form.Plain]:
    """The preset's learning rates as another optimiser takes them."""
    given = _preset(base, preset, pace).model_dump(exclude_none=True)
    config = compose([given, {"optimizer": {"name": optimizer}}])
    return [form.to_page(form.field(key), form.value_of(config, key)) for key in RATES]


def _auto_rate(base: str, preset: str, pace: str, wanted: bool) -> list[form.Plain]:
    """Optimiser and rates: one that finds them, or the preset's.

    Raises:
        UserError: its package is not installed.
    """
    given = _preset(base, preset, pace).model_dump(exclude_none=True)
    config = compose([given, AUTO_RATE if wanted else {}], "reset")
    check_package(optimizer_row(config.optimizer.name))
    return [form.to_page(form.field(key), form.value_of(config, key)) for key in ("optimizer.name", *RATES)]


def _first(page: Page) -> tuple[gr.Dropdown, str]:
    known = sets.choices(page.home)
    chosen = known[0][1] if known else None
    return gr.Dropdown(known, value=chosen), sets.summary_html(page.home, chosen)
