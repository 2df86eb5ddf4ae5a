"""The doctor of sets: what would make a set train badly, in which pictures, why it matters, and what can be done.

Each finding comes from a small function over a `Case`; a new one is a function and its place in `CHECKS`.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trainer.formats.vocabulary import Tokenizer, clip_tokenizer
from trainer.pictures import hashes, remedies
from trainer.pictures.album import Album, Entry, change, is_own, locate, open_album
from trainer.pictures.captions import caption_file, encoding_of, fold, has_trigger, with_trigger
from trainer.pictures.decode import READABLE, UNSUPPORTED
from trainer.pictures.findings import Case, Finding, Findings, Options, Severity
from trainer.pictures.listing import foreign_files
from trainer.pictures.looks import Look, look_at
from trainer.pictures.remedies import Fix
from trainer.pictures.tags import KEEP_MARK
from trainer.pictures.wording import expand, word

BLURRED = 0.5  # see `looks.sharpness`
MOST_ENLARGED = 1.1  # times; less is not seen
WIDEST = 2.5  # long side to short; buckets end at 2, so a fifth of it is cut away
FEWEST = 5
MOST_UNEVEN = 3.0  # share of the largest concept to the smallest
SAME_CAPTION = 3  # pictures
COMMON = "CLIP knows it already, so it brings its old meaning along and what you teach changes it."
COMMON_TOKENS = 40_000  # CLIP's vocabulary is in order of frequency; "sks" is number 48 136, "cat" 2 368

Check = Callable[[Case], Finding | None]


def examine(
    folder: Path, options: Options | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Findings:
    """Look at every picture and caption of a set that is not left out.

    Args:
        folder: of a set of the user's own, or a plain folder.
        options: what it is meant for.
        on_progress: called with (pictures done, pictures in all).

    Raises:
        UserError: there is no such folder, or its file is damaged.
    """
    options, album = options or Options(), open_album(folder)
    paths = {entry.id: locate(folder, entry.file) for entry in album.entries if not entry.excluded}
    looks, faults = look_at(paths, options.resolution, on_progress)
    entries = tuple(entry for entry in album.entries if entry.id in looks)
    foreign = () if is_own(folder) else tuple(foreign_files(folder))
    case = Case(folder, album, options, entries, looks, faults, foreign)
    found = [finding for check in CHECKS if (finding := check(case)) is not None]
    order: tuple[Severity, ...] = ("error", "warning", "note")
    found.sort(key=lambda finding: order.index(finding.severity))
    sizes = {name: look.size for name, look in looks.items()}
    skipped = [(paths[name], reason) for name, reason in faults.items()]
    skipped += [(path, UNSUPPORTED.format(suffix=path.suffix)) for path in foreign]
    return Findings(len(looks), len(album.entries) - len(paths), tuple(found), sizes, tuple(skipped))


def apply(folder: Path, fix: Fix) -> Album:
    """Make a fix; it can be taken back.

    Raises:
        UserError: it is a plain folder, another program has it locked, or it cannot be written.
    """
    return change(folder, fix.label, fix.how)


def _unreadable(case: Case) -> Finding | None:
    why = "A damaged picture cannot be trained on. It is passed over."
    fix = remedies.leave_out("Leave the unreadable pictures out", case.faults)
    return _finding("unreadable", "error", "Cannot be read", why, case.faults, fix)


def _exact(case: Case) -> Finding | None:
    by_digest = defaultdict[bytes, list[Entry]](list)
    for entry in case.entries:
        by_digest[case.looks[entry.id].digest].append(entry)
    groups = [_best_first(case, entries) for entries in by_digest.values() if len(entries) > 1]
    why = "A picture that is there twice is learned twice as hard. For that, repeats are the plainer way."
    return _alike(case, "duplicate", "The same file more than once", why, groups, "the same file as {name}")


def _near(case: Case) -> Finding | None:
    first = {look.digest: name for name, look in reversed(list(case.looks.items()))}
    entries = [entry for entry in case.entries if entry.id in first.values()]
    if len(entries) < 2:
        return None
    alike = hashes.find_alike(np.stack([case.looks[entry.id].thumb() for entry in entries]))
    groups = [_best_first(case, [entries[place] for place in places]) for places in alike.groups]
    mirrored = {entries[place].id for place in alike.mirrored}
    why = "Nearly equal pictures count as one that is learned twice as hard; mirrored ones too, if the run flips."
    said = dict.fromkeys(mirrored, ", mirrored")
    return _alike(case, "near_duplicate", "Look the same", why, groups, "looks like {name}", said)


def _small(case: Case) -> Finding | None:
    def say(entry: Entry, look: Look) -> str:
        width, height = look.size
        times = case.options.resolution / (width * height) ** 0.5
        return f"{width} x {height}, enlarged {times:.1f} times" if times > MOST_ENLARGED else ""

    title = f"Too small for {case.options.resolution} pixels"
    why = "Enlarged pictures teach softness. Find larger ones, or train at a lower resolution."
    value = case.each(say)
    return _finding("small", "warning", title, why, value, remedies.leave_out("Leave the small pictures out", value))


def _blurred(case: Case) -> Finding | None:
    value = case.each(lambda _, look: f"sharpness {look.sharpness:.2f}" if look.sharpness < BLURRED else "")
    why = f"Blur is learned like anything else. Sharp pictures have a sharpness of 15 and more, these below {BLURRED}."
    fix = remedies.leave_out("Leave the blurred pictures out", value)
    return _finding("blur", "warning", "Blurred, or without any detail", why, value, fix)


def _extreme(case: Case) -> Finding | None:
    def say(entry: Entry, look: Look) -> str:
        aspect = max(look.size) / min(look.size)
        return f"{aspect:.1f} : 1, {1 - 2 / aspect:.0%} is cut away" if aspect > WIDEST else ""

    why = "Shapes end at 2 : 1, so much of a longer picture is never seen. Cut it into several, or set what to keep."
    value = case.each(say)
    fix = remedies.leave_out("Leave the long pictures out", value)
    return _finding("aspect", "warning", "Very long or very tall", why, value, fix)


def _bars(case: Case) -> Finding | None:
    def say(entry: Entry, look: Look) -> str:
        named = zip(("left", "top", "right", "bottom"), look.bars, strict=True)
        return ", ".join(f"{side} {share:.0%}" for side, share in named if share)

    why = "Bars and frames are learned with the picture, and come back in what is generated. Cut them off outside."
    value = case.each(say)
    fix = remedies.leave_out("Leave the pictures with bars out", value)
    return _finding("border", "warning", "Bars or a frame around the picture", why, value, fix)


def _missing(case: Case) -> Finding | None:
    bare = [entry for entry in case.entries if not entry.captions and not _is_blank(case, entry)]
    texts = {entry.id: word((), case.wording(entry), 0, entry.id, 0) for entry in bare}
    value = {name: f"trained as “{text}”" if text else "trained with no text at all" for name, text in texts.items()}
    told = {name: text for name, text in texts.items() if text}
    why = "They are trained with the trigger and the class word, which is enough for one thing or one style."
    if len(told) < len(texts):
        why = "Without a caption, a trigger or a class word nothing calls what they show. Set a trigger."
    fixes = [remedies.write_captions("Write the trigger and class word as captions", told)] if told else []
    severity: Severity = "note" if len(told) == len(texts) else "warning"
    return _finding("missing", severity, "Without a caption", why, value, *fixes)


def _empty(case: Case) -> Finding | None:
    value = {entry.id: "an empty caption" for entry in case.entries if _is_blank(case, entry)}
    why = "An empty caption counts as none: the picture is trained with the trigger and the class word."
    return _finding("empty", "note", "With an empty caption", why, value, remedies.drop_blank(value))


def _identical(case: Case) -> Finding | None:
    taught = case.taught()
    said = {entry.id: {caption.casefold() for caption in entry.captions if caption.strip()} for entry in taught}
    for entry in taught:  # what is trained without a caption is as good as none
        said[entry.id].discard(word((), case.wording(entry), 0, entry.id, 0).casefold())
    seen = Counter(text for texts in said.values() for text in texts)
    most = {name: max(texts, key=lambda text: seen[text], default="") for name, texts in said.items()}
    value = {name: f"“{text}”, on {seen[text]} pictures" for name, text in most.items() if seen[text] >= SAME_CAPTION}
    why = "One caption for many pictures ties all that they share to its words. Describe what differs, or use none."
    texts = {entry.id: "" for entry in taught if entry.id in value and len(entry.captions) == 1}
    fix = [remedies.write_captions("Remove these captions", texts)] if texts else []
    return _finding("identical", "note", "The same caption on many pictures", why, value, *fix)


def _long(case: Case) -> Finding | None:
    room = case.options.tokens
    whole = {entry.id: [_tokens(_spoken(case, entry, caption)) for caption in entry.captions] for entry in case.entries}
    value = {name: f"{max(counts)} tokens" for name, counts in whole.items() if max(counts, default=0) > room}
    why = f"CLIP reads {room} tokens at a time; other programs cut what is behind them, and it is learned less well."
    fix = remedies.cut(value, room, lambda entry, text: _tokens(_spoken(case, entry, text)))
    return _finding("long", "note", f"Captions of more than {room} tokens", why, value, fix)


def _untriggered(case: Case) -> Finding | None:
    spoken = {entry.id: case.wording(entry).trigger for entry in case.taught()}
    value = {
        entry.id: f"“{spoken[entry.id]}” is not in it"
        for entry in case.taught()
        if not all(has_trigger(fold(caption), spoken[entry.id]) for caption in entry.captions if caption.strip())
    }
    why = "Training puts the trigger in front of them. Written into the captions it stands where you want it."
    return _finding("no_trigger", "note", "Without the trigger", why, value, remedies.write_trigger(value, spoken))


def _common(case: Case) -> Finding | None:
    triggers = dict.fromkeys(case.wording(entry).trigger for entry in case.taught())
    common = [trigger for trigger in triggers if is_common(trigger)]
    if not common:
        return None
    why = f"{COMMON} Use a rare one: sks."
    about = ", ".join(f"“{trigger}”" for trigger in common)
    return Finding("common_trigger", "warning", "The trigger is a common word", why, about=about)


def _uneven(case: Case) -> Finding | None:
    pictures = defaultdict[str, list[str]](list)
    for entry in case.taught():
        if case.album.concept_of(entry).share is None:  # one with a share is as large as somebody wanted it
            pictures[entry.concept].append(entry.id)
    repeats = {name: case.album.concepts[name].repeats if name in case.album.concepts else 1 for name in pictures}
    views = {name: len(ids) * repeats[name] for name, ids in pictures.items()}
    if not views or max(views.values()) <= MOST_UNEVEN * min(views.values()):
        return None
    shares = ", ".join(f"{name or 'no concept'} {count / sum(views.values()):.0%}" for name, count in views.items())
    least = min(views, key=lambda name: views[name])
    value = dict.fromkeys(pictures[least], f"{least or 'no concept'}, {views[least]} views an epoch")
    why = "What is seen more often is learned first, and spoils before the rest is learned. Repeats even it out."
    fixes = (remedies.even_out(),) if least else ()
    return Finding("balance", "warning", "Concepts of very different size", why, value, about=shares, fixes=fixes)


def _few(case: Case) -> Finding | None:
    count = len(case.taught())
    if not 0 < count < FEWEST:
        return None
    why = "So few are soon known by heart, backgrounds and all. Ten to thirty that differ in all but the thing do well."
    return Finding("few", "warning", "Very few pictures", why, about=f"{count} pictures")


def _encoding(case: Case) -> Finding | None:
    if is_own(case.folder):
        return None  # its texts are in its own file
    files = {entry.id: caption_file(locate(case.folder, entry.file)) for entry in case.entries}
    used = {name: encoding_of(path.read_bytes()) for name, path in files.items() if path}
    value = {name: f"read as {used[name]}" for name in used if used[name] != "utf-8-sig"}
    why = "Other trainers stop at captions that are not UTF-8, and letters may come out wrong. Save them as UTF-8."
    return _finding("encoding", "note", "Captions that are not UTF-8", why, value)


def _foreign(case: Case) -> Finding | None:
    if not case.foreign:
        return None
    why = f"They are passed over: {READABLE}. Save them as one of these."
    about = ", ".join(path.name for path in case.foreign)
    return Finding("foreign", "note", "Pictures of kinds that are not known", why, about=about)


CHECKS: Sequence[Check] = (
    _unreadable, _exact, _near, _small, _blurred, _extreme, _bars, _uneven, _few, _common,
    _missing, _empty, _identical, _long, _untriggered, _encoding, _foreign,
)  # fmt: skip


def _finding(
    kind: str, severity: Severity, title: str, why: str, value: Mapping[str, str], *fixes: Fix
) -> Finding | None:
    return Finding(kind, severity, title, why, value, fixes=fixes) if value else None


def _alike(
    case: Case,
    kind: str,
    title: str,
    why: str,
    groups: Iterable[Sequence[Entry]],
    like: str,
    more: Mapping[str, str] | None = None,
) -> Finding | None:
    """A finding about groups of pictures; all but the best of each are to go."""
    found = list(groups)
    value = {
        entry.id: like.format(name=(group[1] if entry is group[0] else group[0]).name) + (more or {}).get(entry.id, "")
        for group in found
        for entry in group
    }
    if not value:
        return None
    fix = remedies.leave_out("Keep the largest of each, leave the others out", [e.id for g in found for e in g[1:]])
    ids = tuple(tuple(entry.id for entry in group) for group in found)
    return Finding(kind, "warning", title, why, value, ids, fixes=(fix,))


def _best_first(case: Case, entries: Sequence[Entry]) -> list[Entry]:
    """The largest first; of equal ones the one with a caption, then the set's order."""

    def worth(entry: Entry) -> tuple[int, bool]:
        width, height = case.looks[entry.id].size
        return -width * height, not entry.captions

    return sorted(entries, key=worth)


def _is_blank(case: Case, entry: Entry) -> bool:
    if entry.captions or is_own(case.folder):
        return bool(entry.captions) and not any(caption.strip() for caption in entry.captions)
    return caption_file(locate(case.folder, entry.file)) is not None


def _spoken(case: Case, entry: Entry, caption: str) -> str:
    """The longest text that a caption can become."""
    whole = expand(caption, lambda options: max(options, key=len)).replace(KEEP_MARK, ",")
    return with_trigger(whole, case.wording(entry).trigger)


def _tokens(text: str) -> int:
    return len(_clip().ids(text))


def is_common(trigger: str) -> bool:
    """Whether all words of a trigger are words that CLIP has learnt much about; "" has none."""
    each = [_clip().ids(text) for text in trigger.split()]
    return bool(each) and all(len(ids) == 1 and ids[0] < COMMON_TOKENS for ids in each)


@functools.cache
def _clip() -> Tokenizer:
    return clip_tokenizer()
