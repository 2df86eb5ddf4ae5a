"""What a run knows of its pictures: planned once, encoded once, written down in the run folder.

Latents lie in a store that all runs of a home share, each under a key of everything that made it: so an edited picture,
another crop or another VAE costs its own entries and no others, and nothing stale is ever served. The run folder holds
a list of what the run uses, and links to it: a resume sees what the first start saw, whatever became of the sources.
"""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainer.contract.config import DatasetSection
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.latents import prune
from trainer.contract.rundir import RunDir, State
from trainer.data.encode import Told, make_missing
from trainer.data.store import Store, key_of
from trainer.data.views import CachedPicture, Latents, View
from trainer.pictures.buckets import Bucket
from trainer.pictures.crops import Shown, plan
from trainer.pictures.epochs import Share
from trainer.pictures.gather import crop_options, gather
from trainer.pictures.holdout import by_look, candidate, count, held_out
from trainer.pictures.measure import Measured, Unusable, measure_all
from trainer.pictures.prompts import default_prompts
from trainer.pictures.wording import draw_texts, plain_text, wordings
from trainer.protocols import Family

FORM = 4  # of the list; it changes with what a row holds
LIST = "pictures.json"
STATUS_SECONDS = 1.0  # how old the page's view of the work may be
MOST_TEXTS = 4096  # of a run: their embeddings are kept in memory; pictures of larger sets have fewer each
MOST_TOKENS = 65536  # likewise where a text encoder is trained: the tokens of a text take a few kilobytes


Planned = tuple[tuple[CachedPicture, ...], tuple[str, ...], tuple[str, ...]]  # rows, skipped, prompts


@dataclass(frozen=True)
class Cache:
    """Everything the run needs of its pictures.

    Attributes:
        pictures: a row for each picture and resolution: all of the lowest resolution first.
        skipped: a sentence for each file that could not be used.
        prompts: what is drawn while training, where the config does not say.
        latents: gives what a row's views name.
        held: rows of held-out pictures, which are not among `pictures`.
    """

    pictures: tuple[CachedPicture, ...]
    skipped: tuple[str, ...]
    prompts: tuple[str, ...]
    latents: Latents
    held: tuple[CachedPicture, ...] = ()

    @property
    def originals(self) -> tuple[CachedPicture, ...]:
        """One row for each picture."""
        return tuple(row for row in self.pictures if row.resolution == self.pictures[0].resolution)


def build_cache(run: RunDir, store: Store, family: Family, told: Told) -> Cache:
    """Return the run's cache: what its list names, or a new one of the sets as they are now.

    Args:
        run: its config says what is wanted; it is told what was skipped and what was made.
        store: holds the latents.
        family: encodes the pictures.
        told: hears what is being done, with how many pictures, of how many; so does the run's status.

    Raises:
        UserError: a set is missing, no picture is left, or what a resume needs is lost.
    """
    path, options = store.own / LIST, run.config().dataset
    kept = read_list(path)
    told = _aloud(run, told)
    rows, skipped, prompts = kept or _plan(run, family, options, told)
    latents = Latents(store)
    bad, seconds, waited = make_missing(rows, family, latents, told)
    counts = {"reused": store.reused, "made": store.made, "damaged": store.damaged}
    run.emit("cache", what="pictures", **counts, seconds=round(seconds, 3), waited=round(waited, 3))
    if bad and kept:
        name, reason = next((row.name, bad[row.key]) for row in rows if row.key in bad)
        problem = f"what the run had kept of a picture is damaged, and cannot be made again: {reason}"
        raise UserError(problem, name, "Put the picture back as it was, or start a new run.")
    for key, reason in bad.items():
        row = next(row for row in rows if row.key == key)
        skipped = (*skipped, _quarantine(run, row.name, row.file, reason))
    rows = tuple(row for row in rows if row.key not in bad)
    for sentence in skipped:
        run.emit("notice", text=f"skipped {sentence}")
    if all(row.prior for row in rows):
        fix = "\n".join(skipped[:5]) or "Add pictures to it."
        raise UserError("No picture of this set can be trained on.", options.path, fix)
    if not kept:
        write_list(path, rows, skipped, prompts)
        prune(store.shelf)
    learned, held = (tuple(row for row in rows if row.held is out) for out in (False, True))
    return Cache(learned, skipped, prompts, latents, held)


def _aloud(run: RunDir, told: Told) -> Told:
    """Tell the run's status too, not more often than every second."""
    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        told(what, done, total)
        if time.monotonic() - last >= STATUS_SECONDS:
            last = time.monotonic()
            run.write_status(State.PREPARING, message=f"{what}: {done} of {total}")

    return tell


def _plan(run: RunDir, family: Family, options: DatasetSection, told: Told) -> Planned:
    """What is to be encoded, a sentence for each file that cannot be, and what to draw of it."""
    shown_as = crop_options(options, family.resolution, family.step)
    pictures, foreign = gather(options)
    measured = measure_all(pictures, options.masks, lambda done, total: told("looking at pictures", done, total))
    skipped = [f"{item.path.name}: {item.reason}" for item in foreign]
    for lost in measured:
        if isinstance(lost, Unusable):
            picture = lost.picture
            skipped.append(_quarantine(run, picture.entry.name, str(picture.path), lost.reason))
    usable = [item for item in measured if isinstance(item, Measured)]
    for trouble in (item.mask_trouble for item in usable if item.mask_trouble):
        run.emit("notice", text=trouble)
    shown = plan([(item.picture.entry, item.size) for item in usable], shown_as)
    held = _held_out(run, usable, told)
    texts, identity = _texts(run, usable, held), family.identity("vae")
    again = len(shown_as.resolutions)
    rows = [
        replace(_row(item, planned, identity, family), texts=own, held=content(item) in held)
        for item, planned, own in zip(usable * again, shown, texts * again, strict=True)
    ]
    prompts = default_prompts([item.picture for item in usable if content(item) not in held])
    return tuple(rows), tuple(skipped), prompts


