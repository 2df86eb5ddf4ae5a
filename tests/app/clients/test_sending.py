"""A file goes to another program with what lies beside it; nothing there is ever replaced."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.clients.layouts import Client, folders
from app.clients.sending import send
from tests.app.programs import MARKS, adapter, program
from tests.app.saved_run import saved_run
from trainer.formats.header import read_header
from trainer.pictures.bundle import beside


@pytest.mark.parametrize("kind", MARKS)
def test_it_comes_with_its_sidecars_and_never_over_another(tmp_path: Path, kind: str) -> None:
    run = saved_run(tmp_path / "home")
    client = Client(kind=kind, folder=str(program(tmp_path / "p", kind)))
    source, folder = run.adapter_file, folders(client).loras[0]
    first = send(client, source, lambda file: beside(source, file))
    assert first.names == ("fox.safetensors", "fox.json", "fox.png") and first.file == folder / "fox.safetensors"
    assert first.file.read_bytes() == source.read_bytes() and not first.linked and first.how
    (folder / "fox-2.json").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = send(client, source, lambda file: beside(source, file))
    assert again.file.name == "fox-3.safetensors", "a sidecar is a taken name too"
    assert read_header(again.file).metadata["ss_output_name"] == "fox-3", "A1111 calls it by the name inside"
    assert json.loads((folder / "fox-3.json").read_text())["activation text"] == "ohwx fox"
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "nothing half written stays"


def test_a_link_takes_no_room(tmp_path: Path) -> None:
    source = adapter(tmp_path / "x.safetensors", ss_output_name="x")
    client = Client(kind="a1111", folder=str(program(tmp_path / "p", "a1111")))
    sent = send(client, source, lambda file: {}, link=True)
    assert sent.linked and sent.file.samefile(source)


def test_many_at_once_get_a_name_each(tmp_path: Path) -> None:
    source = adapter(tmp_path / "x.safetensors")
    client = Client(kind="comfyui", folder=str(program(tmp_path / "p", "comfyui")))

    with ThreadPoolExecutor(8) as pool:
        names = [*pool.map(lambda _: send(client, source, lambda file: {}).file.name, range(16))]
    there = [path.name for path in (tmp_path / "p/models/loras").glob("*.safetensors")]
    assert len(set(names)) == 16 and sorted(names) == sorted(there)
    assert all((tmp_path / "p/models/loras" / name).read_bytes() == source.read_bytes() for name in names)
