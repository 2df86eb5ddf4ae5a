"""`atelier webhook`: where word of ended jobs goes."""

import sys
from typing import Annotated

import typer

from app.commands.options import DataDir, Json, answer
from app.jobs import webhook as hook
from trainer.contract.home import find_home


def webhook(
    address: Annotated[str, typer.Argument(help="Address to POST to; `-` reads it from standard input.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Send nothing any more.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Say to another program when a job ends: Discord, Slack, ntfy, or one of yours. Alone it tells where word goes."""
    home = find_home(data_dir)
    given = sys.stdin.readline().strip() if address == "-" else address
    if given or clear:
        hook.set_address(home, "" if clear else given)
    host = hook.host(home)
    answer(as_json, f"Word of ended jobs goes to {host}." if host else "Word of ended jobs goes nowhere.", host=host)
