"""Captions of many pictures in one file: `metadata.jsonl`, `captions.csv` and their kin."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from trainer.pictures.captions import decode_text, fold
from trainer.pictures.decode import PICTURE_SUFFIXES

LISTING_SUFFIXES = (".jsonl", ".csv", ".tsv")
LISTING_NAMES = tuple(f"{stem}{suffix}" for stem in ("metadata", "captions") for suffix in LISTING_SUFFIXES)
FILE_COLUMNS = ("file_name", "file", "filename", "image", "path")
TEXT_COLUMNS = ("text", "caption", "captions", "prompt")
_DELIMITERS = (",", ";", "\t", "|")


class Line(NamedTuple):
    """What a line says of a picture; `file` is None where the line cannot be used."""

    number: int
    file: str | None
    captions: tuple[str, ...] = ()


def read_listing(name: str, data: bytes) -> list[Line]:
    """Read a file that lists pictures with captions; several lines of one picture are several captions.

    JSON lines have an object each, the other kinds a first line with the names of their columns: one of
    `FILE_COLUMNS`, one of `TEXT_COLUMNS`. Columns are parted by comma, semicolon, tab or bar, whichever fits. Without
    such a first line, the first column is the file where it looks like one.

    Returns:
        The lines, none where the file is about something else.
    """
    text = decode_text(data)
    return list(_json_lines(text.splitlines()) if name.lower().endswith(".jsonl") else _table_lines(text))


def _json_lines(lines: Iterable[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        yield _line(number, entry if isinstance(entry, dict) else {})


def _table_lines(text: str) -> Iterator[Line]:
    found = next(filter(None, (_columns(text, delimiter) for delimiter in _DELIMITERS)), None)
    if found is None:
        return
    delimiter, columns, headed = found
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for index, row in enumerate(rows):
            if row and (index or not headed):
                yield _line(rows.line_num, dict(zip(columns, row, strict=False)))
    except csv.Error:
        yield Line(rows.line_num, None)


def _columns(text: str, delimiter: str) -> tuple[str, Sequence[str], bool] | None:
    """The delimiter, the columns' names and whether the first line has them; None where that delimiter does not fit."""
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return None
    names = [fold(cell).casefold() for cell in first]
    if _first(names, FILE_COLUMNS) and _first(names, TEXT_COLUMNS):
        return delimiter, names, True
    if len(first) > 1 and PurePosixPath(first[0]).suffix.lower() in PICTURE_SUFFIXES:
        return delimiter, (FILE_COLUMNS[0], TEXT_COLUMNS[0]), False
    return None


def _line(number: int, entry: Mapping[str, Any]) -> Line:
    file, said = entry.get(_first(entry, FILE_COLUMNS)), entry.get(_first(entry, TEXT_COLUMNS))
    texts = said if isinstance(said, list) else [said]
    captions = [fold(_whole(text)) for text in texts if isinstance(text, str)]
    if not isinstance(file, str) or not file.strip() or len(captions) < len(texts):
        return Line(number, None)
    return Line(number, _whole(file).strip(), tuple(filter(None, captions)))


def _first(names: Iterable[str], wanted: Sequence[str]) -> str:
    there = set(names)
    return next((name for name in wanted if name in there), "")


def _whole(text: str) -> str:
    """Text that UTF-8 can hold: JSON may spell half a character."""
    return text.replace("\0", " ").encode("utf-8", errors="replace").decode()
