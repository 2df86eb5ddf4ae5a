"""Where each program keeps LoRAs and base models: a row for each, and what its own config adds.

From their sources: A1111 `modules/cmd_args.py` and `extensions-builtin/Lora/preload.py`, Forge the same with
`modules_forge/`, ComfyUI `folder_paths.py` and `utils/extra_config.py`, InvokeAI `app/services/config`.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from trainer.contract.errors import UserError

Name = Literal["a1111", "forge", "comfyui", "invokeai"]
MOST_CONFIG = 2**20  # bytes of a config file
LORA, MODEL = ("models/Lora", "models/LyCORIS"), ("models/Stable-diffusion",)
# The option of A1111's and Forge's start files -> which list of folders it comes before.
_FLAGS = {"lora-dir": "loras", "lyco-dir": "loras", "ckpt-dir": "bases", "models-dir": "", "data-dir": ""}
_FLAG = re.compile(rf"--({'|'.join(_FLAGS)})[= ]+(\"[^\"]+\"|'[^']+'|\S+)")
_EXTRA = ("extra_model_paths.yaml", "extra_models_config.yaml")  # the second is the desktop program's


class Client(BaseModel):
    """A program on this machine.

    Attributes:
        kind: which one.
        folder: where it is.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Name
    folder: str

    @property
    def title(self) -> str:
        """Its name, for people."""
        return LAYOUTS[self.kind].title

    @property
    def root(self) -> Path:
        """Its folder as a path."""
        return Path(self.folder).expanduser()


@dataclass(frozen=True)
class Folders:
    """Where a program looks for models, in its order; not all of them need be there.

    Attributes:
        loras: adapters; the first is where a file is put.
        bases: checkpoints and diffusers folders.
    """

    loras: tuple[Path, ...]
    bases: tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """A kind of program.

    Attributes:
        title: its name.
        marks: it is this one where all of one of these rows are in its folder.
        loras, bases: its own folders, within its own.
        more: what its configs add.
        how: what to do there with a file that was sent; `{name}` and `{folder}` are filled in.
    """

    title: str
    marks: tuple[tuple[str, ...], ...]
    loras: tuple[str, ...]
    bases: tuple[str, ...]
    more: Callable[[Path, Folders], Folders]
    how: str


def folders(client: Client) -> Folders:
    """Where a program looks for models."""
    layout, root = LAYOUTS[client.kind], client.root
    own = Folders(tuple(root / one for one in layout.loras), tuple(root / one for one in layout.bases))
    found = layout.more(root, own)
    return Folders(tuple(dict.fromkeys(found.loras)), tuple(dict.fromkeys(found.bases)))


def recognise(folder: Path) -> Client | None:
    """The program whose folder this is, or that is one step below it, as portable packages have it."""
    for place in (folder, folder / "ComfyUI", folder / "webui"):
        for kind, layout in LAYOUTS.items():
            if any(all((place / mark).exists() for mark in row) for row in layout.marks):
                return Client(kind=kind, folder=str(place))
    return None


def named(text: str) -> Client:
    """The program in a folder that somebody typed.

    Raises:
        UserError: there is none that is known.
    """
    known = ", ".join(layout.title for layout in LAYOUTS.values())
    fix = f"Give the folder that holds {known}: the one with webui.py, main.py or invokeai.yaml in it."
    try:
        folder = Path(text.strip().strip('"')).expanduser()
        found = recognise(folder.resolve()) if text.strip() and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError("this is no folder", text[:200], fix) from error
    if found is None:
        there = "there is no such folder" if not folder.is_dir() else "no program that is known here is in this folder"
        raise UserError(there, text[:200], fix)
    return found


def _webui(root: Path, own: Folders) -> Folders:
    """What the start file of A1111 or Forge says of other folders."""
    found: dict[str, list[Path]] = {"loras": [], "bases": []}
    for line in _lines(root / "webui-user.sh", root / "webui-user.bat"):
        for flag, value in _FLAG.findall(line):
            place = root / Path(os.path.expandvars(value.strip("\"'"))).expanduser()
            if _FLAGS[flag]:
                found[_FLAGS[flag]].append(place)
            else:  # other homes of the whole tree
                models = place / "models" if flag == "data-dir" else place
                found["loras"] += [models / Path(one).name for one in LORA]
                found["bases"] += [models / Path(one).name for one in MODEL]
    return Folders((*found["loras"], *own.loras), (*found["bases"], *own.bases))


def _lines(*files: Path) -> Iterator[str]:
    for file in files:
        for line in _text(file).splitlines():
            if not line.lstrip().lower().startswith(("#", "rem ", "::")):
                yield line


def _comfyui(root: Path, own: Folders) -> Folders:
    """What `extra_model_paths.yaml` adds: a base path and folders in it; those that are the default come first."""
    found = own
    for file in (root / name for name in _EXTRA):
        for group in _yaml(file).values():
            if isinstance(group, dict):
                found = _with_group(found, file.parent, group)
    return found


def _with_group(found: Folders, beside: Path, group: dict[str, Any]) -> Folders:
    base = beside / _expanded(str(group.get("base_path") or ""))
    loras, bases = (
        tuple(base / _expanded(line.strip()) for key in keys for line in str(group.get(key) or "").splitlines() if line)
        for keys in (("loras",), ("checkpoints", "diffusers"))
    )
    if group.get("is_default") is True:
        return Folders((*loras, *found.loras), (*bases, *found.bases))
    return Folders((*found.loras, *loras), (*found.bases, *bases))


def _expanded(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()


def _invokeai(root: Path, own: Folders) -> Folders:
    """It keeps what it installed by itself in one place, told apart by what is in the files."""
    said = _yaml(root / "invokeai.yaml").get("models_dir")
    models = root / _expanded(said) if isinstance(said, str) and said else root / "models"
    auto = root / "autoimport" / "lora"  # of version 3: what is put there is taken in
    first = auto if auto.is_dir() else root / "loras"
    return Folders((first, models), (models,))


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_text(file))
    except yaml.YAMLError:
        return {}  # the program itself will say so
    return content if isinstance(content, dict) else {}


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(MOST_CONFIG)
    except OSError:
        return ""


_PASTE = "Paste the words into the prompt; Refresh in its Lora tab shows the file."
LAYOUTS: dict[Name, Layout] = {  # Forge's folder also looks like A1111's
    "forge": Layout("Forge", (("webui.py", "modules_forge"),), LORA, MODEL, _webui, _PASTE),
    "a1111": Layout("A1111", (("webui.py", "modules/sd_models.py"),), LORA, MODEL, _webui, _PASTE),
    "comfyui": Layout(
        "ComfyUI",
        (("main.py", "folder_paths.py", "comfy"), ("models/loras", "custom_nodes")),
        ("models/loras",),
        ("models/checkpoints", "models/diffusers"),
        _comfyui,
        "Press R, then choose {name} in a Load LoRA node; of the words, the prompt takes those after the brackets.",
    ),
    "invokeai": Layout(
        "InvokeAI",
        (("invokeai.yaml",), ("databases/invokeai.db", "models")),
        (),
        (),
        _invokeai,
        "In its Model Manager choose Scan Folder, paste {folder}, and install it in place.",
    ),
}
