"""What a file's metadata says, in the forms that clients read it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from trainer.formats.clients.sheet import Sheet

TAGS_SHOWN = 24
_CIVITAI_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


def parsed(metadata: Mapping[str, str], key: str) -> Any:
    """A JSON value in the metadata; None where there is none or it is broken."""
    try:
        return json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError):
        return None


def tags(sheet: Sheet) -> tuple[str, ...]:
    """Captions' tags of all folders, the most frequent first, as A1111 and Forge show them."""
    folders = parsed(sheet.metadata, "ss_tag_frequency")
    counts: dict[str, float] = {}
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            counts[tag.strip()] = counts.get(tag.strip(), 0) + (count if isinstance(count, int | float) else 0)
    return tuple(sorted(counts, key=lambda tag: -counts[tag])[:TAGS_SHOWN])


def embedded_cover(sheet: Sheet) -> str:
    """Where A1111 and Forge take a picture from, if there is none beside the file."""
    return "ssmd_cover_images" if parsed(sheet.metadata, "ssmd_cover_images") else ""


def alias_remarks(sheet: Sheet) -> list[str]:
    """What A1111 and Forge make of the file's name: a prompt calls it by `ss_output_name`."""
    alias = sheet.metadata.get("ss_output_name", sheet.stem)
    found = []
    if alias != sheet.stem:
        found.append(f"Prompts call it <lora:{alias}:1>, not by its file name; two files of one alias are mixed up.")
    if ":" in alias:
        found.append("Its name has a colon, which ends the name in <lora:name:1>.")
    elif not _CIVITAI_NAME.fullmatch(alias):
        found.append("Its name has signs that Civitai does not read in a prompt; it takes A-Z, a-z, 0-9 and _ . -")
    return found


def hash_remarks(sheet: Sheet) -> list[str]:
    """What clients that trust the stored hash write into pictures."""
    if sheet.hash_is_true is False:
        return ["It trusts the hash that is stored in the file, which is wrong: pictures cannot be traced to it."]
    return []
