"""Users, kept in `<home>/accounts.db`: names, argon2id hashes, sessions, failed attempts.

It is a database of its own: the queue's is put aside and made anew when it is broken, because runs can be found again.
Users cannot: where this one is broken the page does not start, and nobody comes in.
"""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from trainer.contract.errors import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
SHORTEST, LONGEST = 10, 1024  # characters of a password; longer ones only cost time
MIGRATIONS = (
    "create table users (name text primary key, hash text not null, admin integer not null, made real not null) strict",
    """create table sessions (token text primary key, name text not null references users on delete cascade,
        made real not null, seen real not null) strict""",
    "create table failures (who text primary key, count integer not null, last real not null) strict",
)
_hasher = PasswordHasher()  # argon2id with the parameters of RFC 9106 for little memory: 64 MiB, three passes
_hashing = threading.BoundedSemaphore(2)  # a hundred at once would take 6 GiB
_nobody = ""  # hash of a password that nobody has, to be as slow for names that are not there


@dataclass(frozen=True)
class User:
    """Somebody who may come in."""

    name: str
    admin: bool


def file(home: Path) -> Path:
    """Where the accounts are."""
    return home / "accounts.db"


@contextmanager
def connect(home: Path, reading: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the accounts for one transaction; one that reads waits for nobody.

    Raises:
        UserError: the file is broken.
    """
    path = file(home)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = on"):
            connection.execute(f"pragma {pragma}")
        connection.execute("begin" if reading else "begin immediate")
        _migrate(connection)
        yield connection
        connection.execute("commit")
    except sqlite3.OperationalError:  # locked or unreadable is not broken: let it be seen
        raise
    except sqlite3.DatabaseError as error:
        fix = "Put a copy of it back; or move it away and make the users again with `atelier user add NAME`."
        raise UserError("the file with the users is broken", str(path), fix) from error
    finally:
        connection.close()  # without a commit all is as it was


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("pragma user_version").fetchone()[0]
    for number, statement in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute(statement)
        connection.execute(f"pragma user_version = {number}")


def users(home: Path) -> list[User]:
    """Return everybody who may come in."""
    if not file(home).exists():
        return []
    with connect(home, reading=True) as connection:
        rows = connection.execute("select name, admin from users order by name").fetchall()
    return [User(name, bool(admin)) for name, admin in rows]


def add(home: Path, name: str, password: str, admin: bool) -> User:
    """Make a user.

    Raises:
        UserError: the name or the password will not do, or the name is taken.
    """
    if not NAME.fullmatch(name):
        fix = "Small letters, digits, dot, dash and underscore; a letter or digit first; 32 at most."
        raise UserError(f"'{name[:40]}' is no name for a user", "NAME", fix)
    secret = _hashed(password)
    with connect(home) as connection:
        if connection.execute("select 1 from users where name = ?", (name,)).fetchone():
            fix = "Give another name, or change the password: `atelier user passwd NAME`."
            raise UserError(f"there is a user called '{name}' already", "NAME", fix)
        connection.execute("insert into users values (?, ?, ?, ?)", (name, secret, admin, time.time()))
    return User(name, admin)


def set_password(home: Path, name: str, password: str) -> None:
    """Give a user another password: everybody who is logged in under that name is out, and no lock is left.

    Raises:
        UserError: there is no such user, or the password will not do.
    """
    secret = _hashed(password)
    with connect(home) as connection:
        _known(connection.execute("update users set hash = ? where name = ?", (secret, name)).rowcount, name)
        connection.execute("delete from sessions where name = ?", (name,))
        connection.execute("delete from failures where who = ?", (f"user {name}",))


def remove(home: Path, name: str) -> None:
    """Take a user away, with the sessions; sets and runs stay, for admins. Raises UserError where there is none."""
    with connect(home) as connection:
        _known(connection.execute("delete from users where name = ?", (name,)).rowcount, name)


def _known(changed: int, name: str) -> None:
    if not changed:
        raise UserError(f"there is no user called '{name}'", "NAME", "See `atelier user list`.")


def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        fix = "A few words that only you would put together are good, and easy to type."
        raise UserError(f"a password has {SHORTEST} to {LONGEST} characters", "password", fix)
    return _hasher.hash(password)


def verified(home: Path, name: str, password: str) -> User | None:
    """Return the user whose name and password these are.

    Takes as long for a name that is not there as for a wrong password.
    """
    with connect(home, reading=True) as connection:
        row = connection.execute("select hash, admin from users where name = ?", (name,)).fetchone()
    try:
        with _hashing:
            _hasher.verify(row[0] if row else _no_hash(), password[:LONGEST])
    except (VerificationError, InvalidHashError):
        return None
    if not row:
        return None
    if _hasher.check_needs_rehash(row[0]):
        with connect(home) as connection:
            connection.execute("update users set hash = ? where name = ?", (_hasher.hash(password), name))
    return User(name, bool(row[1]))


def _no_hash() -> str:
    global _nobody
    _nobody = _nobody or _hasher.hash(os.urandom(16).hex())
    return _nobody
