"""Workers that crash, hang or want too much memory cost one job each. All of them are real processes."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from trainer.contract.errors import UserError
from trainer.pictures.sandbox import work

ODD = """
import os, signal, sys, time
from trainer.contract.errors import UserError
from trainer.pictures.sandbox import serve

def first():
    try: return not open(__file__ + ".mark", "x").close()
    except FileExistsError: return False

def handle(job):
    match job["do"]:
        case "crash": os.kill(os.getpid(), signal.SIGSEGV)
        case "hang": time.sleep(60)
        case "raise": raise KeyError("a fault of ours")
        case "fill": bytearray(2**40)
        case "print": os.write(1, b"a library talks"); print("and Python too", flush=True)
        case "full": raise UserError("the disk is full", "here", "make room")
        case "die": sys.exit(0)
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "kill once" if first(): os.kill(os.getpid(), signal.SIGKILL)
    return {"did": job["do"], "pid": os.getpid()}

if "begin" in __file__ and first(): os.kill(os.getpid(), signal.SIGKILL)
serve(handle)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    for name in ("odd_worker", "odd_begin"):
        (tmp_path / f"{name}.py").write_text(ODD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "odd_worker"


def test_one_bad_job_costs_only_itself_and_answers_keep_their_order(module):
    wanted = ["a", "crash", "b", "hang", "c", "raise", "fill", "d", "print", "die", "e"]
    began = time.monotonic()
    answers = list(work(module, [{"do": one} for one in wanted], workers=2, seconds=3))
    assert time.monotonic() - began < 20
    said = dict(zip(wanted, answers, strict=True))
    assert all(said[one]["did"] == one for one in ("a", "b", "c", "d", "print", "e"))
    for one, words in (("crash", "crashed"), ("raise", "crashed"), ("die", "crashed"), ("hang", "more than 3 s"),
                       ("fill", "GiB of memory")):  # fmt: skip
        assert words in said[one]["reason"], one


def test_what_is_killed_from_outside_gets_another_try(module):
    wanted = ["a", "kill once", "b", "kill", "c"]
    answers = list(work(module, [{"do": one} for one in wanted], workers=1))
    assert [answer.get("did") for answer in answers] == ["a", "kill once", "b", None, "c"]
    assert "want of memory" in answers[3]["reason"]
    assert next(work("odd_begin", [{"do": "a"}], workers=1))["did"] == "a"


def test_workers_stay_and_end_with_the_work(module):
    answers = list(work(module, [{"do": "a"}] * 20, workers=2))
    pids = {answer["pid"] for answer in answers}
    assert 1 <= len(pids) <= 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_stopping_early_ends_the_workers(module):
    answers = work(module, [{"do": "a"}, *[{"do": "hang"}] * 5], workers=2, seconds=60)
    pid = next(answers)["pid"]
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 5
    assert not psutil.pid_exists(pid)


def test_what_concerns_all_jobs_ends_the_work(module):
    with pytest.raises(UserError, match="disk is full"):
        list(work(module, [{"do": "full"}, *[{"do": "a"}] * 50], workers=2))


def test_a_worker_that_does_not_begin_is_a_fault_of_ours():
    with pytest.raises(RuntimeError, match="No module named"):
        list(work("there.is.none", [{}], workers=1))


def test_workers_end_when_the_program_above_is_killed(module):
    code = f"""
import time
from trainer.pictures.sandbox import work
for answer in work({module!r}, [{{"do": "a"}}], workers=1):
    print(answer["pid"], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE  # nobody may collect orphans here


def test_workers_are_light_and_import_no_torch():
    code = "import sys, trainer.pictures.storing; print(sorted({'torch', 'gradio', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
