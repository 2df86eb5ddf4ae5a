"""The header of a safetensors file: read with limits, rewritten without touching the tensors, hashed.

Layout (safetensors README, "Format"): 8 bytes little-endian length N, N bytes of JSON, then the tensors' bytes.
Only this header is read; no file is ever unpickled.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from trainer.contract.errors import UserError

MAX_HEADER_BYTES = 25_000_000  # the reference implementation takes 100 MB; the largest we know of have 2
MAX_TENSORS = 50_000  # the largest checkpoints have some thousands, adapters of all layers of SDXL 12 000
MAX_MARKS = 700_000  # commas and brackets of a header, so that a small file cannot ask for gigabytes of objects
MAX_SIDES = 8  # of a shape; torch's own layers need 5
MAX_NUMBERS = 2**48  # of a tensor, empty sides aside: one of a shape [0, 2**62] cannot be made by anybody
LEGACY_OFFSET, LEGACY_LENGTH = 0x100000, 0x10000
SHOWN = 120  # signs of a name
PICKLE_SUFFIXES = frozenset((".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"))

_OTHER_FILES = {  # by the first 8 bytes, small letters
    b"<!doct": "a web page: a download that needed a login, or a link to the wrong address",
    b"<html": "a web page: a download that needed a login, or a link to the wrong address",
    b"version ": "a pointer to a file in Git LFS: fetch the file itself",
    b"gguf": "a GGUF file",
}
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the header describes it.

    Attributes:
        dtype: the format's own name, such as "F16".
        shape: sizes, outermost first; () for a single number.
        offsets: (begin, end) in bytes, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]


@dataclass(frozen=True)
class Header:
    """What stands before the tensors.

    Attributes:
        metadata: free text by name; {} where there is none.
        tensors: by name, in the order of their bytes.
        body_start: bytes from the start of the file to the first tensor.
    """

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    body_start: int


def refuse_pickle(path: Path) -> None:
    """Refuse a file that only pickle could read, by its suffix or by its first bytes.

    Raises:
        UserError: it is such a file.
    """
    suspect = path.suffix.lower() in PICKLE_SUFFIXES
    if not suspect and path.is_file():
        with path.open("rb") as file:
            suspect = _is_pickle(file.read(8))
    if suspect:
        raise _pickle(str(path))


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; the tensors are not read.

    Raises:
        UserError: the file is missing, is a pickle, or is not sound safetensors.
    """
    with open_tensors(path) as (_, header):
        return header


def header_text(path: Path) -> bytes:
    """Read the header of a safetensors file as it stands there: its length is checked, what it says is not.

    Raises:
        UserError: the file is missing, is a pickle, or does not begin as safetensors does.
    """
    with _opened(path) as file:
        return _header_text(file, os.fstat(file.fileno()).st_size, str(path))


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
    """Open a safetensors file for reading and check its header; tensors read from that file are those of the header.

    Raises:
        UserError: the file is missing, is a pickle, or is not sound safetensors.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        yield file, _parse(_header_text(file, size, str(path)), size, str(path))


def _opened(path: Path) -> BufferedReader:
    name = str(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise _pickle(name)
    try:
        # Before it is opened: to open a pipe waits for somebody to write into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError("This is no file.", name, "Give the path of a .safetensors file.")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it
        fix = "Check that the file is there and that you may read it."
        raise UserError(
            f"The file could not be read ({getattr(error, 'strerror', None) or error}).", name, fix
        ) from error


def parse_header(blob: bytes, name: str = "safetensors data") -> Header:
    """Read and check the header of a safetensors file that is in memory.

    Raises:
        UserError: the bytes are not sound safetensors.
    """
    length = _header_length(blob[:8], len(blob), name)
    return _parse(blob[8 : 8 + length], len(blob), name)


def with_metadata(blob: bytes, metadata: dict[str, str]) -> bytes:
    """Return the same safetensors file with its metadata replaced; not a byte of the tensors changes.

    The result depends on nothing but the arguments: names are sorted, tensors keep their order. The header begins
    `{"`, which A1111 asks for, and is padded with spaces so that the tensors stay aligned to 8 bytes.

    Raises:
        UserError: `blob` is not sound safetensors, or the metadata is too large.
    """
    header = parse_header(blob)
    return b"".join((_written(header, metadata), memoryview(blob)[header.body_start :]))


def _written(header: Header, metadata: dict[str, str]) -> bytes:
    """What stands before the tensors. Raises UserError where that is too much."""
    content: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for name, info in header.tensors.items():
        content[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": list(info.offsets)}
    # Half a surrogate pair, as broken captions have them, is no UTF-8 and would make the file unreadable.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        fix = "Use a smaller cover picture, or leave the captions out."
        raise UserError(f"The metadata has {len(text)} bytes; at most {MAX_HEADER_BYTES} fit.", "metadata", fix)
    return len(text).to_bytes(8, "little") + text


def body_sha256(source: Path | bytes) -> str:
    """Return the SHA-256 (64 hex digits) of all bytes after the header: AutoV3, `sshs_model_hash`.

    Metadata can change without changing it, so it names the weights. Of a file the length of the header is checked,
    what it says is not.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(memoryview(source)[parse_header(source).body_start :]).hexdigest()
    with _opened(source) as file:
        length = _header_length(file.read(8), os.fstat(file.fileno()).st_size, str(source))
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of the whole file; its first 10 digits are AutoV2."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(path: Path) -> str:
    """Return AutoV1, the 8 hex digits that web UIs called a checkpoint by at first: 64 KiB at 1 MiB."""
    with path.open("rb") as file:
        file.seek(LEGACY_OFFSET)
        return hashlib.sha256(file.read(LEGACY_LENGTH)).hexdigest()[:8]


