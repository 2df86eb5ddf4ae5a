"""What a run trains on: the pictures of all its sets, each with its words, repeats and flips. Nothing is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.contract.config import ConceptSection, DatasetSection, RunConfig
from trainer.contract.errors import UserError
from trainer.pictures.album import Album, Concept, Entry, is_own, locate, open_album
from trainer.pictures.crops import CropOptions
from trainer.pictures.decode import READABLE, UNSUPPORTED
from trainer.pictures.folder import Skipped
from trainer.pictures.listing import foreign_files
from trainer.pictures.tags import KEEP_MARK, is_tags
from trainer.pictures.wording import Wording


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
        repeats: views in an epoch.
        prior: it is one of regularisation.
    """

    entry: Entry
    folder: Path
    key: str
    wording: Wording
    background: str
    flip: bool
    repeats: int
    prior: bool

    @property
    def path(self) -> Path:
        """Its file."""
        return locate(self.folder, self.entry.file)

    @property
    def mask(self) -> Path | None:
        """The file of its mask."""
        return locate(self.folder, self.entry.mask) if self.entry.mask else None


def gather(options: DatasetSection) -> tuple[tuple[Picture, ...], tuple[Skipped, ...]]:
    """Read every set of a run, without its pictures.

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
        album = open_album(folder)
        found = list(_pictures(number, section, album, options))
        foreign = [] if is_own(folder) else foreign_files(folder)
        skipped += [Skipped(path, UNSUPPORTED.format(suffix=path.suffix)) for path in foreign]
        if not found:
            out = f"{len(album.entries)} excluded. " if album.entries else ""
            fix = f"{out}{READABLE}. " + " ".join(f"{item.path.name}: {item.reason}" for item in skipped[:5])
            raise UserError("There is no readable picture in this set.", section.path, fix.strip())
        pictures += found
    _check(options, pictures)
    return tuple(pictures), tuple(skipped)


def check_run(config: RunConfig) -> None:
    """See that a run can be trained on its sets, before anything is loaded.

    Raises:
        UserError: as `gather`; or a setting of the objective does not fit the sets.
    """
    pictures, _ = gather(config.dataset)
    if config.objective.prior == "base" and not any(picture.prior for picture in pictures):
        fix = "Leave it out, or mark a concept with regularisation = true."
        raise UserError("There are no regularisation pictures.", "objective.prior", fix)


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
    run = Wording(
        prefix=options.caption_prefix,
        suffix=options.caption_suffix,
        shuffle=options.shuffle,
        keep=options.keep_tokens,
        tag_dropout=options.tag_dropout,
    )
    for entry in album.entries:
        if entry.excluded:
            continue
        own = album.concepts.get(entry.concept, Concept())
        prior = own.regularisation or section.regularisation
        # The nearest word counts: of the group in the set, of this run, of the set.
        trigger = "" if prior else own.trigger or section.trigger or album.trigger
        class_word = own.class_word or section.class_word or album.class_word
        flips = (own.flip, section.flip, options.flip)
        yield Picture(
            entry,
            Path(section.path),
            f"{number}/{entry.id}",
            replace(run, trigger=trigger, class_word=class_word),
            background,
            flip=next(flip for flip in flips if flip is not None),
            repeats=own.repeats * section.repeats,
            prior=prior,
        )


def _check(options: DatasetSection, pictures: list[Picture]) -> None:
    """Refuse what cannot be meant, before anything is loaded."""
    if all(picture.prior for picture in pictures):
        fix = "Give the pictures of what is to be learned as dataset.path, these as one of dataset.concepts."
        raise UserError("All pictures are regularisation pictures: there is nothing to learn.", options.path, fix)
    if options.regularisation_weight != 1 and not any(picture.prior for picture in pictures):
        fix = "Leave it out, or mark a concept with regularisation = true."
        raise UserError("There are no regularisation pictures.", "dataset.regularisation_weight", fix)
    captions = (caption for picture in pictures for caption in picture.entry.captions)
    tagged = options.shuffle == "on" or any(is_tags(caption) or KEEP_MARK in caption for caption in captions)
    if options.tag_dropout and not tagged:
        fix = "Leave it out: sentences are never taken apart."
        raise UserError("No caption is made of tags and commas.", "dataset.tag_dropout", fix)
