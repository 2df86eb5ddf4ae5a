"""HTML of the adapter that is open in the Library: its words, what to do with it, and what came of that."""

import html
from collections.abc import Sequence
from urllib.parse import quote

from app.clients.layouts import Client
from app.clients.sending import Sent
from app.views import adapters, labels
from app.views.adapters import Adapter
from app.views.cards import chip, cover, prompt, size_text
from app.views.shelf import Card
from trainer.formats.glance import ADAPTER, Glance
from trainer.formats.parameters import decimal_text

ASK = "Settings says where A1111, Forge, ComfyUI and InvokeAI are; then files are sent there from here."


def opened_html(card: Card, dataset: str, clients: Sequence[Client]) -> str:
    """HTML: the open adapter.

    Args:
        card: of it.
        dataset: name of the set that it was trained on; "" where there is none.
        clients: programs that it can be sent to.
    """
    seen, item = card.seen or Glance(), card.item
    figures = " · ".join(filter(None, (seen.method, f"rank {seen.rank}" if seen.rank else "", size_text(item.size))))
    return (
        f'<section class="opened" data-id="{item.id}" data-key="{html.escape(item.key)}"><div class="facts">'
        f'<img src="{cover(card, "large")}" width="120" height="120" alt="" decoding="async">'
        f'<div><h3>{html.escape(item.name)}</h3><div class="figures">{html.escape(figures)}</div></div>'
        f"<table>{_rows(card, dataset)}</table></div>{_buttons(item)}{_versions(item)}{_send(clients)}"
        f"{_own(card)}</section>"
    )


def _rows(card: Card, dataset: str) -> str:
    seen = card.seen or Glance()
    rows = [("trigger words", "".join(map(chip, seen.triggers)) or "none told")] if seen.kind == ADAPTER else []
    rows += [("prompt", chip(prompt(card)))]
    rows += [("strength", _advice(card))]
    rows += [("made for", html.escape(" · ".join(dict.fromkeys(filter(None, (seen.base, card.family)))) or "not told"))]
    rows += [("hint", html.escape(seen.hint))] if seen.hint else []
    rows += [("from", _origin(card, dataset))]
    return "".join(f"<tr><th>{title}</th><td>{value}</td></tr>" for title, value in rows)


def _advice(card: Card) -> str:
    if card.seen and card.seen.strength is not None:
        return f"{decimal_text(card.seen.strength)}, as its maker advises"
    return "1, as it was trained; more is stronger, below 0 the opposite. Preview shows what fits."


def _origin(card: Card, dataset: str) -> str:
    item = card.item
    if not item.run:
        where = f"{html.escape(card.whose)}: <code>{html.escape(str(item.path))}</code>"
        return where if item.client else "added here"
    run = _link("run", item.run.name, f"run {item.run.name}")
    return f"{run}, pictures {_link('dataset', dataset, dataset)}" if dataset else run


def _link(to: str, name: str, words: str) -> str:
    there = f'href="?{to}={quote(name)}" data-act="go" data-to="{to}" data-name="{html.escape(name)}"'
    return f"<a {there}>{html.escape(words)}</a>"


def _buttons(item: Adapter) -> str:
    """Try it, take it away, throw it away: what is another program's is only read."""
    delete = "" if item.client else '<button type="button" id="library-delete" data-act="remove">Delete</button>'
    return (
        f'<div class="choices"><button type="button" class="main" id="library-try" data-act="go" data-to="preview" '
        f'data-name="{item.id}">Try it in Preview</button>'
        f'<a class="act" id="library-download" href="{quote(item.link)}" download>Download</a>'
        f'<a class="act" id="library-bundle" href="{quote(item.bundle_link)}" download>Download everything</a>'
        f"{delete}</div>"
    )


def _versions(item: Adapter) -> str:
    """The files of a run, and the way to choose one."""
    found = adapters.siblings(item)
    if len(found) < 2:
        return ""
    options = "".join(
        f'<option value="{one.id}"{" selected" if one.path == item.path else ""}>{html.escape(version(one))}</option>'
        for one in found
    )
    off = " disabled" if item.chosen else ""
    return (
        f'<div class="choices"><label>Files of this run<select id="library-versions">{options}</select></label>'
        f'<button type="button" id="library-use" data-act="use"{off}>Use this one</button></div>'
    )


def version(item: Adapter) -> str:
    """What a file of a run is, in words."""
    what = "the chosen one" if item.chosen else "the end" if item.step is None else f"step {item.step}"
    return f"{what} ({item.path.stem}, {item.size / 2**20:.1f} MB)"


def _send(clients: Sequence[Client]) -> str:
    if not clients:
        return f'<div class="hint">{ASK}</div>'
    kinds = [client.kind for client in clients]
    options = "".join(
        f'<option value="{html.escape(one.folder)}">{one.title}'
        f"{html.escape(f' ({one.folder})') if kinds.count(one.kind) > 1 else ''}</option>"
        for one in clients
    )
    return (
        f'<div class="choices"><label>Send to<select id="library-send-to">{options}</select></label>'
        '<label class="tick" title="A second name for the same file, where both are on one disk">'
        '<input type="checkbox" id="library-link">hard link, no copy</label>'
        '<button type="button" id="library-send" data-act="send">Send</button></div>'
    )


def _own(card: Card) -> str:
    """Tags and note: kept as soon as the field is left."""
    if labels.file(card.item) is None:
        return ""
    tags, note = html.escape(", ".join(card.labels.tags)), html.escape(card.labels.note)
    return (
        f'<div class="own"><label>Tags<input id="library-tags" value="{tags}" placeholder="style, favourite"></label>'
        f'<label>Notes<textarea id="library-note" rows="2" placeholder="what works, what does not">\n{note}</textarea>'
        "</label></div>"
    )


def removed_html(name: str, place: str) -> str:
    """HTML: that a file is in the trash, with the way back."""
    return (
        f'<div class="facts removed"><span><b>{html.escape(name)}</b> is in the trash.</span>'
        f'<button type="button" id="library-undo" data-act="restore" data-place="{html.escape(place)}">Undo</button>'
        "</div>"
    )


def sent_html(card: Card, title: str, sent: Sent) -> str:
    """HTML: where a file was sent to, what to paste, what to do there."""
    how = "a second name of the same file, no room is taken" if sent.linked else "a copy"
    words = prompt(card).replace(f":{card.item.path.stem}:", f":{sent.file.stem}:", 1)
    rows = [
        ("file", f"<code>{html.escape(str(sent.file))}</code>"),
        ("is", f"{how}, with {', '.join(map(html.escape, sent.names[1:]))}"),
        ("prompt", chip(words)),
        ("there", html.escape(sent.how)),
    ]
    table = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<div class="facts"><h3>Sent to {title}</h3><table>{table}</table></div>'
