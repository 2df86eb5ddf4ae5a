"""Users, sessions and waits: nothing secret is kept, time ends a session, guessing is slow whoever is guessed."""

import threading
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.__main__ import cli
from app.gate import accounts, lockout, sessions
from trainer.contract.errors import UserError
from trainer.contract.home import find_home

GOOD = "eleven cats on a roof"
DAY = 86400.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = find_home(tmp_path / "home")
    accounts.add(home, "ada", GOOD, admin=False)
    return home


def test_neither_passwords_nor_tokens_are_kept(home: Path) -> None:
    token = sessions.begin(home, "ada")
    kept = b"".join(path.read_bytes() for path in home.glob("accounts.db*"))
    assert b"$argon2id$" in kept and GOOD.encode() not in kept and token.encode() not in kept
    assert accounts.file(home).stat().st_mode & 0o077 == 0


def test_only_the_right_password_opens(home: Path) -> None:
    assert accounts.verified(home, "ada", GOOD) == accounts.User("ada", False)
    assert accounts.verified(home, "ada", GOOD + "!") is None
    assert accounts.verified(home, "bob", GOOD) is None


def test_a_name_that_is_not_there_takes_as_long(home: Path) -> None:
    """Counted in hashes, not in seconds: a busy machine is no fault of the page."""
    looked: list[str] = []
    hasher = accounts._hasher

    class Counting:
        def verify(self, hash: str, password: str) -> bool:
            looked.append(hash.rsplit("$", 2)[0])
            return hasher.verify(hash, password)

        def __getattr__(self, name: str) -> object:
            return getattr(hasher, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_hasher", Counting())
        accounts.verified(home, "ada", "wrong password")
        accounts.verified(home, "bob", "wrong password")
    assert len(looked) == 2 and looked[0] == looked[1], "the same work, with the same parameters"


@pytest.mark.parametrize("name", ["", "Ada", "../ada", "a b", "-a", "a" * 33, "ada\0", "<b>", "ада"])
def test_other_names_are_refused(home: Path, name: str) -> None:
    with pytest.raises(UserError, match="no name for a user"):
        accounts.add(home, name, GOOD, admin=False)


def test_a_name_is_given_once_and_short_passwords_are_refused(home: Path) -> None:
    with pytest.raises(UserError, match="already"):
        accounts.add(home, "ada", GOOD, admin=True)
    with pytest.raises(UserError, match="10 to 1024"):
        accounts.add(home, "bob", "short", admin=False)
    assert accounts.users(home) == [accounts.User("ada", False)]


def test_a_broken_file_lets_nobody_in(home: Path) -> None:
    for path in home.glob("accounts.db*"):
        path.unlink()
    accounts.file(home).write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="broken"):
        accounts.users(home)
    with pytest.raises(UserError, match="broken"):
        sessions.whose(home, "token")


def test_a_session_ends_by_itself_by_logging_out_and_by_another_password(home: Path) -> None:
    begun = time.time()
    tokens = [sessions.begin(home, "ada", begun) for _ in range(3)]
    assert sessions.whose(home, tokens[0], begun + 2 * DAY) and sessions.whose(home, tokens[0], begun + 4 * DAY)
    assert sessions.whose(home, tokens[1], begun + 4 * DAY) is None, "idle for three days"
    sessions.end(home, tokens[2])
    assert sessions.whose(home, tokens[2], begun) is None
    for day in range(6, 30, 2):
        assert sessions.whose(home, tokens[0], begun + day * DAY)
    assert sessions.whose(home, tokens[0], begun + 30 * DAY) is None, "used, but too old"
    fresh = sessions.begin(home, "ada")
    accounts.set_password(home, "ada", GOOD + " again")
    assert sessions.whose(home, fresh) is None
    fresh = sessions.begin(home, "ada")
    accounts.remove(home, "ada")
    assert sessions.whose(home, fresh) is None
    assert sessions.whose(home, "") is None and sessions.whose(home, "\ud800") is None


def test_a_thousand_guesses_are_looked_at_a_few_times(home: Path) -> None:
    """One guess a second, each from another address: only the name is the same."""
    looked = sum(lockout.attempt(home, "ada", f"10.0.{i // 250}.{i % 250}", 1000.0 + i) == 0 for i in range(1000))
    assert 5 <= looked <= 10
    assert lockout.attempt(home, "ada", "10.9.9.9", 2000.0) > 0
    assert lockout.attempt(home, "bob", "10.9.9.9", 2000.0) == 0, "another name is open"
    accounts.set_password(home, "ada", GOOD)
    assert lockout.attempt(home, "ada", "10.9.9.9", 2000.0) == 0


def test_an_address_that_tries_many_names_waits_as_well(home: Path) -> None:
    looked = sum(lockout.attempt(home, f"name{i}", f"2001:db8::{i:x}", 1000.0 + i) == 0 for i in range(300))
    assert 10 <= looked <= 14, "a network of IPv6 is one address"


def test_attempts_at_once_are_all_counted(home: Path) -> None:
    answers: list[float] = []
    ask = [threading.Thread(target=lambda: answers.append(lockout.attempt(home, "ada", "10.0.0.1"))) for _ in range(30)]
    [thread.start() for thread in ask]
    [thread.join() for thread in ask]
    assert len(answers) == 30 and sum(answer == 0 for answer in answers) == 5


def test_success_forgets_the_name_and_not_the_address(home: Path) -> None:
    for i in range(40):
        lockout.attempt(home, f"other{i}", "10.0.0.1", 1000.0)
    lockout.attempt(home, "ada", "10.0.0.2", 1000.0)
    lockout.succeeded(home, "ada", "10.0.0.2")
    assert lockout.attempt(home, "ada", "10.0.0.1", 1001.0) > 0


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def atelier(*words: str, said: str = "") -> Result:
        return CliRunner().invoke(cli, ["user", *words, "--data-dir", str(tmp_path)], input=said)

    assert atelier("add", "ada", "--admin", said=GOOD + "\n").exit_code == 0
    assert '"name": "ada", "admin": true' in atelier("list", "--json").stdout
    assert isinstance(atelier("passwd", "ada", said="x\n").exception, UserError)
    monkeypatch.setenv("ATELIER_PASSWORD", GOOD + " again")
    assert atelier("passwd", "ada").exit_code == 0 and accounts.verified(tmp_path, "ada", GOOD + " again")
    assert atelier("remove", "ada").exit_code == 0 and "Nobody yet" in atelier("list").stdout
