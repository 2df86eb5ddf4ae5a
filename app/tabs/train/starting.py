"""From what stands in the form to a run in the queue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app import form, owners
from app.jobs import queue
from app.jobs.wanting import checked
from app.settings import change_settings
from app.tabs.train.filling import Components, preset_config
from app.views import sets
from app.views.bases import NO_BASE
from app.views.page import Page
from trainer.contract.compose import compose
from trainer.contract.config import RunConfig
from trainer.contract.errors import UserError


def values_of(inputs: Mapping[Any, Any], essential: Components, advanced: Components) -> dict[str, Any]:
    """What stands in the form, by question and setting."""
    found = {name: inputs[component] for name, component in (essential | advanced).items()}
    return {**found, "base": str(found["base"] or "").strip()}


def config_of(values: Mapping[str, Any], preset: RunConfig) -> RunConfig:
    """Build the config of what stands in the page. Raises UserError with every mistake."""
    length = values["length"]
    if isinstance(length, float) and length.is_integer():
        length = int(length)
    own = {
        "model": {"base": values["base"] or NO_BASE},
        "dataset": {"path": str(values["dataset"] or ""), "trigger": str(values["trigger"] or "").strip()},
        "training": {values["unit"]: length},
    }
    settings = form.layer({name: value for name, value in values.items() if "." in name})
    return compose([preset.model_dump(exclude_none=True), settings, own], "reset")


def submit(page: Page, essential: Components, advanced: Components) -> Any:
    """What the button does."""

    def submit(inputs: dict[Any, Any]) -> Any:
        values = values_of(inputs, essential, advanced)
        try:
            run = _start(page, values)
        except UserError as error:
            said = "**This cannot start yet.**\n\n" + "\n\n".join(str(error).splitlines())
            return gr.skip(), gr.Markdown(said, visible=True), gr.skip()
        if owners.bounded() is None:
            own = {} if values["base"] == "demo" else {"own_base": values["base"]}
            change_settings(page.home, base=values["base"], preset=values["preset"], **own)
        return run, gr.Markdown(visible=False), gr.Tabs(selected="queue")

    return submit


def _start(page: Page, values: Mapping[str, Any]) -> str:
    """Put the run into the queue and return its name. Raises UserError with what stands against it."""
    if not values["dataset"]:
        raise UserError("no pictures are chosen", "Pictures", "Choose a set, or make one in the Dataset tab.")
    if not values["base"]:
        fix = (
            "Choose the model that shall learn your pictures; the practice base shows how it goes, without a download."
        )
        raise UserError("no base model is chosen", "Base model", fix)
    config = config_of(values, preset_config(values["base"], values["preset"], values["pace"]))
    sets.check(Path(config.dataset.path))
    config = checked(page.home, config, sets.album)
    name = str(values["name"] or "").strip() or _default_name(config, values["preset"])
    return queue.submit(page.home, name, config).name


def _default_name(config: RunConfig, preset: str) -> str:
    """The set's name, and what is taught unless the set says so itself."""
    name = Path(config.dataset.path).name
    return name if preset in name else f"{name}-{preset}"
