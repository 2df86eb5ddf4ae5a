"""The guard: every request passes it before anything of ours or of Gradio's sees it.

In this order: the name by which it came, the page that sent it, the route, the user, the size. What it refuses has
changed nothing. Gradio itself checks neither name nor, beyond localhost, origin, and keeps no bounds between users.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import owners, room
from app.gate import headers as heads
from app.gate import origin, sessions
from app.gate.login import COOKIE
from app.settings import load_settings
from trainer.contract.errors import UserError

API = "/gradio_api/"
# What the page and Gradio's client for Python need of it; whatever a later version adds stays shut until it is needed.
OPEN = ("app_id", "cancel", "file=", "heartbeat/", "info", "login_check", "queue/data", "queue/join", "reset",
        "startup-events", "theme.css", "upload", "upload_progress", "user")  # fmt: skip
SHUT = ("/monitoring", "/svelte/", "/custom_component", "/pwa_icon", "/deep_link", "/openapi.json", "/docs")
STRANGERS = ("/login", "/robots.txt")  # what one may see without being logged in
UPLOAD, HEARTBEAT = f"{API}upload", f"{API}heartbeat/"
MOST_STREAMS = 20_000
MOST = 64 * 2**20  # bytes of a request that is no upload
MOST_UPLOAD = 4 * 2**30
LONGEST_PART = 255  # bytes between two slashes of a path: longer ones no file system has
MORE = "That is more than may be sent at once."


@dataclass(frozen=True)
class Rules:
    """What the guard of a server knows.

    Attributes:
        home: the data folder.
        hosts: names by which the page may be called; `share` adds one while the server runs.
        login: whether one has to be logged in.
        secure: names by which the page is reached over TLS only.
    """

    home: Path
    hosts: Callable[[], frozenset[str]]
    login: bool
    secure: Callable[[], frozenset[str]] = frozenset


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._streams: OrderedDict[str, str] = OrderedDict()  # Gradio's sessions -> whose they are

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or refuse it."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head, word = Headers(scope=scope), heads.nonce()
        scope["atelier_nonce"] = word
        over_tls = head.get("x-forwarded-proto") == "https"  # whoever makes it up gets a cookie that is stricter
        scope["atelier_secure"] = over_tls or origin.name_of(head.get("host", "")) in self._rules.secure()
        send = _with_headers(send, scope["path"], word)
        refused, viewer = self._refused(scope, head), None
        if refused is None:
            viewer = scope["atelier_viewer"] = await self._viewer(head)
            refused = self._stopped(scope, head, viewer)
        if refused is not None:
            await refused(scope, receive, send)
            return
        with owners.seen_by(viewer):
            await self._pass(scope, receive, send, head)

    def _refused(self, scope: Scope, head: Headers) -> Response | None:
        """What is wrong with a request, whoever sent it. Gradio makes addresses of a forwarded name, so it counts."""
        path = scope["path"]
        told = [name.strip() for name in head.get("x-forwarded-host", "").split(",") if name.strip()]
        if any(origin.foreign_name(name, self._rules.hosts()) for name in (head.get("host", ""), *told)):
            return PlainTextResponse("This page does not go by that name. (--allow-host adds one.)", 400)
        if origin.foreign_page(scope["method"], path, head):
            return PlainTextResponse("Only the page itself may do this.", 403)
        longest = max(len(part.encode(errors="replace")) for part in path.split("/"))
        if shut(path) or "\0" in path or longest > LONGEST_PART:
            return PlainTextResponse("There is nothing here.", 404)
        return None

    async def _viewer(self, head: Headers) -> owners.Viewer | None:
        if not self._rules.login:
            return None
        token = cookie_parser(head.get("cookie", "")).get(COOKIE, "")
        user = await asyncio.to_thread(sessions.whose, self._rules.home, token)
        if user is None:
            return owners.Viewer("", False, self._rules.home)
        return owners.Viewer(user.name, user.admin, self._rules.home, load_settings(self._rules.home).shared)

    def _stopped(self, scope: Scope, head: Headers, viewer: owners.Viewer | None) -> Response | None:
        """What is wrong with a request of this user."""
        path = scope["path"]
        if viewer and not viewer.name and path not in STRANGERS:
            if scope["method"] == "GET" and "text/html" in head.get("accept", ""):
                query = scope.get("query_string", b"").decode("latin-1")
                return RedirectResponse("/login?next=" + quote(path + (f"?{query}" if query else "")), 303)
            return PlainTextResponse("Log in first.", 401)
        if viewer and viewer.name and not self._own_stream(scope, viewer.name):
            return PlainTextResponse("There is no such session.", 404)
        if path.startswith(f"{API}file="):
            try:
                with owners.seen_by(viewer):
                    owners.check(path.removeprefix(f"{API}file="))
            except UserError:
                return PlainTextResponse("There is no such file.", 404)
        return None

    def _own_stream(self, scope: Scope, name: str) -> bool:
        """Whether the answers that are asked for are this user's: a session is whose it was first."""
        path = scope["path"]
        word = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]
        if path.startswith(HEARTBEAT):
            word = path.removeprefix(HEARTBEAT)
        if not word or not path.startswith(API):
            return True
        whose = self._streams.setdefault(word, name)
        while len(self._streams) > MOST_STREAMS:
            self._streams.popitem(last=False)
        return whose == name

    async def _pass(self, scope: Scope, receive: Receive, send: Send, head: Headers) -> None:
        path = scope["path"]
        if path in ("/", UPLOAD):  # answers that are read here on their way come as they are
            scope["headers"] = [item for item in scope["headers"] if item[0] != b"accept-encoding"]
            send = _signed(send) if path == UPLOAD else _marked(send, scope["atelier_nonce"])
        answered = [False]
        try:
            if scope["method"] not in origin.SAFE and not path.startswith("/uploads/"):  # those count for themselves
                limit = MOST_UPLOAD if path == UPLOAD else MOST
                await self._room(path, head.get("content-length", ""), limit)
                receive = _counted(receive, limit)
            await self._app(scope, receive, _watched(send, answered))
        except HTTPException as error:
            if not answered[0]:
                await PlainTextResponse(error.detail, error.status_code)(scope, receive, send)

    async def _room(self, path: str, announced: str, limit: int) -> None:
        """See that there is room for what is announced. Raises HTTPException where there is not."""
        size = int(announced) if announced.isascii() and announced.isdigit() else 0
        if size > limit:
            raise HTTPException(413, MORE)
        if path == UPLOAD:
            try:
                await asyncio.to_thread(room.check, self._rules.home, size)
            except UserError as error:
                raise HTTPException(507, f"{error.problem} {error.fix}") from error


