"""The queue on disk: SQLite, a short connection per call. It holds order and leases only; it can be rebuilt.

Nothing of a training goes through it, so a locked or broken database never stops a step.
"""

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
)
_COLUMNS = "run, place, position, executor, handle, started, attempt"


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


def _job(row: tuple[str, str, float, str, str, float, int]) -> Job:
    return Job(row[0], Place(row[1]), *row[2:])


def jobs(home: Path) -> dict[str, Job]:
    """Return every row, in the order of the queue."""
    with connect(home) as connection:
        rows = connection.execute(f"select {_COLUMNS} from jobs order by position").fetchall()
    return {row[0]: _job(row) for row in rows}


def put(home: Path, run: str, executor: str = "local") -> Job:
    """Put a run at the end of the queue (again)."""
    with connect(home) as connection:
        last = connection.execute("select coalesce(max(position), 0) from jobs").fetchone()[0]
        connection.execute(
            f"insert into jobs ({_COLUMNS}) values (?, 'queued', ?, ?, '', 0, 0) on conflict (run) do update "
            "set place = 'queued', position = excluded.position, executor = excluded.executor, handle = ''",
            (run, last + 1, executor),
        )
        row = connection.execute(f"select {_COLUMNS} from jobs where run = ?", (run,)).fetchone()
    return _job(row)


def take(home: Path) -> Job | None:
    """Return the first queued job; it stays queued until `mark_started`."""
    with connect(home) as connection:
        query = f"select {_COLUMNS} from jobs where place = 'queued' order by position limit 1"
        row = connection.execute(query).fetchone()
    return _job(row) if row else None


def mark_started(home: Path, run: str, handle: str, started: float) -> None:
    """Write down the process of a job."""
    with connect(home) as connection:
        connection.execute(
            "update jobs set place = 'started', handle = ?, started = ?, attempt = attempt + 1 where run = ?",
            (handle, started, run),
        )


def set_handle(home: Path, run: str, handle: str) -> None:
    """Write down how the executor finds the process."""
    with connect(home) as connection:
        connection.execute("update jobs set handle = ? where run = ?", (handle, run))


def mark_ended(home: Path, run: str) -> None:
    """Write down that the process of a started job is gone."""
    with connect(home) as connection:
        connection.execute("update jobs set place = 'ended' where run = ? and place = 'started'", (run,))


def drop(home: Path, run: str) -> bool:
    """Take a run out of the queue; return whether it was waiting there."""
    with connect(home) as connection:
        return connection.execute("delete from jobs where run = ? and place = 'queued'", (run,)).rowcount > 0


def forget(home: Path, run: str) -> None:
    """Delete the row of a run whatever its place."""
    with connect(home) as connection:
        connection.execute("delete from jobs where run = ?", (run,))


def swap(home: Path, run: str, up: bool) -> None:
    """Change places with the neighbour in the queue; nothing happens at its ends."""
    order = "position < ? order by position desc" if up else "position > ? order by position"
    with connect(home) as connection:
        own = connection.execute("select position from jobs where run = ? and place = 'queued'", (run,)).fetchone()
        other = (
            own
            and connection.execute(
                f"select run, position from jobs where place = 'queued' and {order} limit 1", own
            ).fetchone()
        )
        if other:
            connection.execute("update jobs set position = ? where run = ?", (other[1], run))
            connection.execute("update jobs set position = ? where run = ?", (own[0], other[0]))
