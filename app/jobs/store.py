"""The queue on disk: SQLite, a short connection per call. It holds order and leases only; it can be rebuilt.

Nothing of a training goes through it, so a locked or broken database never stops a step.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.jobs.model import Job, Place

MIGRATIONS = (
    """create table jobs (
        run text primary key, place text not null, position real not null, executor text not null,
        handle text not null, started real not null, attempt integer not null
    ) strict""",
    "alter table jobs add column token text not null default ''",
    "alter table jobs add column card text not null default ''",
)
_COLUMNS = "run, place, position, executor, handle, started, attempt, token, card"


def database(home: Path) -> Path:
    """Where the database is."""
    return home / "atelier.db"


@contextmanager
def connect(home: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one transaction, brought up to date first; a broken file is put aside and made anew."""
    try:
        connection = _open(home)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked or unreadable is not broken: let it be seen
            raise
        _set_aside(home)
        connection = _open(home)
    try:
        connection.execute("begin immediate")
        yield connection
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.close()


def _open(home: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database(home), timeout=30, isolation_level=None)
    try:
        connection.execute("pragma busy_timeout = 30000")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    if connection.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS):
        return
    connection.execute("begin immediate")  # two processes may open a new file at once: look again inside
    version = connection.execute("pragma user_version").fetchone()[0]
    for number, statement in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute(statement)
        connection.execute(f"pragma user_version = {number}")
    connection.execute("commit")


def _set_aside(home: Path) -> None:
    for suffix in ("-wal", "-shm"):
        database(home).with_name(database(home).name + suffix).unlink(missing_ok=True)
    database(home).replace(home / "atelier.broken.db")


def _job(row: tuple[str, str, float, str, str, float, int, str, str]) -> Job:
    return Job(row[0], Place(row[1]), *row[2:])


def jobs(home: Path) -> dict[str, Job]:
    """Return every row, in the order of the queue."""
    with connect(home) as connection:
        rows = connection.execute(f"select {_COLUMNS} from jobs order by position").fetchall()
    return {row[0]: _job(row) for row in rows}


def put(home: Path, run: str, seen: Job | None = None, first: bool = False, executor: str = "local") -> bool:
    """Put a run into the queue (again), at its end or its head.

    Args:
        home: data folder.
        run: name of the run.
        seen: its row when it was decided on. A run that was started since then is left alone.
        first: before all that wait.
        executor: that starts it.

    Returns:
        Whether it waits now.
    """
    with connect(home) as connection:
        ends = "coalesce(min(position), 0) - 1" if first else "coalesce(max(position), 0) + 1"
        position = connection.execute(f"select {ends} from jobs").fetchone()[0]
        done = connection.execute(
            f"insert into jobs ({_COLUMNS}) values (?, 'queued', ?, ?, '', 0, 0, '', '') on conflict (run) do update "
            "set place = 'queued', position = excluded.position, executor = excluded.executor, handle = '' "
            "where place <> 'started' or token = ?",
            (run, position, executor, seen.token if seen else ""),
        )
        return done.rowcount > 0


def take(home: Path) -> Job | None:
    """Return the first queued job; it stays queued until `claim`."""
    with connect(home) as connection:
        query = f"select {_COLUMNS} from jobs where place = 'queued' order by position limit 1"
        row = connection.execute(query).fetchone()
    return _job(row) if row else None


def claim(home: Path, run: str, now: float, card: str = "") -> str:
    """Write down that a waiting run is being started; return the token of this start, "" where it does not wait."""
    token = secrets.token_hex(8)
    with connect(home) as connection:
        done = connection.execute(
            "update jobs set place = 'started', handle = '', started = ?, attempt = attempt + 1, token = ?, card = ? "
            "where run = ? and place = 'queued'",
            (now, token, card, run),
        )
        return token if done.rowcount else ""


def set_handle(home: Path, run: str, token: str, handle: str) -> bool:
    """Write down how the executor finds the process of a start; return whether that is still the last one."""
    with connect(home) as connection:
        done = connection.execute("update jobs set handle = ? where run = ? and token = ?", (handle, run, token))
        return done.rowcount > 0


def mark_ended(home: Path, run: str, token: str) -> bool:
    """Write down that the process of a start is gone; return whether that is still the last one."""
    return _leave(home, run, token, Place.ENDED)


def release(home: Path, run: str, token: str) -> bool:
    """Let a run wait again whose start came to nothing; return whether that is still the last one."""
    return _leave(home, run, token, Place.QUEUED)


def _leave(home: Path, run: str, token: str, place: Place) -> bool:
    with connect(home) as connection:
        done = connection.execute(
            "update jobs set place = ? where run = ? and place = 'started' and token = ?", (place, run, token)
        )
        return done.rowcount > 0


def drop(home: Path, run: str) -> bool:
    """Take a run out of the queue; return whether it was waiting there."""
    with connect(home) as connection:
        return connection.execute("delete from jobs where run = ? and place = 'queued'", (run,)).rowcount > 0


def forget(home: Path, run: str, seen: Job | None = None) -> bool:
    """Delete the row of a run, and return True; where it was started since its row was `seen` it stays."""
    with connect(home) as connection:
        connection.execute(
            "delete from jobs where run = ? and (place <> 'started' or token = ?)", (run, seen.token if seen else "")
        )
        return connection.execute("select 1 from jobs where run = ?", (run,)).fetchone() is None


def swap(home: Path, run: str, other: str) -> None:
    """Let two waiting runs change places."""
    with connect(home) as connection:
        query = "select run, position from jobs where place = 'queued' and run in (?, ?)"
        found = dict(connection.execute(query, (run, other)).fetchall())
        if len(found) == 2:
            places = [(found[other], run), (found[run], other)]
            connection.executemany("update jobs set position = ? where run = ?", places)
