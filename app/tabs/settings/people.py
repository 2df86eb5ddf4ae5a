"""Who may come in: the list, a new one, one less. For admins, and for whoever sits at a machine without a login."""

import html
from typing import Any

import gradio as gr

from app import owners
from app.gate import accounts
from app.views.page import Page, kindly, quiet
from trainer.contract.errors import UserError

HINT = (
    "Only this machine can open the page, and it asks for no login. To let others in, make a user and start it with "
    "<code>atelier ui --host 0.0.0.0</code>."
)


def build(page: Page) -> Any:
    """Lay out the part; returns the event's function and outputs that show it anew."""
    who = gr.HTML(elem_id="settings-who", padding=False)
    with gr.Column(visible=not owners.bounded(), elem_id="settings-people") as area:
        with gr.Row(elem_classes="tight ends"):
            name = gr.Textbox("", label="Name", placeholder="ada", elem_id="settings-user-name", min_width=110)
            password = gr.Textbox("", label="Password", type="password", elem_id="settings-user-password",
                                  min_width=150, placeholder=f"{accounts.SHORTEST} or more")  # fmt: skip
        with gr.Row(elem_classes="tight ends"):
            admin = gr.Checkbox(
                False, label="sees and does everything (admin)", elem_id="settings-user-admin", min_width=200
            )
            add = gr.Button("Add user", size="md", min_width=100, elem_id="settings-user-add")
        with gr.Row(elem_classes="tight ends"):
            gone = gr.Dropdown(
                [], label="Let in no more", value=None, elem_id="settings-user-gone", min_width=150, scale=3
            )
            remove = gr.Button("Remove", size="md", min_width=110, elem_id="settings-user-remove")

    def show() -> list[Any]:
        others = (
            [user.name for user in accounts.users(page.home) if not _self(user.name)] if not owners.bounded() else []
        )
        return [_told(page), gr.Column(visible=not owners.bounded()), gr.Dropdown(others, value=None)]

    def made(name: str, password: str, admin: bool) -> list[Any]:
        owners.check_keeper("Users")
        user = accounts.add(page.home, name.strip(), password, bool(admin))
        gr.Info(f"{user.name} may log in.")
        return ["", "", False, *show()]

    def removed(name: str | None) -> list[Any]:
        owners.check_keeper("Users")
        if not name or _self(name):
            raise UserError("nobody is chosen", "Let in no more", "Choose somebody else than yourself.")
        accounts.remove(page.home, name)
        gr.Info(f"{name} may not log in any more. What they made stays, for admins.")
        return show()

    shown = [who, area, gone]
    add.click(kindly(made), [name, password, admin], [name, password, admin, *shown], **quiet())
    remove.click(kindly(removed), gone, shown, **quiet())
    return show, shown


def _self(name: str) -> bool:
    who = owners.viewer()
    return who is not None and who.name == name


def _told(page: Page) -> str:
    """HTML: who is logged in, with the way out; for those who may know it, everybody who may come in."""
    who = owners.viewer()
    told = ""
    if who is not None:
        out = '<form method="post" action="/logout"><button class="lg secondary">Log out</button></form>'
        told = (
            f'<div class="who"><span>Logged in as <b>{html.escape(who.name)}</b></span>{out}</div>' if who.name else ""
        )
    if owners.bounded():
        return told
    users = accounts.users(page.home)
    hint = f'<div class="hint">{HINT}</div>' if who is None else ""
    rows = "".join(
        f"<tr><th>{html.escape(user.name)}</th><td>{'admin' if user.admin else 'user'}</td></tr>" for user in users
    )
    return f'{told}{hint}<div class="facts"><table>{rows}</table></div>' if users else f"{told}{hint}"
