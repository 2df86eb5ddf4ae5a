"""Headers of every answer, and what the page may do in a browser.

A content policy with a nonce: scripts that came with the page run, one that somebody smuggled into a name or a caption
does not, wherever it is shown. Gradio 6.31, measured in Chromium, needs eval (its `js=` and `js_on_load` are texts that
become functions), inline styles, and pictures as data and blobs; nothing from elsewhere.
"""

import re
import secrets

PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
FORM = (
    "default-src 'none'; style-src 'nonce-{nonce}'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
FILE = (
    "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"  # whatever it is, it does nothing
)
ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
CODE = ("/assets/", "/static/", "/svelte/", "/theme.css")  # what came with the program
SCRIPT = re.compile(rb"<script(?=[\s>])")


def nonce() -> str:
    """A word that a script of this answer has to know."""
    return secrets.token_urlsafe(18)


def policy(path: str, word: str) -> str:
    """The content policy of what lies at a path."""
    if path == "/":
        return PAGE.format(nonce=word)
    if path == "/login":
        return FORM.format(nonce=word)
    return PAGE.format(nonce=word) if path.startswith(CODE) else FILE


def with_nonce(page: bytes, word: str) -> bytes:
    """Let the scripts that a page came with run. There is nothing of a user in it yet: that comes by events."""
    return SCRIPT.sub(b'<script nonce="%s"' % word.encode(), page)
