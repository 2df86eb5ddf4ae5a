"""What a run trains on: the pictures of all its sets, each with its words, repeats and flips. Nothing is decoded."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainer.contract.config import LEAST_PICTURES, Concept, ConceptSection, DatasetSection, RunConfig
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Entry, is_own, locate, open_album
from trainer.pictures.buckets import Bucket
from trainer.pictures.crops import CropOptions
from trainer.pictures.decode import READABLE, UNSUPPORTED
from trainer.pictures.epochs import Share, Turn, epoch_views
from trainer.pictures.listing import foreign_files, list_files
from trainer.pictures.tags import KEEP_MARK, is_tags
from trainer.pictures.wording import Wording


class Skipped(NamedTuple):
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Picture:
    """A picture of a run.

    Attributes:
        entry: as its set has it.
        folder: of the set.
        key: tells it from every other picture of the run.
        wording: how its captions become texts.
        background: colour behind its transparent parts, "#rrggbb".
        flip: whether half of its views are mirrored.
        repeats, prior, share: see `trainer.pictures.epochs.Turn`.
    """

    entry: Entry
    folder: Path
    key: str
    wording: Wording
    background: str
    flip: bool
    repeats: int
    prior: bool
    share: Share | None = None

    @property
    def path(self) -> Path:
        """Its file."""
        return locate(self.folder, self.entry.file)

    @property
    def mask(self) -> Path | None:
        """The file of its mask."""
        return locate(self.folder, self.entry.mask) if self.entry.mask else None


def gather(
    options: DatasetSection, read: Callable[[Path], Album] = open_album
) -> tuple[tuple[Picture, ...], tuple[Skipped, ...]]:
    """Read every set of a run, without its pictures.

    Args:
        options: of the run.
        read: reads a set; for those who have read some of them already.

    Returns:
        The pictures that are not excluded, set by set; and the files that are pictures of a kind nobody reads here.

    Raises:
        UserError: a set is missing or empty, or a setting does not fit the sets.
    """
    sets = [
        ConceptSection(path=options.path, trigger=options.trigger, class_word=options.class_word),
        *options.concepts,
    ]
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    for number, section in enumerate(sets):
        folder = Path(section.path)
        album = read(folder)
        found = list(_pictures(number, section, album, options))
        foreign = [] if is_own(folder) else foreign_files(folder)
        skipped += [Skipped(path, UNSUPPORTED.format(suffix=path.suffix)) for path in foreign]
        if not found:
            raise no_picture(folder, album, skipped)
        pictures += found
    _check(options, pictures)
    return tuple(pictures), tuple(skipped)


def no_picture(folder: Path, album: Album, skipped: Sequence[Skipped]) -> UserError:
    """What is said of a set without a picture that can be used: what there is instead, and what to do."""
    problem, where = "There is no readable picture in this set.", str(folder)
    if album.entries and all(entry.excluded for entry in album.entries):
        out = f"{len(album.entries)} excluded" if len(album.entries) > 1 else "The only one is excluded"
        return UserError(problem, where, f"{out}. Take some in again in the Dataset tab.")
    files = [locate(folder, entry.file) for entry in album.entries] if is_own(folder) else list_files(folder)
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    if not counts:
        return UserError(problem, where, f"The folder is empty. Put pictures into it; {READABLE}.")
    seen = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))
    reasons = "".join(f"\n{item.path.name}: {item.reason}" for item in skipped[:5])
    return UserError(problem, where, f"Seen: {seen}. {READABLE}.{reasons}")


def check_run(config: RunConfig, read: Callable[[Path], Album] = open_album) -> None:
    """See that a run can be trained on its sets, before anything is loaded.

    Args:
        config: of the run.
        read: as for `gather`.

    Raises:
        UserError: as `gather`; or a setting of the objective does not fit the sets.
    """
    pictures, _ = gather(config.dataset, read)
    if config.objective.prior == "base" and not any(picture.prior for picture in pictures):
        fix = "Leave it out, or mark a concept with regularisation = true."
        raise UserError("There are no regularisation pictures.", "objective.prior", fix)
    options, learned = config.validation, sum(not picture.prior for picture in pictures)
    asked = [key for key in ("every", "stop_after") if getattr(options, key) != type(options).model_fields[key].default]
    if asked and options.share == "auto" and learned < LEAST_PICTURES:
        problem = f"It has no effect: of {learned} pictures, fewer than {LEAST_PICTURES}, none is held out"
        fix = "Leave it out, or ask for some to be held out: validation.share=0.1"
        raise UserError(f"{problem}.", f"validation.{asked[0]}", fix)


def crop_options(options: DatasetSection, own_resolution: int, step: int) -> CropOptions:
    """What a config says of crops, for a base with that resolution and step in pixels.

    Raises:
        UserError: a resolution is below the base's step.
    """
    resolutions = options.resolutions(own_resolution)
    if min(resolutions) < step:
        problem, fix = f"{min(resolutions)} pixels is too small", f"This base needs {step} pixels or more."
        raise UserError(problem, "dataset.resolution", fix)
    return CropOptions(resolutions, step, options.crop, options.max_upscale)


def _pictures(number: int, section: ConceptSection, album: Album, options: DatasetSection) -> Iterator[Picture]:
    background = album.background if options.background == "auto" else options.background
    for entry in album.entries:
        if entry.excluded:
            continue
        own = album.concepts.get(entry.concept, Concept())
        prior = own.regularisation or section.regularisation
        yield Picture(
            entry,
            Path(section.path),
            f"{number}/{entry.id}",
            _wording((own, section, album), prior, options),
            background,
            flip=_nearest("flip", own, section, options),
            repeats=own.repeats * section.repeats,
            prior=prior,
            share=None if prior else _share(number, entry, own, section),
        )


def _wording(places: tuple[Concept, ConceptSection, Album], prior: bool, options: DatasetSection) -> Wording:
    """The nearest word counts: of the group in the set, of this run, of the set."""
    own, section, album = places
    return Wording(
        trigger="" if prior else own.trigger or section.trigger or album.trigger,
        class_word=own.class_word or section.class_word or album.class_word,
        prefix=_nearest("caption_prefix", own, section, options),
        suffix=_nearest("caption_suffix", own, section, options),
        shuffle=_nearest("shuffle", own, section, options),
        keep=_nearest("keep_tokens", own, section, options),
        tag_dropout=_nearest("tag_dropout", own, section, options),
    )


def _nearest(setting: str, *places: Concept | DatasetSection) -> Any:
    """What the first of them says that says anything; the run always does."""
    return next(value for place in places if (value := getattr(place, setting)) is not None)


def _share(number: int, entry: Entry, own: Concept, section: ConceptSection) -> Share | None:
    """The share of a picture's group in the set, or else of the set, which the set's other pictures divide."""
    if own.share is not None:
        return Share(f"{number}/{entry.concept}", own.share)
    return None if section.share is None else Share(str(number), section.share)


def _check(options: DatasetSection, pictures: list[Picture]) -> None:
    """Refuse what cannot be meant, before anything is loaded."""
    if all(picture.prior for picture in pictures):
        fix = "Give the pictures of what is to be learned as dataset.path, these as one of dataset.concepts."
        raise UserError("All pictures are regularisation pictures: there is nothing to learn.", options.path, fix)
    epoch_views([Turn(Bucket(1, 1), picture.repeats, picture.prior, picture.share) for picture in pictures])
    if options.regularisation_weight != 1 and not any(picture.prior for picture in pictures):
        fix = "Leave it out, or mark a concept with regularisation = true."
        raise UserError("There are no regularisation pictures.", "dataset.regularisation_weight", fix)
    dropping = [picture for picture in pictures if picture.wording.tag_dropout]
    if dropping and not any(map(_is_tagged, dropping)):
        fix = "Leave it out: sentences are never taken apart."
        raise UserError("No caption is made of tags and commas.", "dataset.tag_dropout", fix)


def _is_tagged(picture: Picture) -> bool:
    """Whether a caption of it is taken apart."""
    captions = picture.entry.captions
    return picture.wording.shuffle == "on" or any(is_tags(caption) or KEEP_MARK in caption for caption in captions)
