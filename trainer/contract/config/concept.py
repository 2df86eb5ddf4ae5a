"""What pictures that belong together have of their own."""

from pydantic import Field, model_validator

from trainer.contract.config.section import Section, Switch

LEAST_SHARE = 0.01  # an epoch shows every picture, so a smaller one would make it endless


class Concept(Section):
    """Pictures that belong together, and how they are trained. What is None is as the set has it, or else the run."""

    trigger: str = Field("", description="Word that calls it.")
    class_word: str = Field("", description="What it is, for pictures without a caption.")
    repeats: int = Field(1, ge=1, le=9999, description="How often each picture is seen in an epoch.")
    share: float | None = Field(
        None,
        ge=LEAST_SHARE,
        le=1,
        description="Part of what is learned in an epoch that it gets, 0.01 to 1, instead of repeats. What the shares "
        "leave is divided by repeats.",
    )
    flip: bool | None = Field(None, description="Mirror half of its pictures.")
    regularisation: bool = Field(False, description="It shows what is not to change, and gets no trigger.")
    caption_prefix: str | None = Field(None, description="Put in front of its captions.")
    caption_suffix: str | None = Field(None, description="Put behind its captions.")
    shuffle: Switch | None = Field(None, description="Let tags of its captions change places.")
    keep_tokens: int | None = Field(None, ge=0, description="Tags at the front of its captions that stay there.")
    tag_dropout: float | None = Field(None, ge=0, lt=1, description="Share of tags that a wording leaves out.")

    @model_validator(mode="after")
    def _one_measure(self) -> "Concept":
        if self.share is not None and self.repeats != 1:
            raise ValueError(f"share and repeats ({self.repeats}) are both given: set repeats to 1, or leave share out")
        if self.share is not None and self.regularisation:
            raise ValueError(
                "a regularisation set has no share of what is learned: leave share out, use regularisation_weight"
            )
        return self


class ConceptSection(Concept):
    """A set of pictures beside the first one. What is left out is as the set itself has it, then as the run has it."""

    path: str = Field(min_length=1, description="Folder of pictures.")
