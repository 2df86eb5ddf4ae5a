"""The one error that is meant for people, and the exit codes of every command."""

from dataclasses import dataclass

EXIT_DONE = 0
EXIT_FAULT = 1  # a fault of ours: a traceback goes with it
EXIT_ASKED = 2  # a fault in what was asked: a UserError goes with it
EXIT_STOPPED = 130  # stopped by the user, and saved


@dataclass
class UserError(Exception):
    """Something a person asked for cannot be done, in words that a person can act on.

    Args:
        problem: what was given and what is wrong with it, as a sentence.
        where: the file, setting or option it concerns; empty where there is none.
        fix: what is allowed, or what to do next.
    """

    problem: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{head}\n{self.fix}" if self.fix else head
