"""JPEG files without their metadata, the coded picture untouched (ITU-T T.81, annex B)."""

import re

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
_COMMENT = 0xFE
_APPS = range(0xE0, 0xF0)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in coded data 0xFF stands before 0 or a restart only


def strip_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG file without EXIF, XMP, profiles, comments, thumbnails and whatever follows its end.

    What tells the kind of colours stays: the JFIF and the Adobe segment.

    Returns:
        The file; None where its segments are not in order.
    """
    if not data.startswith(_START):
        return None
    kept, at = [_START], len(_START)
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _END[1]:
            return b"".join((*kept, _END))
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            found = _END_OF_SCAN.search(data, end)
            end = found.start() if found else len(data) + 1
        if end < at + 4 or end > len(data):
            return None
        kept.append(_kept(marker, data[at:end]))
        at = end
    return None


def _kept(marker: int, segment: bytes) -> bytes:
    body = segment[4:]
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return segment[:2] + b"\0\x10" + body[:12] + b"\0\0"  # no thumbnail
    if marker == 0xEE and body.startswith(b"Adobe"):
        return segment
    return b"" if marker in _APPS or marker == _COMMENT else segment
