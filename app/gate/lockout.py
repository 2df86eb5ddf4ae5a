"""Guessing passwords is made slow: after a few failures a name and an address wait, longer each time.

An attempt while one waits is not looked at and does not count, so that nobody is kept out for ever by it.
"""

import ipaddress
import time
from pathlib import Path

from app.gate.accounts import connect

FREE = {"user": 5, "from": 10}  # failures that cost nothing; many people may share an address
FIRST, MOST = 30.0, 3600.0  # seconds of the first wait, doubled each time, and the longest
FORGOTTEN = 86400.0  # seconds after which failures are forgotten


def keys(name: str, address: str) -> tuple[str, str]:
    """What is counted: the name, whether there is such a user or not, and the address (of IPv6 its network)."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
        network = number if number.version == 4 else ipaddress.ip_network((number, 64), strict=False)
    except ValueError:
        network = None
    return f"user {name[:64]}", f"from {network or address[:64]}"


def attempt(home: Path, name: str, address: str, now: float | None = None) -> float:
    """Count an attempt, before it is looked at: a hundred at once are a hundred. `succeeded` takes it back.

    Returns:
        0 where it may be looked at, else the seconds until one may; then it was not counted.
    """
    now, counted = time.time() if now is None else now, keys(name, address)
    wait = 0.0
    with connect(home) as connection:
        connection.execute("delete from failures where last < ?", (now - FORGOTTEN,))
        rows = connection.execute("select who, count, last from failures where who in (?, ?)", counted).fetchall()
        for who, count, last in rows:
            wait = max(wait, last + _pause(who, count) - now)
        for who in counted if wait <= 0 else ():
            connection.execute(
                "insert into failures values (?, 1, ?) on conflict (who) do update set count = count + 1, last = ?",
                (who, now, now),
            )
    return wait


def _pause(who: str, count: int) -> float:
    beyond = count - FREE[who.split(" ")[0]]
    return min(MOST, FIRST * 2.0 ** min(beyond, 20)) if beyond >= 0 else 0.0


def succeeded(home: Path, name: str, address: str) -> None:
    """Forget the failures of a name; an address keeps its own but this one, or one good account would open others."""
    user, place = keys(name, address)
    with connect(home) as connection:
        connection.execute("delete from failures where who = ?", (user,))
        connection.execute("update failures set count = count - 1 where who = ? and count > 0", (place,))
