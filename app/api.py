"""The jobs by HTTP, for programs: what the page and the command line do, under /api, described by /api/openapi.json.

It stands behind the same guard as the page: on this machine it is open, elsewhere it wants the session of a login. What
is wrong with a request comes as `{"problem", "where", "fix"}`, the sentences that people get.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app import owners
from app.jobs import queue
from app.jobs.queue import Entry
from app.jobs.wanting import Wish, build_config
from app.views import adapters, sets
from trainer import __version__
from trainer.contract.compose import Layer, layer_of
from trainer.contract.errors import UserError
from trainer.contract.presets import DEFAULT_PRESET, presets
from trainer.contract.rundir import RunDir
from trainer.formats.bases import preset_shelf

PREFIX = "/api"
MOST_EVENTS = 5_000

# What may be asked of a run, by its last word in the address.
ACTS: dict[str, Callable[[Path, str], object]] = {
    "stop": queue.stop,
    "force-stop": queue.force_stop,
    "pause": queue.pause,
    "resume": queue.resume,
    "duplicate": queue.duplicate,
    "save": lambda home, name: queue.entry(home, name).run.request("save"),
}


class Wanted(BaseModel):
    """A run to make. `settings` are as in `--set`, by `section.key`; they have the last word."""

    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(description="Name of one of your sets, or a folder of pictures on the machine of the page.")
    preset: str = Field(DEFAULT_PRESET, description="style or subject.")
    length: str = Field("", description="draft, good or best; empty: as the preset has it.")
    base: str = Field("", description="A Hub id, a diffusers folder, a checkpoint; empty: the practice base.")
    name: str = Field("", description="Of the run and its file; a number is added where it is taken.")
    trigger: str = ""
    auto_rate: bool = False
    settings: dict[str, JsonValue] = {}


class Told(BaseModel):
    """A run as it is now."""

    name: str
    state: str
    step: int
    total: int
    message: str
    fix: str
    adapter: str | None = Field(description="Address of the finished file.")


class Events(BaseModel):
    """What a run told, from an offset on, and the offset to ask from next."""

    events: list[dict[str, JsonValue]]
    next: int


class File(BaseModel):
    """An adapter file."""

    name: str
    address: str
    run: str | None
    step: int | None


def add(app: FastAPI, home: Path) -> None:
    """Give an application the routes."""
    before = len(app.routes)
    _add_runs(app, home)
    _add_lists(app, home)
    app.add_exception_handler(UserError, _refused)
    own = app.routes[before:]

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    def description() -> JSONResponse:
        return JSONResponse(get_openapi(title="LoRA Atelier", version=__version__, routes=own, description=__doc__))


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    return JSONResponse({"problem": error.problem, "where": error.where, "fix": error.fix}, 422)


def _add_runs(app: FastAPI, home: Path) -> None:
    @app.get(f"{PREFIX}/runs")
    def runs() -> list[Told]:
        """Every run: those that go on, those that wait in their order, the others from the newest on."""
        return [_told(item) for item in queue.entries(home)]

    @app.post(f"{PREFIX}/runs", status_code=201)
    def make(wanted: Wanted) -> Told:
        """Put a run into the queue."""
        _admit(home, wanted)
        asked = wanted.model_dump(exclude={"name", "settings"})
        config = build_config(home, Wish(**asked, assigned=_layer(wanted.settings)))
        run = queue.submit(home, wanted.name or Path(config.dataset.path).name, config)
        return _told(queue.entry(home, run.name))

    @app.get(f"{PREFIX}/runs/{{name}}")
    def one(name: str) -> Told:
        """One run."""
        return _told(_found(home, name))

    @app.get(f"{PREFIX}/runs/{{name}}/config")
    def config(name: str) -> dict[str, JsonValue]:
        """Its whole config."""
        found: dict[str, JsonValue] = _found(home, name).run.config().model_dump(mode="json")
        return found

    @app.get(f"{PREFIX}/runs/{{name}}/events")
    def events(name: str, offset: Annotated[int, Query(ge=0)] = 0) -> Events:
        """Steps, samples, saves and notices: at most 5 000 at a time. A step that came twice counts as it came last."""
        return _events(_found(home, name).run, offset)

    @app.post(f"{PREFIX}/runs/{{name}}/{{act}}")
    def do(name: str, act: str) -> Told:
        """One of: stop (saves), force-stop, pause, resume, save, duplicate (answers with the new run)."""
        _found(home, name)
        if act not in ACTS:
            raise HTTPException(404, f"There is nothing called '{act[:50]}' to do: {', '.join(ACTS)}.")
        made = ACTS[act](home, name)
        return _told(queue.entry(home, made.name if isinstance(made, RunDir) else name))

    @app.delete(f"{PREFIX}/runs/{{name}}", status_code=204)
    def delete(name: str) -> None:
        """Put it into the trash."""
        _found(home, name)
        queue.remove(home, name)


def _add_lists(app: FastAPI, home: Path) -> None:
    @app.get(f"{PREFIX}/datasets")
    def datasets() -> list[str]:
        """Names of your sets."""
        return [path.name for path in sets.own(home)]

    @app.get(f"{PREFIX}/adapters")
    def files() -> list[File]:
        """Every adapter file, with the address that sends it."""
        found = adapters.adapters(home)
        return [
            File(name=item.name, address=item.link, run=item.run.name if item.run else None, step=item.step)
            for item in found
        ]


def _admit(home: Path, wanted: Wanted) -> None:
    """A user who is no admin names sets of their own and presets, no places; what others have is not told of either.

    Raises:
        UserError: something else is named.
    """
    if owners.bounded() is None:
        return
    owners.admit(wanted.model_dump())
    known = [path.name for path in sets.own(home)] + [f"demo/{name}" for name in sets.sample_folders()]
    if wanted.dataset not in known:
        raise UserError("There is no such set among yours.", "dataset", f"There are: {', '.join(known)}.")
    if wanted.preset not in (there := presets(preset_shelf(wanted.base or "demo"))):
        raise UserError("There is no such preset.", "preset", f"There are: {', '.join(there)}.")


def _found(home: Path, name: str) -> Entry:
    item = queue.known(home, name)
    if item is None:
        raise HTTPException(404, "There is no such run.")
    return item


def _told(item: Entry) -> Told:
    status, file = item.status, item.run.adapter_file
    return Told(
        name=item.run.name, state=item.shown, step=status.step, total=status.total, message=status.message,
        fix=status.fix, adapter=adapters.link_in_run(file) if file.exists() else None,
    )  # fmt: skip


def _events(run: RunDir, offset: int) -> Events:
    found = list(islice(run.located(offset), MOST_EVENTS))
    return Events(events=[event for event, _ in found], next=found[-1][1] if found else offset)


def _layer(settings: dict[str, JsonValue]) -> Layer:
    """Settings by `section.key` as a layer. Raises UserError for a name that is none."""
    for name in settings:
        if "." not in name:
            raise UserError(f"'{name[:100]}' is no setting", "settings", "Name it by section and key: training.steps.")
    return layer_of(settings)
