"""`atelier analyze`, `resize`, `merge` and `convert` as processes, on real files."""

import json

import pytest

from app.commands import tools
from tests.app.test_commands import atelier, last_object
from tests.trainer.export.test_tools import make
from trainer.__main__ import main
from trainer.contract.errors import UserError
from trainer.formats.inspect import inspect


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A file of the practice base, which says so."""
    said = {"ss_base_model_version": "lora-atelier-demo"}
    return make(tmp_path_factory.mktemp("files") / "mine.safetensors", "demo", rank=8, **said)


def test_one_after_the_other(tmp_path, adapter):
    told = last_object(atelier(tmp_path, "analyze", adapter, "--json"))
    assert told["ok"] and told["rank"] == 8 and told["needed"]["0.95"] < 8 and "adapter.rank=" in told["advice"][1]
    small = tmp_path / "small.safetensors"
    done = atelier(tmp_path, "resize", adapter, "--rank", 2, "--out", small)
    assert done.returncode == 0 and "relative error" in done.stdout and inspect(small).ranks == (2,), done.stderr
    both = [f"{adapter}:0.5", f"{small}:-1"]
    told = last_object(atelier(tmp_path, "merge", *both, "--into", "demo", "--out", tmp_path / "base", "--json"))
    assert told["ok"] and told["changed"] > 50 and (tmp_path / "base" / "model_index.json").is_file()


def test_what_cannot_be_done_is_a_sentence(tmp_path, adapter):
    home = tmp_path / "home"
    with pytest.raises(UserError, match="a rank or an energy"):
        tools.resize(str(adapter), data_dir=home)
    with pytest.raises(UserError, match="nothing is overwritten"):
        tools.convert(str(adapter), "diffusers", out=adapter, data_dir=home)
    with pytest.raises(UserError, match="less than or equal to 20"):
        tools.merge([f"{adapter}:99"], out=tmp_path / "x.safetensors", data_dir=home)
    with pytest.raises(UserError, match="a base has no rank"):
        tools.merge([str(adapter)], rank=4, into="demo", data_dir=home)
    with pytest.raises(UserError, match="no adapter file"):
        tools.analyze(str(tmp_path / "none.safetensors"), data_dir=home)


def test_a_name_made_of_many_names_fits_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tools._target(None, "+".join(["a-style-with-a-long-name"] * 32))
    assert target.parent == tmp_path and len(target.name) < 200
    target.write_bytes(b"")


def test_a_request_that_is_none_is_refused_with_an_object(tmp_path, capsys):
    (tmp_path / "request.json").write_text('{"file": "x", "out": "y", "rank": 2, "energy": 0.9}')
    assert main(["resize", str(tmp_path / "request.json")]) == 2
    assert "either a rank or an energy" in json.loads(capsys.readouterr().out)["problem"]
