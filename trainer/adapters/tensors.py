"""Tensors of a file that is open, one after the other: no more is read than is asked for."""

import math
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import torch
from torch import Tensor

from trainer.contract.errors import UserError
from trainer.formats.header import Header, shown

DTYPES = {
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
AGAIN = "Wait until it is written, and try again."


def read_tensors(file: BinaryIO, header: Header, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors of a file in float32.

    Args:
        file: as `trainer.formats.header.open_tensors` opened it.
        header: its own.
        names: of tensors of the types above, and with at least one number.

    Raises:
        UserError: the file changed meanwhile.
    """
    before = _state(file)
    for name in names:
        info = header.tensors[name]
        data = bytearray(info.offsets[1] - info.offsets[0])
        file.seek(header.body_start + info.offsets[0])
        if file.readinto(data) != len(data):
            raise UserError("the file became shorter while it was read", file.name, AGAIN)
        yield name, torch.frombuffer(data, dtype=DTYPES[info.dtype]).reshape(info.shape).float()
    if _state(file) != before:
        raise UserError("the file was written to while it was read", file.name, AGAIN)


def read_finite(file: BinaryIO, header: Header, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """As `read_tensors`, but a file of which some numbers are none is refused: it would give black pictures.

    Raises:
        UserError: there are such numbers: how many, and in which tensor the first; or the file changed meanwhile.
    """
    broken, first, values = 0, "", 0
    for name, tensor in read_tensors(file, header, names):
        values += tensor.numel()
        least, most = tensor.aminmax()  # one pass, and NaN goes through it
        if not math.isfinite(float(most) - float(least)):
            count = int((~tensor.isfinite()).sum())
            first = first or (name if count else "")
            broken += count
        yield name, tensor
    if broken:
        raise UserError(
            f"{broken:,} of its {values:,} numbers are NaN or infinite, the first in {shown(first)}: pictures would "
            "come out black",
            file.name,
            "Take an earlier checkpoint of the training, or a file in fp32.",
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether all of its numbers are some: one pass, and NaN goes through it."""
    return not tensor.numel() or all(math.isfinite(float(end)) for end in tensor.aminmax())


def _state(file: BinaryIO) -> tuple[int, int]:
    facts = os.fstat(file.fileno())
    return facts.st_mtime_ns, facts.st_size
