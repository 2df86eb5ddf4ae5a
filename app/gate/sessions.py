"""Being logged in: a random token in a cookie, its hash in the database, until it is idle or old."""

import hashlib
import secrets
import time
from pathlib import Path

from app.gate.accounts import User, connect

IDLE, LONGEST = 3 * 86400.0, 30 * 86400.0  # seconds without a request, and at all
TOUCHED = 60.0  # seconds between two notes that a session is in use


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def begin(home: Path, name: str, now: float | None = None) -> str:
    """Let a user be logged in; return the token, which is kept nowhere."""
    now, token = time.time() if now is None else now, secrets.token_urlsafe(32)
    with connect(home) as connection:
        connection.execute("delete from sessions where seen < ? or made < ?", (now - IDLE, now - LONGEST))
        connection.execute("insert into sessions values (?, ?, ?, ?)", (_digest(token), name, now, now))
    return token


def whose(home: Path, token: str, now: float | None = None) -> User | None:
    """Return who is logged in with a token; None where it is unknown, idle for too long, or too old."""
    if not token:
        return None
    now, digest = time.time() if now is None else now, _digest(token)
    with connect(home, reading=True) as connection:
        row = connection.execute(
            "select name, admin, sessions.made, seen from sessions join users using (name) where token = ?", (digest,)
        ).fetchone()
        if not row or not (now - row[3] < IDLE and now - row[2] < LONGEST):
            return None
    if now - row[3] > TOUCHED:
        with connect(home) as connection:
            connection.execute("update sessions set seen = ? where token = ?", (now, digest))
    return User(row[0], bool(row[1]))


def end(home: Path, token: str) -> None:
    """Log out."""
    with connect(home) as connection:
        connection.execute("delete from sessions where token = ?", (_digest(token),))
