"""The real supervisor, with a stand-in for the trainer: `python fake_supervisor.py HOME`."""

import sys
from pathlib import Path

from app.jobs import supervisor
from app.jobs.executors import local


def command(run_dir: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("fake_trainer.py")), str(run_dir)]


if __name__ == "__main__":
    local.command = command
    supervisor.main(Path(sys.argv[1]))
