"""Every way in which the trainer says that something cannot be done is shown in the page, with what to do next."""

import ast
import html
from pathlib import Path

import pytest

from app.jobs import queue
from app.jobs.model import Shown
from app.views import progress
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.home import find_home
from trainer.contract.rundir import RunDir, State, create_run
from trainer.pictures.origin import ANOTHER_RUN

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "trainer").rglob("*.py"))


def text(node: ast.expr | None) -> str | None:
    """What an argument says, with a word where a value goes; None where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "<b>it</b>" for part in node.values)
    return None


def raised() -> list[tuple[str, UserError]]:
    """(place, error) of every UserError that the trainer makes, as its source has it."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if name in ("UserError", "DiskFull") and not any(isinstance(part, ast.Starred) for part in node.args):
                named = {item.arg: item.value for item in node.keywords}
                given = [*node.args, *(named.get(key) for key in ("problem", "where", "fix")[len(node.args) :])]
                problem, where, fix = (text(part) for part in given[:3])
                error = UserError(
                    problem or "a sentence", where or "", "next" if fix is None and given[2] else fix or ""
                )
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", error))
    return found


ERRORS = raised()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    home = find_home(tmp_path_factory.mktemp("failures") / "home")
    return create_run(home, "r", compose([{"dataset": {"path": "here"}}]))


def test_the_errors_are_found() -> None:
    assert len(ERRORS) > 150


@pytest.mark.parametrize(("place", "error"), ERRORS, ids=[place for place, _ in ERRORS])
def test_an_error_has_a_next_step_and_stands_in_the_page(place: str, error: UserError, run: RunDir) -> None:
    assert error.fix, f"{place}: what is one to do next?"
    message = f"{error.where}: {error.problem}" if error.where else error.problem
    run.write_status(State.FAILED, step=3, total=9, message=message, fix=error.fix)
    shown = progress.bar(queue.entry(run.path.parents[1], "r"), progress.track(run))
    assert 'data-state="failed"' in shown and "<b>it</b>" not in shown
    assert html.escape(message) in shown
    assert html.escape(error.fix) in shown or ANOTHER_RUN in message


@pytest.mark.parametrize("state", [State.FAILED, State.STOPPED, State.LOST])
def test_every_end_that_is_none_is_said_in_words(state: State, run: RunDir) -> None:
    run.write_status(state, step=3, total=9, message="the reason", fix="the next step")
    item = queue.entry(run.path.parents[1], "r")
    shown = progress.bar(item, progress.track(run))
    assert progress.WORDS[Shown(state.value)] in shown and "the reason" in shown and "the next step" in shown
