"""Where a request comes from. A browser says by which name, and from which page; no page can forge either."""

import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import psutil

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD", "OPTIONS")
OPENED = ("/", "/login")  # what a link on another page may open
ANY = ("0.0.0.0", "::", "")  # all networks of the machine


def name_of(host: str) -> str:
    """The name in a Host header, without port and brackets, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def names(bound: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names by which the page may be called.

    Args:
        bound: address that it listens on; one for all networks stands for the machine's own addresses and name.
        more: names that one adds, of a proxy before it for example.
    """
    own = {bound.lower()} if bound not in ANY else _of_machine()
    return frozenset({*LOOPBACK, *own, *(name_of(one) for one in more)})


def _of_machine() -> set[str]:
    name = socket.gethostname().lower()
    found = {one.address.partition("%")[0].lower() for every in psutil.net_if_addrs().values() for one in every}
    return {name, f"{name}.local", *found}


def foreign_name(host: str, allowed: frozenset[str]) -> bool:
    """Whether a request came by a name that is not ours: a foreign page whose name was bound anew to this address."""
    return name_of(host) not in allowed


def foreign_page(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether another page sent a request. To open the page by a link is no harm; all else is refused.

    Programs that are no browsers say neither origin nor site: they act for whoever runs them.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    if site in ("same-origin", "none"):
        return False
    opened = method == "GET" and path in OPENED and headers.get("sec-fetch-mode") == "navigate"
    return not (opened and headers.get("sec-fetch-dest") == "document")