def content(item: Measured) -> str:
    """What a picture shows, as an album's copies are called too."""
    return item.digest[:32]


def _held_out(run: RunDir, usable: Sequence[Measured], told: Told) -> frozenset[str]:
    """The contents that are never trained on, nor anything that looks the same."""
    options, paths = run.config().validation, {content(item): item.picture.path for item in usable}
    if not count(len(paths), options.share):
        return frozenset()
    shows = by_look(paths, lambda done, total: told("comparing pictures", done, total))
    found = held_out([candidate(item.picture, shows[content(item)]) for item in usable], options.share, options.seed)
    if options.share != "auto" and not found:
        run.emit("notice", text="no picture can be held out: every one is the last of its concept")
    return frozenset(own for own, shown in shows.items() if shown in found)


def _texts(run: RunDir, usable: Sequence[Measured], held: Collection[str]) -> list[tuple[str, ...]]:
    """The texts of every picture; it is said where a large set leaves pictures fewer than they would have.

    A held-out picture has one, its first caption as it stands, so that its loss is comparable across runs.
    """
    config = run.config()
    most = max(1, (MOST_TOKENS if config.adapter.text_encoder else MOST_TEXTS) // max(1, len(usable)))
    said = [(item.picture.entry.captions, item.picture.wording) for item in usable]
    short = [wanted for one in said if (wanted := wordings(*one)) > most]
    if short:
        text = f"{len(usable)} pictures are many: of up to {max(short)} wordings each, {most} can be drawn"
        run.emit("notice", text=text if most > 1 else f"{text}; shuffle, tag_dropout and wildcards do not vary")
    seed = config.training.seed
    return [
        plain_text(*one, item.picture.key)
        if content(item) in held
        else draw_texts(*one, seed, item.picture.key, min(most, wordings(*one)))
        for item, one in zip(usable, said, strict=True)
    ]


def _row(item: Measured, shown: Shown, identity: str, family: Family) -> CachedPicture:
    picture, bucket = item.picture, (shown.bucket.width, shown.bucket.height)
    latent = family.latent_shape(*bucket)[1:]
    views = []
    for variant, box in enumerate(shown.boxes):
        for mirrored in (False, True)[: 1 + picture.flip]:
            made_of = (item.digest, picture.background, bucket, box, mirrored)
            mask = key_of("mask", FORM, item.mask_digest, bucket, box, mirrored, latent) if item.mask_digest else ""
            sizes = crop_sizes(shown, variant, mirrored)
            views.append(View(box, mirrored, sizes, key_of("latents", FORM, identity, *made_of), mask))
    return CachedPicture(
        key=picture.key,
        name=picture.entry.name,
        file=str(picture.path.absolute()),
        digest=item.digest,
        size=item.size,
        mask_file=str(picture.mask.absolute()) if picture.mask and item.mask_digest else "",
        background=picture.background,
        texts=(),
        resolution=shown.resolution,
        bucket=shown.bucket,
        repeats=picture.repeats,
        prior=picture.prior,
        sides=1 + picture.flip,
        views=tuple(views),
        mask_digest=item.mask_digest,
        share=picture.share,
        trigger=picture.wording.trigger,
    )


def crop_sizes(shown: Shown, variant: int = 0, mirrored: bool = False) -> tuple[int, ...]:
    """What SDXL is told of a view: original height and width, top and left of the crop, target height and width.

    The crop is in pixels of the resized picture, mirrored where the view is.
    """
    left, top, right, _ = shown.rectangle(variant)
    left = shown.resized[0] - right if mirrored else left
    return shown.size[1], shown.size[0], top, left, shown.bucket.height, shown.bucket.width


def _quarantine(run: RunDir, name: str, file: str, reason: str) -> str:
    run.emit("quarantine", picture=name, file=file, reason=reason)
    return f"{name}: {reason}"


def write_list(path: Path, rows: Sequence[CachedPicture], skipped: Sequence[str], prompts: Sequence[str]) -> None:
    """Write down what a run uses; it stands for the sets from then on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"form": FORM, "skipped": skipped, "prompts": prompts}
    write_atomic(path, json.dumps({**about, "pictures": [asdict(row) for row in rows]}))


def read_list(path: Path) -> Planned | None:
    """Read back what `write_list` wrote; None where there is none, or another version of it wrote in another form.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text("utf-8"))
        if stored["form"] != FORM:
            return None
        return tuple(_read_rows(stored["pictures"])), tuple(stored["skipped"]), tuple(stored["prompts"])
    except (ValueError, KeyError, TypeError) as error:
        fix = "It cannot be made again as it was: start a new run with the same settings (config.toml beside it)."
        problem = f"what the run had written down of its pictures is damaged ({type(error).__name__})"
        raise UserError(problem, str(path), fix) from error


def _read_rows(stored: Sequence[dict]) -> Iterator[CachedPicture]:
    for row in stored:
        views = tuple(
            View(**{**view, "box": tuple(view["box"]), "sizes": tuple(view["sizes"])}) for view in row["views"]
        )
        read = {"size": tuple(row["size"]), "texts": tuple(row["texts"]), "bucket": Bucket(**row["bucket"])}
        read |= {"share": Share(*row["share"]) if row.get("share") else None}
        yield CachedPicture(**{**row, **read, "views": views})
