"""A wheel carries the presets, the embedded base and the sample pictures, and finds them where it is installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_is_complete(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    for part in (
        "presets/demo/style.toml",
        "presets/demo/base/model_index.json",
        "presets/demo/base/tokenizer/vocab.json",
    ):
        assert part in names
    assert any(name.startswith("presets/demo/base/unet/") and name.endswith(".safetensors") for name in names)
    assert sum(name.startswith("presets/demo/style/") and name.endswith(".png") for name in names) >= 15
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "outputs/"))]
    code = (
        "from trainer.contract.home import demo_folder; from trainer.contract.presets import presets; "
        "assert (demo_folder() / 'base' / 'model_index.json').is_file(), demo_folder(); "
        "assert {'style', 'subject'} <= set(presets('demo')); print(demo_folder())"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "site")
