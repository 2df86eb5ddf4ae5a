"""What other programs do with an adapter, as a table of the page."""

import html
from functools import lru_cache
from pathlib import Path

from trainer.formats.clients.report import Report, report
from trainer.formats.clients.verdict import LOADS, LOSSES, Verdict

KEPT = 32  # reports; a big file is read for a second or two

_CLASSES = {LOADS: "ok", LOSSES: "warn"}


def table(path: Path, digest: str = "") -> str:
    """HTML: a row for each client, then what was measured.

    Args:
        path: of the file.
        digest: SHA-256 of its tensors, where it is known already.

    Raises:
        UserError: the file is missing, is a pickle, or is not sound safetensors.
    """
    try:
        stat = path.stat()
        found = _report(path, stat.st_mtime_ns, stat.st_size, digest)
    except OSError:
        found = report(path)  # says in words what is wrong with the file
    rows = "".join(map(_row, found.verdicts))
    lines = "".join(f"<em>{html.escape(line)}</em>" for line in (*found.notes, *found.measured()))
    title = f"In other programs, on {html.escape(found.base)}"
    return f'<div class="facts doctor conformance"><h3>{title}</h3><table>{rows}</table>{lines}</div>'


@lru_cache(KEPT)
def _report(path: Path, modified: int, size: int, digest: str) -> Report:
    return report(path, digest=digest)


def _row(verdict: Verdict) -> str:
    more = [*verdict.reasons[2:], *verdict.remarks]
    if verdict.left_out_names:
        rest = verdict.left_out - len(verdict.left_out_names)
        more.append(f"Left out: {', '.join(verdict.left_out_names)}{f' and {rest} more' if rest else ''}.")
    if verdict.triggers:
        more.append(f"Words it shows: {', '.join(verdict.triggers)}.")
    more += [f"Listed under: {verdict.listed}.", f"Rules from {verdict.source}."]
    details = "".join(f"<em>{html.escape(text)}</em>" for text in more)
    said = f"<details><summary>{html.escape(verdict.sentence)}</summary>{details}</details>"
    return (
        f'<tr class="{_CLASSES.get(verdict.outcome, "bad")}"><td class="sign">{verdict.mark}</td>'
        f"<th>{verdict.client}</th><td>{said}</td></tr>"
    )
