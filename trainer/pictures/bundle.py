"""Everything that belongs to an adapter file, in one zip: to be unpacked where a program keeps its LoRAs."""

import base64
import binascii
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from trainer.contract.amendments import config_now
from trainer.contract.files import replace_atomic
from trainer.contract.rundir import RunDir, run_of
from trainer.contract.shots import Shot, cover_of, sheet_at
from trainer.formats.header import read_header
from trainer.formats.sidecar import cover_parameters, sidecar
from trainer.pictures.sheet import table

BESIDE = (".png", ".jpg", ".jpeg", ".webp")
LARGEST_COVER = 8192 * 8192  # pixels; a small file can say that it is of any size


class Cover(NamedTuple):
    """A picture and its `parameters` text, "" where it has none."""

    image: Image.Image
    text: str


def write_bundle(file: Path, target: Path) -> list[str]:
    """Write `NAME.safetensors`, `NAME.json`, `NAME.png` and `NAME-samples.png` into a zip; return their names.

    The picture is left out where there is none, the sheet where the file is of no run or the run drew none. The same
    file gives the same bytes.

    Args:
        file: an adapter file, of a run or from elsewhere.
        target: the zip.

    Raises:
        UserError: it is no sound safetensors file, or the zip cannot be written.
    """
    run, shots = _shots(file)
    content = {f"{file.stem}{suffix}": data for suffix, data in beside(file, file).items()}
    if run is not None and shots:
        content[f"{file.stem}-samples.png"] = _sheet(run, shots)
    replace_atomic(target, lambda temporary: _pack(temporary, file, content))
    return [file.name, *content]


def beside(source: Path, file: Path) -> dict[str, bytes]:
    """Suffix -> content of what lies beside an adapter file for other programs: `.json`, and `.png` of its cover.

    Args:
        source: the file as it is here; of a run, where it lies there.
        file: the same under the name that it has or gets elsewhere.

    Raises:
        UserError: it is no sound safetensors file.
    """
    content = {".json": json.dumps(sidecar(file), ensure_ascii=False, indent=2).encode(errors="replace")}
    run, shots = _shots(source)
    picture = (_drawn(run, file, shots) if run is not None else None) or kept_cover(source)
    if picture is not None:
        content[".png"] = _png(picture.image, picture.text)
    return content


def _shots(file: Path) -> tuple[RunDir | None, list[Shot]]:
    """The run that a file is of, and the samples of its step."""
    run = run_of(file)
    step = read_header(file).metadata.get("ss_steps", "") if run is not None else ""
    return run, sheet_at(run, int(step)) if run is not None and step.isdecimal() else []


def _pack(target: Path, file: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:  # stored: weights and pictures do not get smaller
        with file.open("rb") as source, archive.open(zipfile.ZipInfo(file.name), "w", force_zip64=True) as packed:
            while block := source.read(2**20):
                packed.write(block)
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def _drawn(run: RunDir, file: Path, shots: Sequence[Shot]) -> Cover | None:
    shot = cover_of(shots)
    if shot is None:
        return None
    with Image.open(shot.file) as image:
        return Cover(image.convert("RGB"), cover_parameters(run, file, shot, image.size))


def kept_cover(file: Path) -> Cover | None:
    """A picture beside the file, or in it."""
    for path in map(file.with_suffix, BESIDE):
        if path.is_file() and (cover := _opened(path.read_bytes())):
            return cover
    return inner_cover(file)


def inner_cover(file: Path) -> Cover | None:
    """A picture in the file: A1111's list, or ModelSpec's thumbnail. Raises UserError where it is not sound."""
    metadata = read_header(file).metadata
    try:
        pictures = json.loads(metadata.get("ssmd_cover_images", "[]"))
        text = pictures[0] if pictures else metadata.get("modelspec.thumbnail", "").partition("base64,")[2]
        return _opened(base64.b64decode(text)) if text else None
    except (
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
        binascii.Error,
    ):  # another program's own form: a picture less
        return None


def _opened(data: bytes) -> Cover | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > LARGEST_COVER:
                return None
            return Cover(image.convert("RGB"), str(image.info.get("parameters", "")))
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ):  # no picture, or a broken one
        return None


def _sheet(run: RunDir, shots: Sequence[Shot]) -> bytes:
    """The samples as a table. Private captions are no headings: some prompts are captions."""
    rows = list(dict.fromkeys((shot.seed, shot.prompt) for shot in shots))
    strengths = [("strength", f"{shot.strength:g}") for shot in shots if shot.seed == shots[0].seed]
    private = not config_now(run).export.captions
    prompts = tuple(f"prompt {number}" if private else prompt for number, (_, prompt) in enumerate(rows, 1))
    images = []
    for shot in shots:
        with Image.open(shot.file) as image:
            images.append(image.convert("RGB"))
    return _png(table(images, prompts, strengths), "")


def _png(image: Image.Image, text: str) -> bytes:
    about, buffer = PngInfo(), io.BytesIO()
    if text:
        about.add_text("parameters", text)
    image.save(buffer, "PNG", pnginfo=about)
    return buffer.getvalue()
