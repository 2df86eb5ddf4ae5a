"""The pictures, their captions, and what is done with them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from trainer.contract.config.concept import ConceptSection
from trainer.contract.config.section import COLOUR, Section, Switch

MASK_FLOOR = 0.1


def _numbers(given: Any) -> Any:
    """A list of numbers as a person types it: `512, 768`. Each counts once, and one alone is a plain number."""
    if isinstance(given, str) and "," in given:
        given = [int(part) if part.strip().isdecimal() else part.strip() for part in given.split(",")]
    if not isinstance(given, list | tuple) or not given or not all(isinstance(part, int) for part in given):
        return given
    rising = tuple(sorted(set(given)))
    return rising if len(rising) > 1 else rising[0]


class DatasetSection(Section):
    """The pictures and what is done with them."""

    path: str = Field(min_length=1, description="Folder of pictures, captions as .txt files beside them.")
    concepts: tuple[ConceptSection, ...] = Field(
        (),
        description="Further sets, trained beside the first: tables with path, trigger, class_word, repeats or share, "
        "flip, regularisation; and where they differ from the run's caption_prefix, caption_suffix, shuffle, "
        "keep_tokens, tag_dropout.",
    )
    resolution: Annotated[int | tuple[int, ...] | Literal["auto"], BeforeValidator(_numbers)] = Field(
        "auto",
        description="Side of the square whose area every picture is brought to, in pixels; several (`512, 768`) show "
        "each picture at all of them. `auto`: the base's own.",
    )
    max_upscale: float = Field(
        2.0, ge=1, description="Most that a picture is enlarged by; a smaller one is trained at a smaller size."
    )
    crop: Literal["focus", "centre", "random"] = Field(
        "focus",
        description="What is kept of a picture of another shape: the part around its focus point (its middle where it "
        "has none), the middle, or one of 4 parts spread over it, drawn anew at every view.",
    )
    background: str = Field(
        "auto",
        pattern=COLOUR,
        description="Colour behind transparent parts, `#rrggbb`. `auto`: as the set has it, else white.",
    )
    trigger: str = Field("", description="Word that calls the new thing. Put in front of captions that lack it.")
    class_word: str = Field("", description="What the new thing is; pictures without a caption get it and the trigger.")
    caption_prefix: str = Field("", description="Put in front of every caption.")
    caption_suffix: str = Field("", description="Put behind every caption.")
    caption_chunks: int = Field(
        3, ge=1, le=3, description="Longest caption, in chunks of 75 tokens; what is longer is cut."
    )
    shuffle: Switch = Field(
        "auto",
        description="Let tags change places. `auto`: in captions made of tags and commas, not in sentences. Up to 8 "
        "wordings of a picture are drawn once; a view shows one.",
    )
    keep_tokens: int = Field(
        0, ge=0, description="Tags at the front of a caption that stay there, the trigger counted."
    )
    tag_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a caption's tags that a wording leaves out. Up to 8 wordings of a picture are drawn "
        "once; a view shows one.",
    )
    caption_dropout: float = Field(
        0.05, ge=0, le=1, description="Share of views trained with an empty caption (keeps guidance working)."
    )
    flip: bool = Field(False, description="Mirror half of the pictures, drawn anew at every view.")
    masks: bool = Field(True, description="Learn from what a picture's mask shows white, where it has one.")
    mask_floor: float = Field(
        MASK_FLOOR, ge=0, le=1, description="What the rest of a picture with a mask counts, against 1 inside the mask."
    )
    regularisation_weight: float = Field(
        1.0, gt=0, le=10, description="What a regularisation picture counts, against 1 for the others."
    )

    @model_validator(mode="after")
    def _paths_and_sizes(self) -> "DatasetSection":
        if self.resolution == ():
            raise ValueError("resolution is an empty list: give a number, several, or auto")
        paths = [self.path, *(concept.path for concept in self.concepts)]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise ValueError(f"the set {twice} is given twice: raise its repeats instead")
        return self

    def resolutions(self, own: int) -> tuple[int, ...]:
        """resolution as numbers; `own` is the base's."""
        if isinstance(self.resolution, tuple):
            return self.resolution
        return (own if self.resolution == "auto" else int(self.resolution),)
