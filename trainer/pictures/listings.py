"""Captions of many pictures in one file: `metadata.jsonl`, `captions.csv` and their kin."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from trainer.pictures.captions import decode_text, fold, legible, split_lines
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

    JSON lines have an object each (a list of objects will do as well), the other kinds a first line with the names of
    their columns: one of `FILE_COLUMNS`, one of `TEXT_COLUMNS`. Columns are parted by comma, semicolon, tab or bar,
    whichever fits. Without such a first line, the first column is the file where it looks like one.

    A caption in the last column may hold the delimiter without quotes. Where a quote is not closed, each line is a row.

    Returns:
        The lines, none where the file is about something else.
    """
    text = decode_text(data)
    return list(_json_lines(text) if name.lower().endswith(".jsonl") else _table_lines(text))


def _json_lines(text: str) -> Iterator[Line]:
    whole = _parsed(text)
    if isinstance(whole, dict | list):  # not lines, but one object written over several of them, or a list of objects
        for number, entry in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield _line(number, entry)
        return
    for number, line in enumerate(split_lines(text), start=1):
        if line.strip():
            yield _line(number, _parsed(line))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table_lines(text: str) -> Iterator[Line]:
    found = next(filter(None, (_columns(text, delimiter) for delimiter in _DELIMITERS)), None)
    if found is None:
        return
    delimiter, columns, headed = found
    file = columns.index(_first(columns, FILE_COLUMNS))
    rows = _rows(text, delimiter)
    if any(_swallowed(row, delimiter, file) for _, row in rows):
        lines = enumerate(split_lines(text), start=1)
        rows = [(number, row) for number, line in lines for _, row in _rows(line, delimiter)]
    for index, (number, row) in enumerate(rows):
        if row and (index or not headed):
            yield _line(number, _cells(columns, row, delimiter))


def _rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows of a table with their numbers; one without cells but for its text where that is too long for a cell."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, row) for row in reader)
    except csv.Error:
        rows.append((reader.line_num, [text]))
    return rows


def _swallowed(row: Sequence[str], delimiter: str, file: int) -> bool:
    """Whether a cell holds rows: then a quote was not closed, and the cell went on to the next one."""
    starts = (line.split(delimiter) for cell in row for line in split_lines(cell)[1:])
    return any(len(cells) > max(1, file) and _is_picture(cells[file]) for cells in starts)


def _cells(columns: Sequence[str], row: Sequence[str], delimiter: str) -> Mapping[str, Any]:
    """A row's cells by their columns; nothing where there are more of them and the caption is not the last."""
    wide = len(row)
    while wide > len(columns) and not row[wide - 1].strip():
        wide -= 1
    row = row[:wide]
    if len(row) > len(columns):
        last = len(columns) - 1
        if columns[last] not in TEXT_COLUMNS:
            return {}
        row = [*row[:last], delimiter.join(row[last:])]
    return dict(zip(columns, row, strict=False))


def _is_picture(cell: str) -> bool:
    return PurePosixPath(cell.strip().strip('"')).suffix.lower() in PICTURE_SUFFIXES


def _columns(text: str, delimiter: str) -> tuple[str, Sequence[str], bool] | None:
    """The delimiter, the columns' names and whether the first line has them; None where that delimiter does not fit."""
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return None
    names = [fold(cell).casefold() for cell in first]
    if _first(names, FILE_COLUMNS) and _first(names, TEXT_COLUMNS):
        return delimiter, names, True
    if len(first) > 1 and _is_picture(first[0]):
        return delimiter, (FILE_COLUMNS[0], TEXT_COLUMNS[0]), False
    return None


def _line(number: int, entry: Any) -> Line:
    if not isinstance(entry, Mapping):
        return Line(number, None)
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
    return legible(text.replace("\0", " "))
