"""Events of the page know who sent them, and nobody's event names a place that is not theirs."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from app import owners
from app.views.page import say
from trainer.contract.errors import UserError


def let_each_see_their_own(blocks: gr.Blocks, home: Path) -> None:
    """Let every event of a page be seen by who sent it; to be called when the page is complete."""
    for listener in blocks.fns.values():
        if listener.fn:
            listener.fn = _as_sender(listener.fn, home)


def _as_sender(function: Callable[..., Any], home: Path) -> Callable[..., Any]:
    """Gradio runs events beside the request that brought them, and keeps that request at hand meanwhile."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            if not _admitted(home, args):
                yield gr.skip()
                return
            going = function(*args, **kwargs)
            while True:
                with _sender(home):
                    try:
                        value = next(going)
                    except StopIteration:
                        return
                yield value

        return steps

    @functools.wraps(function)
    def once(*args: Any, **kwargs: Any) -> Any:
        if not _admitted(home, args):
            return gr.skip()
        with _sender(home):
            return function(*args, **kwargs)

    return once


@contextmanager
def _sender(home: Path) -> Iterator[None]:
    """The one whose request this is; nobody where that is not known."""
    request = LocalContext.request.get(None)
    scope = request.request.scope if request is not None and request.request is not None else {}
    with owners.seen_by(scope.get("atelier_viewer") or owners.Viewer("", False, home)):
        yield


def _admitted(home: Path, values: Any) -> bool:
    """Whether an event names only places of its sender; it is said where it does not."""
    with _sender(home):
        try:
            owners.admit([one._data if isinstance(one, gr.EventData) else one for one in values])
        except UserError as error:
            say(error)
            return False
        return True
