"""Coming in and going out: a page of plain HTML, which needs no script and nothing of Gradio."""

import html
import math
from pathlib import Path
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.gate import accounts, lockout, sessions

COOKIE = "atelier-session"
MOST = 8192  # bytes of the form
WRONG = "Name and password do not fit together."
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Log in · LoRA Atelier</title>
<style nonce="{nonce}">
:root {{ --back: #fafafa; --card: #fff; --text: #27272a; --soft: #52525b; --line: #d4d4d8; --main: #7c3aed;
  --hover: #6d28d9; --bad: #b91c1c; --tint: #fef2f2; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #0b0b0f; --card: #18181b; --text: #f4f4f5; --soft: #a1a1aa;
  --line: #3f3f46; --bad: #fca5a5; --tint: #2a1416; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px; background: var(--back);
  color: var(--text); font: 16px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }}
main {{ width: 100%; max-width: 380px; padding: 32px; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; box-shadow: 0 8px 30px rgb(0 0 0 / .07); }}
h1 {{ margin: 0; font-size: 1.35rem; letter-spacing: -.01em; }}
p {{ margin: 2px 0 22px; color: var(--soft); font-size: .925rem; }}
label {{ display: block; margin: 14px 0 5px; font-size: .9rem; font-weight: 600; }}
input {{ width: 100%; padding: 11px 12px; font: inherit; color: inherit; background: var(--back);
  border: 1px solid var(--line); border-radius: 9px; }}
button {{ width: 100%; margin-top: 24px; padding: 12px; font: inherit; font-weight: 600; color: #fff; cursor: pointer;
  background: var(--main); border: 0; border-radius: 9px; }}
button:hover {{ background: var(--hover); }}
input:focus-visible, button:focus-visible {{ outline: 3px solid color-mix(in srgb, var(--main) 55%, transparent);
  outline-offset: 1px; }}
.wrong {{ margin: 0 0 6px; padding: 10px 12px; color: var(--bad); background: var(--tint); border-radius: 9px; }}
</style></head><body><main>
<h1>LoRA Atelier</h1><p>Log in to see your pictures and runs.</p>{said}
<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label for="name">Name</label>
<input id="name" name="name" value="{name}" autocomplete="username" autocapitalize="none" spellcheck="false"
  maxlength="32" required{first}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="1024" required{second}>
<button>Log in</button></form></main></body></html>"""


def add(app: FastAPI, home: Path) -> None:
    """Give an application the ways in and out."""

    @app.get("/login")
    def ask(request: Request) -> HTMLResponse:
        return _page(request, "", "", _inside(request.query_params.get("next", "/")), 200)

    @app.post("/login")
    async def come(request: Request) -> Response:
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > MOST:
                return _page(request, "That is too long for a name and a password.", "", "/", 413)
        fields = {key: values[0] for key, values in parse_qs(data.decode("utf-8", "replace")).items()}
        return await run_in_threadpool(_come, request, home, fields)

    @app.post("/logout")
    def leave(request: Request) -> RedirectResponse:
        sessions.end(home, request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer


def _come(request: Request, home: Path, fields: dict[str, str]) -> Response:
    name, further = fields.get("name", "").strip().lower()[:64], _inside(fields.get("next", "/"))
    address = request.client.host if request.client else ""
    wait = lockout.attempt(home, name, address)
    if wait > 0:
        minutes = math.ceil(wait / 60)
        said = f"Too many attempts. The next one counts in {minutes} minute{'s' if minutes > 1 else ''}."
        answer: Response = _page(request, said, name, further, 429)
        answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer
    user = accounts.verified(home, name, fields.get("password", ""))
    if user is None:
        return _page(request, WRONG, name, further, 401)
    lockout.succeeded(home, name, address)
    sessions.end(home, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse(further, 303)
    answer.set_cookie(
        COOKIE, sessions.begin(home, user.name), max_age=int(sessions.LONGEST), path="/", httponly=True, samesite="lax",
        secure=request.scope.get("atelier_secure", False) or request.url.scheme == "https",
    )  # fmt: skip
    return answer


def _inside(address: str) -> str:
    """An address of this page and no other: what a browser would take for another one becomes the front."""
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return quote(address, safe="/?=&%-._~:+,") if inside and "\\" not in address else "/"


def _page(request: Request, wrong: str, name: str, further: str, status: int) -> HTMLResponse:
    said = f'<div class="wrong" role="alert">{html.escape(wrong)}</div>' if wrong else ""
    focus = " autofocus"
    text = PAGE.format(
        nonce=request.scope.get("atelier_nonce", ""), said=said, name=html.escape(name), next=html.escape(further),
        first="" if name else focus, second=focus if name else "",
    )  # fmt: skip
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
