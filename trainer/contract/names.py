"""Names that every client, file system and prompt takes, and names made of content."""

import hashlib
import re
import unicodedata

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|none", re.IGNORECASE)  # Windows; "none" is A1111's
_NAME_LENGTH = 100


def safe_name(text: str) -> str:
    """Turn any text into a name of `[A-Za-z0-9_.-]`, the letters that Civitai, file systems and prompts all take.

    Accents are dropped, everything else foreign becomes "-". Never empty, hidden, or reserved by Windows or A1111;
    where no letter is left the name is made from a hash, so that different texts stay different.
    """
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", "".join(letters)).strip("-.")[:_NAME_LENGTH].rstrip("-.")
    if not name.strip("_"):
        return f"lora-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}" if text.strip() else "lora"
    return f"lora-{name}" if _RESERVED.fullmatch(name) else name


def identity(content: str | bytes) -> str:
    """The 32 hex digits that a picture of a set is known by: of SHA-256 over its content, or over where it lies."""
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:32]
