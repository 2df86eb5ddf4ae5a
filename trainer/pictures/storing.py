"""What a worker does with one picture: read it, decode it, keep a clean copy under the name of its content.

`python -P -m trainer.pictures.storing` is such a worker; see `trainer.pictures.sandbox`.
"""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image, ImageColor

from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.names import identity
from trainer.pictures.buckets import is_alike
from trainer.pictures.decode import MAX_FILE_BYTES, Colour, Decoded, decode, decode_picture, read_bytes
from trainer.pictures.jpeg import strip_jpeg
from trainer.pictures.sandbox import serve

# Lossy in practice: as PNG a phone's HEIC would grow tenfold.
_LOSSY = frozenset(("JPEG", "MPO", "HEIF", "AVIF"))
_JPEG_SIDE = 65_500  # what libjpeg can write
_LARGE = 30_000_000  # pixels; above, packing takes half the time where only runs are sought

Place = Sequence[str | int | None]  # a path, and the number of a member where that is a zip


class Job(TypedDict):
    """One picture to store.

    Attributes:
        place: where its file is.
        mask: where its mask is, None for none.
        name: what to call it in a reason.
        folder: of the set.
        background: "#rrggbb" behind transparent parts.
        copy: False leaves the picture where it is and looks at it only.
    """

    place: Place
    mask: Place | None
    name: str
    folder: str
    background: str
    copy: bool


def store(job: Job) -> dict[str, Any]:
    """Store one picture and its mask.

    Returns:
        {"reason": sentence} where it cannot be read; otherwise `size`, `mask` (path in the set or None), `notes`
        (sentences), and with a copy `id` and `file` (path in the set).

    Raises:
        UserError: the set cannot be written to.
    """
    background: Colour = ImageColor.getrgb(job["background"])[:3]
    try:
        data = read_place(job["place"])
        found = decode(data, job["name"], background)
    except UserError as error:
        return {"reason": f"{error.problem} {error.fix}"}
    folder = Path(job["folder"])
    notes = ["Only the first of its frames or pages was taken."] if found.several else []
    if found.divisor > 1:
        notes.append(f"It is very large, so it is used at 1/{found.divisor} of its size.")
    answer: dict[str, Any] = {"size": found.picture.size, "notes": notes, "mask": None}
    beside = _read_mask(job["mask"], found.picture.size, notes)
    alpha = found.alpha if beside is None and job["copy"] else None  # where it stays, training reads it from there
    mask, shape = beside or alpha, ""
    if mask is not None:
        shape, answer["mask"] = _keep(folder, "masks", ".png", _png(mask))
    if job["copy"]:
        suffix, blob = encode(data, found)
        name, answer["file"] = _keep(folder, "pictures", suffix, blob)
        answer["id"] = identity(f"{name}/{shape}") if alpha else name  # unlike only in alpha is unlike
    return answer


def encode(data: bytes, found: Decoded) -> tuple[str, bytes]:
    """The file that a copy is kept in: JPEG for what was lossy before, PNG for the rest, never with metadata.

    Args:
        data: the file that the picture came from. A JPEG is not coded again where it can stay as it is.
        found: the picture.

    Returns:
        Suffix and bytes.
    """
    picture = found.picture
    if picture.format not in _LOSSY or max(picture.size) > _JPEG_SIDE:
        return ".png", _png(picture)
    if found.plain and (stripped := strip_jpeg(data)) and _shows(stripped, picture):
        return ".jpg", stripped
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)  # full colour resolution: edges of drawings stay clean
    return ".jpg", file.getvalue()


def read_place(place: Place, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a file, or a member of a zip.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    path, member = Path(str(place[0])), place[1]
    if member is None:
        return read_bytes(path, limit)
    archive = _open_zip(path)
    members = archive.infolist()
    if int(member) >= len(members):
        raise UserError("The zip is another one by now.", str(path), "Import it again.")
    return read_member(archive, members[int(member)], limit)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Read a member of a zip; never is more read than `limit`, because the size that a zip states can be a lie.

    Raises:
        UserError: it is damaged, locked or too large.
    """
    data = read_part(archive, info, limit + 1)
    if len(data) > limit:
        raise UserError(f"It unpacks to more than {limit // 2**20} MiB.", info.filename, "Import it by itself.")
    return data


def read_part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: int) -> bytes:
    """Read the first `count` bytes of a member of a zip.

    Raises:
        UserError: it is damaged or locked.
    """
    fix = "Pack or download it again."
    try:
        with archive.open(info) as file:
            return file.read(count)
    except NotImplementedError as error:
        raise UserError(f"It is packed in a way that is not known here ({error}).", info.filename, fix) from error
    except RuntimeError as error:  # what zipfile raises where a password is needed
        raise UserError("The zip has a password.", info.filename, "Unpack it and import the folder.") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError) as error:
        reason = str(error) or "it breaks off"
        raise UserError(f"This part of the zip is damaged ({reason}).", info.filename, fix) from error


@lru_cache(maxsize=1)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """The list of a large zip takes long to read; the jobs of one come one after another."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"The zip cannot be read any more ({error}).", str(path), "Import it again.") from error


def _shows(data: bytes, picture: Image.Image) -> bool:
    """Whether a file decodes to just this picture."""
    try:
        return decode_picture(data, "").tobytes() == picture.tobytes()
    except UserError:
        return False


def _read_mask(place: Place | None, size: tuple[int, int], notes: list[str]) -> Image.Image | None:
    """The mask beside a picture, grey and of its size; None and a note where there is none that fits."""
    if place is None:
        return None
    try:
        mask = decode_picture(read_place(place), "").convert("L")
    except UserError as error:
        notes.append(f"Its mask was not used. {error.problem}")
        return None
    if not is_alike(mask.size, size):
        notes.append(f"Its mask was not used: {mask.width} x {mask.height} is not the picture's shape.")
        return None
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    if picture.width * picture.height > _LARGE:
        picture.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    else:  # a third of the default's time for a few per cent more bytes
        picture.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _keep(folder: Path, room: str, suffix: str, data: bytes) -> tuple[str, str]:
    """Write a file under the name of its content, unless it is there; returns that name and the path in the set."""
    name = identity(data)
    file = f"{room}/{name[:2]}/{name}{suffix}"
    path = folder / file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomic(path, data)
        except UserError as error:
            fix = "Make room or choose another place, then import again."
            raise UserError(error.problem, error.where, fix) from error
    return name, file


if __name__ == "__main__":
    serve(store)  # type: ignore[arg-type]
