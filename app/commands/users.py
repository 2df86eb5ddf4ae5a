"""`atelier user`: who may come in where the page is open to others."""

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from app.commands.options import DataDir, Json, answer
from app.gate import accounts
from trainer.contract.errors import UserError
from trainer.contract.home import find_home

PASSWORD = "ATELIER_PASSWORD"
Name = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, dot, dash, underscore.")]


def add(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="Sees and does everything, also what others own.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let somebody in. The password is asked for, or read from ATELIER_PASSWORD or standard input."""
    user = accounts.add(find_home(data_dir), name, _password(), admin)
    answer(as_json, f"[green]done[/]: {user.name} may log in.", name=user.name, admin=user.admin)


def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List who may come in."""
    found = accounts.users(find_home(data_dir))
    told = "\n".join(escape(f"{user.name}  {'admin' if user.admin else ''}".rstrip()) for user in found)
    users = [{"name": user.name, "admin": user.admin} for user in found]
    answer(as_json, told or "Nobody yet: `atelier user add NAME`.", users=users)


def passwd(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Change a password; who is logged in under that name is out, and a name that was locked is open again."""
    accounts.set_password(find_home(data_dir), name, _password())
    answer(as_json, f"[green]done[/]: {name} has another password.", name=name)


def remove(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let somebody in no more, at once. Their sets and runs stay, for admins."""
    accounts.remove(find_home(data_dir), name)
    answer(as_json, f"[green]done[/]: {name} may not log in any more.", name=name)


def _password() -> str:
    """Never an argument: those are read by everybody who lists the processes."""
    if given := os.environ.get(PASSWORD):
        return given
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = typer.prompt("Password", hide_input=True, err=True)
    if first != typer.prompt("Again", hide_input=True, err=True):
        raise UserError("the two are not the same", "password", "Try again.")
    return str(first)
