"""A word to another program when a job ends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.jobs import store, supervisor, webhook
from trainer.contract.compose import compose
from trainer.contract.errors import UserError
from trainer.contract.rundir import State, create_run

SECRET = "a-word-that-nobody-may-see"


@pytest.fixture
def listener():
    """A server that answers 500 as often as `refuses` says, then takes what comes."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            server.taken.append((self.path, json.loads(body)))
            self.send_response(500 if len(server.taken) <= server.refuses else 204)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Taking)
    server.taken, server.refuses = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path, "cat", compose([{"dataset": {"path": "-"}}]))


def address(server):
    return f"http://127.0.0.1:{server.server_port}/{SECRET}"


def test_the_end_of_a_started_job_is_told_once(tmp_path, run, listener):
    webhook.set_address(tmp_path, address(listener))
    store.put(tmp_path, "cat")
    token = store.claim(tmp_path, "cat", 1.0)
    store.set_handle(tmp_path, "cat", token, "1:1.0")
    run.write_status(State.DONE, step=9, total=9, message="Finished: cat.safetensors")
    for _ in range(2):
        supervisor.reconcile(tmp_path)
    for thread in [one for one in threading.enumerate() if one.name == "webhook"]:
        thread.join(20)
    ((path, told),) = listener.taken
    assert path == f"/{SECRET}"
    assert told["content"] == told["text"] == "cat: done, step 9 of 9. Finished: cat.safetensors"
    assert (told["run"], told["state"], told["step"], told["total"]) == ("cat", "done", 9, 9)


def test_a_server_that_is_busy_is_asked_again_and_the_log_keeps_the_secret(tmp_path, run, listener, caplog):
    listener.refuses = 2
    webhook.set_address(tmp_path, address(listener))
    waits = []
    webhook.tell(tmp_path, run, waits.append).join(20)
    assert len(listener.taken) == 3 and waits == list(webhook.AGAIN)
    assert "HTTP 500" in caplog.text and SECRET not in caplog.text


def test_a_server_that_is_gone_costs_nothing(tmp_path, run, listener, caplog):
    webhook.set_address(tmp_path, address(listener))
    listener.shutdown()
    listener.server_close()
    webhook.tell(tmp_path, run, lambda seconds: None).join(60)
    assert "127.0.0.1" in caplog.text and SECRET not in caplog.text


def test_only_its_host_is_shown_and_only_this_user_reads_it(tmp_path):
    webhook.set_address(tmp_path, f"https://discord.example/{SECRET}")
    assert webhook.host(tmp_path) == "discord.example"
    assert webhook.place(tmp_path).stat().st_mode & 0o077 == 0
    webhook.set_address(tmp_path, "")
    assert webhook.host(tmp_path) == ""
    assert webhook.tell(tmp_path, None) is None


@pytest.mark.parametrize("wrong", ["file:///etc/passwd", "discord.example/hook", "https:///a-path", "gopher://a/b"])
def test_what_is_no_address_is_refused_without_being_repeated(tmp_path, wrong):
    with pytest.raises(UserError) as told:
        webhook.set_address(tmp_path, wrong)
    assert wrong not in str(told.value)