def legacy_hash(blob: bytes) -> str:
    """Return `sshs_legacy_hash`: 8 hex digits over 64 KiB at 1 MiB, of a copy with `ss_` metadata only.

    As kohya's sd-scripts do (`precalculate_safetensors_hashes`), so that storing the hash does not change it. A file
    of up to 1 MiB has no such part, and all of them share the hash of nothing.
    """
    header = parse_header(blob)
    before = _written(header, {key: value for key, value in header.metadata.items() if key.startswith("ss_")})
    end, start = LEGACY_OFFSET + LEGACY_LENGTH, header.body_start - len(before)  # where the copy would begin
    part = before[LEGACY_OFFSET:end] + blob[max(header.body_start, start + LEGACY_OFFSET) : max(0, start + end)]
    return hashlib.sha256(part).hexdigest()[:8]


def _header_text(file: BinaryIO, size: int, name: str) -> bytes:
    length = _header_length(file.read(8), size, name)
    text = file.read(length)
    if len(text) < length:
        raise _unsound(name, "it became shorter while it was read")
    return text


def _is_pickle(start: bytes) -> bool:
    """Whether a file begins as torch.save's do: a zip, before torch 1.6 a bare pickle, of protocol 2 or later."""
    # As the length of a header, what follows in a pickle would be far too much.
    bare = start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return start.startswith(b"PK\x03\x04") or (bare and int.from_bytes(start[:8], "little") > MAX_HEADER_BYTES)


def _pickle(name: str) -> UserError:
    problem = "This is a pickle file, and loading one can run any program hidden in it; none is ever loaded."
    fix = "Get the .safetensors version, or convert it on a machine that holds nothing of worth."
    return UserError(problem, name, fix)


def _header_length(start: bytes, size: int, name: str) -> int:
    if len(start) < 8:
        raise _unsound(name, f"it has only {size} bytes")
    if _is_pickle(start):
        raise _pickle(name)
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER_BYTES:
        what = next((what for begins, what in _OTHER_FILES.items() if start.lstrip().lower().startswith(begins)), "")
        reason = f"the length of a header that it begins with is {length:,}, and {MAX_HEADER_BYTES:,} are never needed"
        raise _unsound(name, f"it is {what}" if what else reason)
    if length < 2 or 8 + length > size:
        raise _unsound(name, f"a header of {length} bytes is announced in a file of {size}: it may be cut off")
    return length


def _parse(text: bytes, size: int, name: str) -> Header:
    marks = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if marks > MAX_MARKS or text.count(b'"data_offsets"') > MAX_TENSORS:
        raise _unsound(name, f"its header lists more than {MAX_TENSORS:,} tensors or as much else")
    try:
        content = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
        if rb"\ud" in text or rb"\uD" in text:  # half a surrogate pair is no text, and cannot be printed or sent either
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _unsound(name, f"its header is not JSON ({shown(str(error))})") from None  # the error holds all of it
    if not isinstance(content, dict) or text[:1] != b"{":  # what stands before it, the format forbids
        raise _unsound(name, "its header is not a JSON object")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _unsound(name, "its metadata is not text by name")
    tensors = {key: _tensor(key, value, name) for key, value in content.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1].offsets))
    body_start = 8 + len(text)
    _check_offsets(ordered, size - body_start, name)
    return Header(metadata, ordered, body_start)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice: readers differ in which one they take, and a file could hide behind that."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name comes twice")
    return content


def _no_number(word: str) -> None:
    """Refuse NaN and Infinity, which are Python's own: other readers of the format stop at them."""
    raise ValueError(f"{word} is not a number")


def _tensor(key: str, value: object, name: str) -> TensorInfo:
    entry = value if isinstance(value, dict) else {}
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if isinstance(dtype, str) and _whole_numbers(shape) and _whole_numbers(offsets) and len(offsets) == 2:
        if len(shape) > MAX_SIDES:
            raise _unsound(name, f"tensor '{shown(key)}' has {len(shape):,} sides")
        if math.prod(side or 1 for side in shape) > MAX_NUMBERS:
            raise _unsound(name, f"tensor '{shown(key)}' has a size that its shape does not give")
        return TensorInfo(dtype, tuple(shape), (offsets[0], offsets[1]))
    raise _unsound(name, f"the entry of tensor '{shown(key)}' is not dtype, shape and offsets")


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_offsets(tensors: dict[str, TensorInfo], body: int, name: str) -> None:
    """Tensors must fill the rest of the file without gap or overlap, as the reference implementation demands."""
    place = 0
    for key, info in tensors.items():
        begin, end = info.offsets
        if begin != place or end < begin:
            raise _unsound(name, f"tensor '{shown(key)}' leaves a gap or overlaps another")
        bits = _DTYPE_BITS.get(info.dtype)  # a type newer than this list is let through: its size is not known
        if bits is not None and math.prod(info.shape) * bits != (end - begin) * 8:
            raise _unsound(name, f"tensor '{shown(key)}' has a size that its shape does not give")
        place = end
    if place != body:
        raise _unsound(name, f"its tensors need {place} bytes and {body} are there: it may be cut off")


def shown(text: str, limit: int = SHOWN) -> str:
    """A name from a file, safe to print: short, and without signs that move the cursor or hide what stands there."""
    safe = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text[:limit])
    return safe + "..." * (len(text) > limit)


def _unsound(name: str, reason: str) -> UserError:
    return UserError(f"This is not a sound safetensors file: {reason}.", name, "Download or export it again.")
