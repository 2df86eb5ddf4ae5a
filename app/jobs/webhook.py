"""A word to another program when a job ends: one POST to an address that somebody gave.

The address often is its own password (Discord, Slack, ntfy), so it is in a file of its own that only this user may
read, and neither the page nor the log ever shows more of it than its host.
"""

import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.rundir import RunDir

SECONDS = 10.0  # for an answer
AGAIN = (0.0, 5.0, 30.0)  # seconds before each try
FIX = "Give an address that begins with https:// (or http:// in your own network)."


def place(home: Path) -> Path:
    """The file with the address."""
    return home / ".secrets" / "webhook"


def set_address(home: Path, address: str) -> None:
    """Keep an address; an empty one ends it.

    Raises:
        UserError: it is none that can be posted to.
    """
    file, parts = place(home), urlsplit(address.strip())
    if not address.strip():
        file.unlink(missing_ok=True)
        return
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("this is no address that a message can be sent to", "webhook", FIX)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(file, address.strip())
    file.chmod(0o600)


def host(home: Path) -> str:
    """Where messages go, without what is secret; "" for nowhere."""
    return urlsplit(_address(home)).hostname or ""


def _address(home: Path) -> str:
    return (os.environ.get("ATELIER_WEBHOOK") or _kept(place(home))).strip()


def _kept(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""


def message(run: RunDir) -> dict[str, Any]:
    """What is sent. Discord shows `content`, Slack and Mattermost `text`; the rest is for programs."""
    status = run.status()
    words = f"{run.name}: {status.state}, step {status.step} of {status.total}. {status.message} {status.fix}".strip()
    told = {
        "run": run.name,
        "state": status.state,
        "step": status.step,
        "total": status.total,
        "message": status.message,
    }
    file = run.adapter_file
    return {"text": words, "content": words, **told, "file": str(file) if file.exists() else None}


def tell(home: Path, run: RunDir, wait: Callable[[float], None] = time.sleep) -> threading.Thread | None:
    """Send word of a run that ended, in a thread that a supervisor with nothing left to do waits for."""
    address = _address(home)
    if not address:
        return None
    body = json.dumps(message(run)).encode()
    thread = threading.Thread(target=_send, args=(address, body, wait), name="webhook")
    thread.start()
    return thread


def _send(address: str, body: bytes, wait: Callable[[float], None]) -> None:
    for pause in AGAIN:
        wait(pause)
        headers = {"Content-Type": "application/json", "User-Agent": "lora-atelier"}
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=SECONDS):
                return
        except (OSError, urllib.error.URLError, ValueError) as error:
            reason = type(error).__name__ if not isinstance(error, urllib.error.HTTPError) else f"HTTP {error.code}"
            logging.warning("the webhook at %s did not take a message: %s", urlsplit(address).hostname, reason)
