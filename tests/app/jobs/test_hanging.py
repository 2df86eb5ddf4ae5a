"""A run that hangs can be stopped: its process is ended when it neither answers nor lives."""

import os
import signal
import subprocess
import sys
import time

import pytest

from app.commands import runs
from app.jobs import store, supervisor
from app.jobs.executors.local import handle_of
from trainer.contract.compose import compose
from trainer.contract.rundir import RunDir, State, create_run

SIGNS = """
import sys, time
from pathlib import Path
from trainer.contract.rundir import RunDir, State
RunDir(Path(sys.argv[1])).write_status(State.TRAINING, step=3, total=9)
time.sleep(600)
"""


@pytest.fixture
def hanging(tmp_path):
    run = create_run(tmp_path, "run", compose([{"dataset": {"path": str(tmp_path)}}]))
    process = subprocess.Popen([sys.executable, "-c", SIGNS, str(run.path)])
    while run.status().state != State.TRAINING:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGSTOP)
    yield run, process
    process.kill()
    process.wait()


def test_the_supervisor_ends_it_after_a_while_and_not_before(tmp_path, hanging, monkeypatch):
    run, process = hanging
    store.put(tmp_path, run.name)
    token = store.claim(tmp_path, run.name, time.time() - 1)
    assert store.set_handle(tmp_path, run.name, token, handle_of(process.pid))
    supervisor.reconcile(tmp_path)
    run.request("stop")
    supervisor.reconcile(tmp_path)
    assert process.poll() is None, "it has time to save"
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.0)
    supervisor.reconcile(tmp_path)
    assert process.wait(10) == -signal.SIGKILL and run.status().state == State.LOST


def test_the_command_ends_one_that_gives_no_sign(tmp_path, hanging, monkeypatch, capsys):
    run, process = hanging
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.3)
    runs.stop(run.name, data_dir=tmp_path)
    assert process.wait(10) == -signal.SIGKILL
    assert RunDir(run.path).status().state == State.LOST and not run.asked("stop")
