"""Where A1111, Forge, ComfyUI and InvokeAI keep their models, and that nothing outside of that is looked at."""

from pathlib import Path

import psutil
import pytest

from app.clients import finding, models
from app.clients.layouts import Client, folders, named, recognise
from tests.app.programs import MARKS, adapter, program
from trainer.contract.errors import UserError


@pytest.mark.parametrize("kind", MARKS)
def test_each_is_recognised_and_its_files_are_found(tmp_path: Path, kind: str) -> None:
    root = program(tmp_path / "p", kind)
    client = recognise(root)
    assert client == Client(kind=kind, folder=str(root))
    place = folders(client)
    adapter(place.loras[0] / "people" / "sailor.safetensors")
    adapter(place.bases[0] / "base.safetensors")
    (place.loras[0] / "old.pt").touch()
    assert "people/sailor" in [one.inside for one in models.loras(client)]
    assert [one.inside for one in models.bases(client) if "base" in one.inside] == ["base"]


def test_a_portable_package_and_what_is_none(tmp_path: Path) -> None:
    program(tmp_path / "ComfyUI_windows_portable" / "ComfyUI", "comfyui")
    assert named(f' "{tmp_path / "ComfyUI_windows_portable"}" ').title == "ComfyUI"
    for text in ("", str(tmp_path), str(tmp_path / "none"), "\0", "~nobody-of-that-name/x"):
        with pytest.raises(UserError):
            named(text)


def test_comfyui_reads_its_yaml(tmp_path: Path) -> None:
    root = program(tmp_path / "ComfyUI", "comfyui")
    (root / "extra_model_paths.yaml").write_text(
        "a111:\n    base_path: ../webui/\n    checkpoints: models/Stable-diffusion\n"
        "    loras: |\n         models/Lora\n         models/LyCORIS\n"
        f"mine:\n    base_path: {tmp_path / 'store'}\n    is_default: true\n    loras: l\nbroken: 3\n"
    )
    found = folders(Client(kind="comfyui", folder=str(root)))
    assert found.loras[0] == tmp_path / "store" / "l", "the default comes first: files are put there"
    assert [one.resolve() for one in found.loras[2:]] == [
        tmp_path / f"webui/models/{name}" for name in ("Lora", "LyCORIS")
    ]
    (root / "extra_model_paths.yaml").write_text("[: not yaml")
    assert folders(Client(kind="comfyui", folder=str(root))).loras == (root / "models/loras",)


def test_a_start_file_names_other_folders(tmp_path: Path) -> None:
    root = program(tmp_path / "webui", "forge")
    (root / "webui-user.sh").write_text(
        f'# export ARGS="--lora-dir /never"\nexport COMMANDLINE_ARGS="--xformers --lora-dir {tmp_path}/mine"\n'
    )
    (root / "webui-user.bat").write_text(f"set COMMANDLINE_ARGS=--ckpt-dir='{tmp_path}/bases' --medvram\n")
    found = folders(Client(kind="forge", folder=str(root)))
    assert (found.loras[0], found.bases[0]) == (tmp_path / "mine", tmp_path / "bases")


def test_invokeai_keeps_all_in_one_place(tmp_path: Path) -> None:
    root = program(tmp_path / "invokeai", "invokeai")
    (root / "invokeai.yaml").write_text(f"schema_version: 4.0.2\nmodels_dir: {tmp_path / 'disk'}\n")
    client = Client(kind="invokeai", folder=str(root))
    assert folders(client).bases == (tmp_path / "disk",)
    assert folders(client).loras == (root / "loras", tmp_path / "disk"), "files are not put among those it manages"


def test_links_are_followed_only_inside(tmp_path: Path) -> None:
    root = program(tmp_path / "p", "a1111")
    loras, outside = root / "models/Lora", tmp_path / "outside"
    adapter(outside / "secret.safetensors")
    adapter(loras / "mine.safetensors")
    adapter(root / "models/Stable-diffusion/kept.safetensors")
    (loras / "out").symlink_to(outside)
    (loras / "out.safetensors").symlink_to(outside / "secret.safetensors")
    (loras / "in.safetensors").symlink_to(root / "models/Stable-diffusion/kept.safetensors")
    (loras / "round").symlink_to(loras)
    found = [one.inside for one in models.loras(Client(kind="a1111", folder=str(root)))]
    assert sorted(found) == ["in", "mine"]


def test_they_are_found_where_they_usually_are_and_where_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = program(tmp_path / "home" / "AI" / "my-forge", "forge")
    running = program(tmp_path / "elsewhere", "comfyui")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(finding, "SERVERS", ())
    (running / "main.py").write_text("import time; print('up', flush=True); time.sleep(60)")
    with psutil.Popen(["python", "main.py"], cwd=running, stdout=-1) as process:
        process.stdout.readline()
        found = {client.folder for client in finding.find()}
        process.kill()
    assert {str(usual), str(running)} <= found
