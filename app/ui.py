"""The page: tabs put together, its look, and the web server around it. No model is ever loaded here."""

# ruff: noqa: E402 - Gradio is imported before the rest, in a way of its own

import inspect
import ipaddress
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: it reads this once
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@contextmanager
def _stubs_left_alone() -> Iterator[None]:
    """Spare half of Gradio's import time: it parses its sources and writes `.pyi` files beside them at every start.

    It passes over a component whose source cannot be found: so it is told, it alone, and only meanwhile.
    """
    find = inspect.getfile

    def getfile(thing: Any) -> str:
        if sys._getframe(1).f_code.co_name == "create_or_modify_pyi":
            raise OSError
        return find(thing)

    setattr(inspect, "getfile", getfile)  # noqa: B010 - an assignment is no business of the type checker's
    try:
        yield
    finally:
        setattr(inspect, "getfile", find)  # noqa: B010


with _stubs_left_alone():
    import gradio as gr

import uvicorn
from fastapi import FastAPI, Request

from app import api, owners, routes
from app.gate import accounts, origin
from app.gate import login as gate
from app.gate.guard import Guard, Rules
from app.jobs import presence, queue
from app.jobs.leader import supervised
from app.tabs import TABS
from app.tabs.dataset import look as dataset_look
from app.tabs.library import look as library_look
from app.tabs.preview import look as preview_look
from app.views import looks, pictures, pulse, status, uploads
from app.views.callers import let_each_see_their_own
from app.views.page import COPIES, LIVE, STAYS, Page, quiet, settle
from app.views.style import CSS
from trainer.contract.errors import UserError

FIRST_PORT = 7860
FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


def theme() -> gr.themes.Base:
    """Gradio's default look in our colour, with the fonts of the machine: nothing is fetched from elsewhere."""
    look = gr.themes.Default(
        primary_hue="violet", secondary_hue="violet", neutral_hue="zinc", radius_size="lg",
        font=FONTS, font_mono=("ui-monospace", "Consolas", "monospace"),
    )  # fmt: skip
    return look.set(  # the default's greys for help texts are too pale to read
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_400", input_placeholder_color_dark="*neutral_500",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover_dark="*primary_700",
    )  # fmt: skip


def build(home: Path) -> gr.Blocks:
    """Put the tabs together."""
    blocks: gr.Blocks
    with gr.Blocks(
        title="LoRA Atelier", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    ) as blocks:
        beats = pulse.build()
        line = status.build(home, blocks, beats)
        dataset, run, adapter, sheet, seen = (
            gr.Textbox("", visible="hidden", elem_id=f"page-{name}")
            for name in ("dataset", "run", "adapter", "sheet", "seen")
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            for title, name, content in TABS:
                with gr.Tab(title, id=name, elem_id=f"tab-{name}") as tab:
                    content(Page(home, blocks, tabs, dataset, run, adapter, sheet, seen, beats, tab))
        blocks.queue(max_size=2_000)  # events that wait; it takes all of them otherwise
        line.click(lambda: _show_running(home), None, [run, tabs], **quiet())
        blocks.load(None, None, None, js=STAYS)
        blocks.load(None, None, None, js=COPIES)
        blocks.load(None, None, None, js=LIVE)
        settle(blocks)
    return blocks


def _show_running(home: Path) -> Any:
    """Open the run that is going on, if there is one."""
    item = queue.running(home)
    return (item.run.name, gr.Tabs(selected="queue")) if item else gr.skip()


@dataclass(frozen=True)
class Way:
    """How the page is reached.

    Attributes:
        host: address to listen on.
        port: a port; None for the first free one.
        share: whether a public link is made.
        allow_host: further names by which it may be called.
        login: whether one has to log in; None for where others can reach it.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    allow_host: tuple[str, ...] = ()
    login: bool | None = None

    @property
    def others(self) -> bool:
        """Whether other machines can reach it."""
        try:
            return self.share or not (self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback)
        except ValueError:
            return True


def server(home: Path, way: Way, linked: Callable[[], frozenset[str]] = frozenset) -> FastAPI:
    """The web application: the page, and the routes beside it, behind the guard.

    Args:
        home: data folder.
        way: how it is reached.
        linked: names of the public link, once it is there.
    """
    login, own = way.others if way.login is None else way.login, origin.names(way.host, way.allow_host)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, Rules(home, lambda: own | linked(), login, linked))
    if login:
        gate.add(app, home)
    routes.add(app, home)
    api.add(app, home)
    with owners.seen_by(owners.Viewer("", False, home) if login else None):  # what everybody gets is nobody's
        blocks = build(home)
    if login:
        let_each_see_their_own(blocks, home)
    application: FastAPI = gr.mount_gradio_app(
        app, blocks, path="/", server_name=way.host, server_port=way.port or FIRST_PORT, allowed_paths=[],
        footer_links=[], run_history=False, ssr_mode=False, show_error=False, max_file_size="4gb",
        enable_monitoring=False, mcp_server=False, pwa=False, theme=theme(),
        css=CSS + dataset_look.CSS + library_look.CSS + preview_look.CSS + looks.CSS,
        auth_dependency=_user if login else None,
    )  # fmt: skip
    blocks.has_launched = True  # else an event may name any file of the machine as one that was sent: 6.31 looks here
    blocks._queue.sleep_when_free = 0.03  # it looks every millisecond otherwise: 5 % of a processor for an idle page
    return application


def _user(request: Request) -> str | None:
    """Whom the guard let in, for Gradio's own check behind it."""
    who = request.scope.get("atelier_viewer")
    return who.name or None if who else None


def refuse_strangers(home: Path, way: Way) -> None:
    """Others may reach the page only where they have to log in.

    Raises:
        UserError: nobody could.
    """
    if (way.others if way.login is None else way.login) and not accounts.users(home):
        where = "--share" if way.share else "--host" if way.others else "--login"
        what = "a public link" if way.share else f"'{way.host}'" if way.others else "a login"
        fix = "Make a user first: atelier user add NAME --admin. Or leave the option away: ssh -L 7860:127.0.0.1:7860 M"
        raise UserError(f"{what} needs somebody who may log in, and there is no user", where, fix)
    if way.others and way.login is False:
        fix = "Leave --no-login away."
        raise UserError("others can reach this address: it is never open without a login", "--no-login", fix)


def free_port(host: str, wanted: int | None) -> int:
    """Return the port that was asked for, else the first free one from 7860 on.

    Raises:
        UserError: it is taken, or none is free.
    """
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + 100):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise UserError(
        f"port {wanted or FIRST_PORT} is taken", "--port", "Close the program that uses it, or give another --port."
    )


