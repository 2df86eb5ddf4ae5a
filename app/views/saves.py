"""The files of a run: what each is, and what to do with it; and where a resume goes on from."""

import html
from pathlib import Path
from urllib.parse import quote

from app.jobs.model import Shown
from app.jobs.queue import Entry
from app.views import progress
from app.views.adapters import link_in_run
from trainer.contract.checkpoints import list_checkpoints, step_of
from trainer.contract.errors import UserError
from trainer.contract.rundir import RunDir

SCRIPT = """element.addEventListener("click", event => {
    const button = event.target.closest("[data-act]");
    if (button) trigger("act", { act: button.dataset.act, file: button.closest("[data-file]").dataset.file });
});"""


def saves_html(item: Entry, found: progress.Track) -> str:
    """HTML: a row for each adapter file, the chosen one first, then the end, then the saves from the last on."""
    run = item.run
    steps = {path: step for step, path in run.step_files().items()}
    rows = "".join(_row(run, path, steps.get(path), found) for path in run.adapter_files())
    listed = f'<table class="saves"><tbody>{rows}</tbody></table>' if rows else ""
    kept = [step_of(path) for path in list_checkpoints(run.checkpoints)]
    told = f"Resume goes on from step {kept[-1]}." if kept and item.shown is not Shown.DONE else ""
    nothing = "" if rows else "Files appear here with the first save."
    hint = " ".join(filter(None, (nothing, told)))
    return listed + (f'<div class="hint">{hint}</div>' if hint else "")


def _row(run: RunDir, path: Path, step: int | None, found: progress.Track) -> str:
    what = "the chosen one" if path == run.best_file else "as a plain LoRA" if path == run.plain_file else "the end"
    what = what if step is None else f"step {step}"
    name, held = html.escape(path.name), found.rounds.get(-1 if step is None else step)
    loss = f"validation loss {held.loss:.4f}" if held else ""
    use = "" if path == run.best_file else _button("use", "Use this one", name)
    return (
        f'<tr data-file="{name}"><th scope="row">{what}<em>{name}</em></th>'
        f"<td>{path.stat().st_size / 2**20:.1f} MB</td><td>{loss}</td>"
        f'<td><span class="acts">{_button("preview", "Preview this", name)}{use}'
        f'<a href="{quote(link_in_run(path))}" download aria-label="Download {name}">Download</a>'
        "</span></td></tr>"
    )


def _button(act: str, words: str, name: str) -> str:
    return f'<button type="button" data-act="{act}" aria-label="{words}: {name}">{words}</button>'


def file_named(run: RunDir, name: str) -> Path:
    """An adapter file of a run by its name. Raises UserError where there is none."""
    for path in run.adapter_files():
        if path.name == name:
            return path
    raise UserError(f"run '{run.name}' has no file '{name[:100]}' any more", "run", "Choose one that is listed.")
