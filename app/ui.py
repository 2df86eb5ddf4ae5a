"""The page: tabs put together, its look, and the web server around it. No model is ever loaded here."""

# ruff: noqa: E402 - Gradio is imported before the rest, in a way of its own

import inspect
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app import routes
from app.jobs import presence, queue
from app.tabs import TABS
from app.tabs.dataset import look
from app.views import pictures, status, uploads
from app.views.page import STAYS, Page, quiet, settle
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
        line = status.build(home, blocks)
        dataset, run, adapter, seen = (
            gr.Textbox("", visible="hidden", elem_id=f"page-{name}") for name in ("dataset", "run", "adapter", "seen")
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            for title, name, content in TABS:
                with gr.Tab(title, id=name, elem_id=f"tab-{name}") as tab:
                    content(Page(home, blocks, tabs, dataset, run, adapter, seen, tab))
        line.click(lambda: _show_running(home), None, [run, tabs], **quiet())
        blocks.load(None, None, None, js=STAYS)
        settle(blocks)
    return blocks


def _show_running(home: Path) -> Any:
    """Open the run that is going on, if there is one."""
    item = queue.running(home)
    return (item.run.name, gr.Tabs(selected="train")) if item else gr.skip()


def server(home: Path, host: str, port: int) -> FastAPI:
    """The web application: the page, and the routes beside it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host]
    )  # no DNS rebinding
    routes.add(app, home)
    blocks = build(home)
    application: FastAPI = gr.mount_gradio_app(
        app, blocks, path="/", server_name=host, server_port=port, allowed_paths=[str(pictures.cache(home))],
        footer_links=[], run_history=False, ssr_mode=False, show_error=False, max_file_size="4gb",
        enable_monitoring=False, mcp_server=False, pwa=False, theme=theme(), css=CSS + look.CSS,
    )  # fmt: skip
    blocks._queue.sleep_when_free = 0.03  # it looks every millisecond otherwise: 5 % of a processor for an idle page
    return application


def refuse_strangers(host: str, share: bool) -> None:
    """Only this machine may reach the page until there is a login.

    Raises:
        UserError: another address than the machine's own, or a public link.
    """
    if share:
        fix = "Open the page on this machine, or through an SSH tunnel."
        raise UserError("a public link is refused until login exists", "--share", fix)
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own:
        fix = "Leave --host away (127.0.0.1). From another machine: ssh -L 7860:127.0.0.1:7860 THIS_MACHINE"
        raise UserError(f"'{host}' can be reached by others: it is refused until login exists", "--host", fix)


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


def launch(home: Path, host: str, port: int | None, share: bool) -> None:
    """Serve the page until Ctrl-C; trainings go on without it.

    Raises:
        UserError: the address may be reached by others, or the port is taken.
    """
    refuse_strangers(host, share)
    port = free_port(host, port)
    (home / ".cache").mkdir(exist_ok=True)
    if not presence.anyone(home):
        for left in (home / ".cache").glob("uploads-*"):  # of a server that was killed
            shutil.rmtree(left, ignore_errors=True)
        for left in (home / ".cache").glob("*export-*.zip*"):
            left.unlink(missing_ok=True)
        shutil.rmtree(uploads.place(home), ignore_errors=True)
    pictures.sweep(home)
    passing = tempfile.mkdtemp(prefix="uploads-", dir=home / ".cache")
    os.environ["GRADIO_TEMP_DIR"] = passing
    try:
        with presence.present(home):
            queue.ensure_supervisor(home)
            application = server(home, host, port)
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"LoRA Atelier: {address}   (data: {home})", flush=True)  # noqa: T201
            print("Ctrl-C ends the page, not the trainings.", flush=True)  # noqa: T201
            uvicorn.run(application, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        shutil.rmtree(passing, ignore_errors=True)
