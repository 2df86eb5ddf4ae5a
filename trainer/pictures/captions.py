"""Captions: a text file beside each picture."""

import codecs
import re
import unicodedata
from pathlib import Path

CAPTION_SUFFIXES = (".txt", ".caption")  # the first that is there counts
MOST_LETTERS = 10_000  # of a caption: text encoders read the first few hundred, and more only makes a set slow


def caption_file(picture: Path) -> Path | None:
    """The text file beside a picture, None where there is none."""
    beside = (picture.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)
    return next((path for path in beside if path.is_file()), None)


def decode_captions(data: bytes) -> tuple[str, ...]:
    """Turn the bytes of a caption file into captions, one for each line that is not empty; see `decode_text`."""
    return tuple(line for line in map(fold, split_lines(decode_text(data))) if line)


def split_lines(text: str) -> list[str]:
    """The lines of a text; form feeds and Unicode's other separators, which `splitlines` knows too, stand in lines."""
    return re.split(r"\r\n|\r|\n", text)


def decode_text(data: bytes) -> str:
    """Turn the bytes of a text file into text without NULs; see `encoding_of`."""
    return data.decode(encoding_of(data), errors="replace").replace("\0", " ")


def encoding_of(data: bytes) -> str:
    """The encoding of a text file, by Python's name.

    UTF-8 (with or without a mark), UTF-16 with its mark (what Notepad calls "Unicode") or without one where Western
    letters show it, UTF-32 with its mark, Shift-JIS where kana show it, otherwise cp1252.
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    high, low = data[::2].count(0), data[1::2].count(0)  # a Western letter's other byte is NUL
    if len(data) % 2 == 0 and max(high, low) * 4 > len(data) and not (high and low):
        return "utf-16-be" if high else "utf-16-le"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp932" if _has_kana(data) else "cp1252"
    return "utf-8-sig"


def _has_kana(data: bytes) -> bool:
    """Whether bytes are Japanese of Windows; its kana begin with bytes that are low quotes and a florin in cp1252."""
    try:
        return any("\u3041" <= letter <= "\u30fa" for letter in data.decode("cp932"))
    except UnicodeDecodeError:
        return False


def with_trigger(caption: str, trigger: str) -> str:
    """Put the trigger word in front of a caption, unless the caption has it already.

    Only whole words count ("cat" is not in "catalogue"), in any case: CLIP's tokenizer lowers all letters.
    """
    caption, trigger = fold(caption), fold(trigger)
    if not trigger or not caption:
        return caption or trigger
    return caption if has_trigger(caption, trigger) else f"{trigger}, {caption}"


def has_trigger(caption: str, trigger: str) -> bool:
    """Return whether the whole words of `trigger`, in any case, are in a caption; both folded. "" is in every one."""
    pattern = rf"(?<!\w){re.escape(trigger)}(?!\w)"
    return not trigger or re.search(pattern, caption, flags=re.IGNORECASE) is not None


def legible(text: str) -> str:
    """Return `text` as UTF-8 can hold it: a file name may hold bytes that are no letters, JSON half a character."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def printable(text: str) -> str:
    """Return `text` as a terminal may show it: a file name may hold characters that clear it or write elsewhere."""
    return "".join("?" if unicodedata.category(letter) == "Cc" else letter for letter in legible(text))


def fold(text: str) -> str:
    """Return `text` on one line, with single spaces."""
    return " ".join(text.split())
