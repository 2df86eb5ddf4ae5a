"""Routes of our own beside the page: uploads as streams, small copies of pictures, files to take away."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from app.jobs import queue
from app.views import adapters, choices, covers, film, pictures, previews, pulse, sets, shelf, uploads
from trainer.contract.errors import UserError
from trainer.pictures.album import locate
from trainer.pictures.bundle import write_bundle
from trainer.pictures.exporting import export_pictures

SIDES = {"small": pictures.SMALL, "film": film.SIDE, "large": pictures.SIDE}
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class Announced(BaseModel):
    """What an upload will bring: names with their folders, and bytes; and the name of the set it is for."""

    names: list[str] = Field(max_length=uploads.MOST_FILES)
    sizes: list[int] = Field(max_length=uploads.MOST_FILES)
    into: str = ""


def add(app: FastAPI, home: Path) -> None:
    """Give an application the routes."""
    _add_files(app, home)
    _add_sets(app, home)
    _add_samples(app, home)
    _add_previews(app, home)
    _add_uploads(app, home)


def _add_files(app: FastAPI, home: Path) -> None:
    @app.get("/adapters/{kind}/{name:path}")
    def adapter(request: Request, kind: str, name: str) -> FileResponse:
        """The file itself, or as NAME.zip with everything that belongs to it."""
        for item in adapters.adapters(home):
            if item.link == f"/adapters/{kind}/{name}":
                return FileResponse(item.path, filename=item.path.name, media_type="application/octet-stream")
            if item.bundle_link == f"/adapters/{kind}/{name}":
                return _bundle(request, home, item)
        raise HTTPException(404, "There is no such adapter.")

    @app.get(pulse.PLACE)
    def beat() -> PlainTextResponse:
        return PlainTextResponse(pulse.word(home), headers={"Cache-Control": "no-store"})

    @app.get("/covers/{name}/{side}")
    def cover(name: str, side: str) -> FileResponse:
        """Only adapters that one may see are named here, and only copies of their pictures are sent."""
        try:
            found = covers.copy(home, shelf.recall(home, name), SIDES[side])
        except (UserError, KeyError) as error:
            raise HTTPException(404, "There is no such picture.") from error
        return FileResponse(found, headers=FOR_EVER)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> RedirectResponse:
        return RedirectResponse("/static/img/logo.svg")


def _add_sets(app: FastAPI, home: Path) -> None:
    @app.get("/sets/{name}/{picture}/{side}")
    def copy(name: str, picture: str, side: str) -> FileResponse:
        """Only pictures of the user's own sets are named here, and only copies are sent."""
        folder = _set(home, name)
        if side not in SIDES:
            raise HTTPException(404, "There is no such picture.")
        try:
            entry = next((entry for entry in sets.album(folder).entries if entry.id == picture), None)
        except UserError as error:
            raise HTTPException(404, str(error)) from error
        return _copy(home, locate(folder, entry.file) if entry else None, side)

    @app.get("/sets/{name}/pictures.zip")
    def whole(request: Request, name: str) -> FileResponse:
        """The set with its captions."""
        folder = _set(home, name)
        return _packed(request, home, f"{name}.zip", lambda target: export_pictures(folder, target))


def _add_samples(app: FastAPI, home: Path) -> None:
    @app.get("/runs/{name}/samples/{file}/{side}")
    def sample(name: str, file: str, side: str) -> FileResponse:
        """Only pictures of runs that one may see are named here, and only copies are sent."""
        item = queue.known(home, name)
        known = item.run.samples.glob("*.png") if item else ()
        picture = next((path for path in known if path.name == file), None)
        if side not in SIDES or picture is None:
            raise HTTPException(404, "There is no such picture.")
        return _copy(home, picture, side)


def _add_previews(app: FastAPI, home: Path) -> None:
    @app.get("/previews/adapters.json")
    def listed() -> JSONResponse:
        return JSONResponse(choices.listed(home), headers={"Cache-Control": "no-store"})

    @app.get("/previews/history.json")
    def past() -> JSONResponse:
        found = [one._asdict() for one in previews.entries(home)]
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    @app.get("/previews/{entry}.zip")
    def packed(request: Request, entry: str) -> FileResponse:
        """All pictures of a grid."""
        return _packed(request, home, f"{entry}.zip", lambda target: previews.pack(home, entry, target))

    @app.get("/previews/{name}/{side}")
    def drawn(name: str, side: str) -> FileResponse:
        """Only pictures that whoever looks has drawn here; as they are, or as small copies."""
        picture = previews.file(home, name)
        if side == "full" and picture:
            return FileResponse(picture, headers=FOR_EVER)
        if side not in SIDES:
            raise HTTPException(404, "There is no such picture.")
        return _copy(home, picture, side)


def _copy(home: Path, picture: Path | None, side: str) -> FileResponse:
    """A small copy; a blank one, which no browser keeps, for what is not there or cannot be read."""
    found = picture and pictures.copy(home, picture, SIDES[side])
    return FileResponse(found or pictures.blank(home), headers=FOR_EVER if found else {"Cache-Control": "no-store"})


def _bundle(request: Request, home: Path, item: adapters.Adapter) -> FileResponse:
    return _packed(request, home, f"{item.path.stem}.zip", lambda target: write_bundle(item.path, target))


def _packed(request: Request, home: Path, name: str, pack: Callable[[Path], object]) -> FileResponse:
    """A zip that is packed when it is asked for and deleted when it is sent."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "Only the page itself may do this.")
    target = home / ".cache" / f"export-{secrets.token_hex(8)}.zip"
    target.parent.mkdir(exist_ok=True)
    try:
        pack(target)
    except UserError as error:
        raise HTTPException(409, str(error)) from error
    delete = BackgroundTask(target.unlink, missing_ok=True)
    return FileResponse(target, filename=name, media_type="application/zip", background=delete)


def _set(home: Path, name: str) -> Path:
    folder = next((path for path in sets.own(home) if path.name == name), None)
    if folder is None:
        raise HTTPException(404, "There is no such set.")
    return folder


def _add_uploads(app: FastAPI, home: Path) -> None:
    @app.post("/uploads")
    def begin(request: Request, announced: Announced) -> JSONResponse:
        _same_origin(request)
        try:
            token, wanted = uploads.begin(home, announced.names, announced.sizes, announced.into)
        except UserError as error:
            raise HTTPException(413, f"{error.problem} {error.fix}") from error
        except OSError as error:
            raise HTTPException(507, f"There is no room made for it ({error.strerror or error}).") from error
        return JSONResponse({"token": token, "wanted": wanted})

    @app.put("/uploads/{token}/{first}/{count}")
    async def receive(request: Request, token: str, first: int, count: int) -> JSONResponse:
        _same_origin(request)
        try:
            await uploads.receive(home, token, first, count, request.stream())
        except ClientDisconnect as error:
            raise HTTPException(400, "The connection was closed.") from error
        except UserError as error:
            raise HTTPException(400, f"{error.problem} {error.fix}") from error
        except OSError as error:
            raise HTTPException(507, f"It could not be written ({error.strerror or error}).") from error
        return JSONResponse({})

    @app.delete("/uploads/{token}")
    async def end(request: Request, token: str) -> JSONResponse:
        _same_origin(request)
        try:
            await asyncio.to_thread(uploads.end, home, token)
        except UserError as error:
            raise HTTPException(404, error.problem) from error
        return JSONResponse({})


def _same_origin(request: Request) -> None:
    """Only the page itself may send: a browser names the page that a request comes from, and no page can forge it."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise HTTPException(403, "Only the page itself may do this.")