def launch(home: Path, way: Way) -> None:
    """Serve the page until Ctrl-C; trainings go on without it.

    Raises:
        UserError: the address may be reached by others and nobody could log in, or the port is taken.
    """
    refuse_strangers(home, way)
    way = replace(way, port=free_port(way.host, way.port))
    _clear(home)
    os.environ["GRADIO_TEMP_DIR"] = str(home.joinpath(*owners.PASSING))
    links: set[str] = set()
    with presence.present(home), supervised(home):
        application = server(home, way, lambda: frozenset(links))
        address = f"http://{f'[{way.host}]' if ':' in way.host else way.host}:{way.port}"
        print(f"LoRA Atelier: {address}   (data: {home})", flush=True)  # noqa: T201
        if way.share:
            link = public_link(way)
            links.add(origin.name_of(urlsplit(link).netloc))
            print(f"Public link: {link}   (goes through a server of Gradio's)", flush=True)  # noqa: T201
        print("Ctrl-C ends the page, not the trainings.", flush=True)  # noqa: T201
        uvicorn.run(application, host=way.host, port=way.port or FIRST_PORT, log_level="warning",
                    timeout_graceful_shutdown=2, proxy_headers=False, server_header=False)  # fmt: skip


def _clear(home: Path) -> None:
    """Put away what a server left that is not there any more."""
    passing = home.joinpath(*owners.PASSING)
    passing.mkdir(parents=True, exist_ok=True)
    if not presence.anyone(home):
        for left in passing.iterdir():
            if left != home.joinpath(*owners.PICTURES):
                shutil.rmtree(left, ignore_errors=True)
        for left in (home / ".cache").glob("*export-*.zip*"):
            left.unlink(missing_ok=True)
        for left in (home / ".cache" / "pictures", *(home / ".cache").glob("uploads-*")):  # of older versions
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(uploads.place(home), ignore_errors=True)
    pictures.sweep(home)


def public_link(way: Way) -> str:
    """Make a link through Gradio's servers; return its address.

    Raises:
        UserError: it cannot be made.
    """
    from gradio.networking import setup_tunnel  # noqa: PLC0415 - it brings a program from the net when it is called

    try:
        return setup_tunnel(way.host, way.port or FIRST_PORT, secrets.token_urlsafe(32), None, None)
    except (OSError, RuntimeError, ValueError) as error:
        fix = "See that this machine reaches the net, or use a tunnel of your own with --allow-host ITS_NAME --login."
        raise UserError(f"no public link could be made ({error})", "--share", fix) from error
