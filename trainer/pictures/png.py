"""PNG files without what may be wrong beside the picture (W3C PNG, third edition, section 5)."""

import zlib

_START = b"\x89PNG\r\n\x1a\n"
_PICTURE = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_TURN = b"eXIf"


def bare_png(data: bytes) -> bytes | None:
    """Return a PNG file with its first picture only: no texts, profile, time, or further frames.

    What says how the picture lies stays where its check sum is right.

    Returns:
        The file; None where it is no PNG, or nothing was beside its picture.
    """
    if not data.startswith(_START):
        return None
    kept, at = [_START], len(_START)
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunk = data[at : at + 12 + length]
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind in _PICTURE or (kind == _TURN and whole):
            kept.append(chunk)
        at += len(chunk)
    return b"".join(kept) if sum(map(len, kept)) < len(data) else None