def shut(path: str) -> bool:
    """Whether a route of Gradio's is not for the page."""
    if not path.startswith(API):
        return path.startswith(SHUT)
    rest = path.removeprefix(API)
    if rest.startswith("file="):
        return "://" in rest or rest.lower().startswith(("file=http:", "file=https:"))  # it would fetch it for us
    return not any(rest.rstrip("/") == one or (one.endswith("/") and rest.startswith(one)) for one in OPEN)


def _with_headers(send: Send, path: str, word: str) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            found = MutableHeaders(scope=message)
            for name, value in heads.ALWAYS.items():
                found[name] = value
            for name in [name for name in found if name.startswith("access-control-")]:
                del found[name]  # of Gradio: no other page may read any answer
            found["content-security-policy"] = heads.policy(path, word)
        await send(message)

    return wrapped


def _counted(receive: Receive, limit: int) -> Receive:
    come = 0

    async def wrapped() -> MutableMapping[str, Any]:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > limit:
            raise HTTPException(413, MORE)  # FastAPI passes this one on as it is
        return message

    return wrapped


def _watched(send: Send, answered: list[bool]) -> Send:
    async def wrapped(message: Message) -> None:
        answered[0] = True
        await send(message)

    return wrapped


def _whole(send: Send, then: Callable[[bytes, Headers], bytes]) -> Send:
    """Hold an answer back until it is whole, and send what `then` makes of it."""
    held: list[Message] = []
    body = bytearray()

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            held.append(message)
            return
        if message["type"] != "http.response.body":
            await send(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        begun = held.pop()
        found = MutableHeaders(scope=begun)
        made = then(bytes(body), found)
        if "content-length" in found and made:
            found["content-length"] = str(len(made))
        await send(begun)
        await send({"type": "http.response.body", "body": made})

    return wrapped


def _marked(send: Send, word: str) -> Send:
    """Put the nonce into the page."""
    return _whole(
        send, lambda body, head: heads.with_nonce(body, word) if "html" in head.get("content-type", "") else body
    )


def _signed(send: Send) -> Send:
    """Write down whose the files are that Gradio has just taken in."""

    def sign(body: bytes, head: Headers) -> bytes:
        if head.get("content-type", "").startswith("application/json"):
            for path in json.loads(body):
                owners.sign(Path(path).parent)
        return body

    return _whole(send, sign)
