"""What is asked of the trainer, and what it answers: by `generate`, `grid` and `caption`, and by the resident `serve`.

`python -P -m trainer serve` reads one JSON object a line on standard input and writes one a line on standard output:

    ->  a GenerateRequest, a GridRequest (`trainer.contract.grids`), or {"cancel": ID}
    <-  {"id": ID, "kind": "progress", "step": 3, "steps": 40}
        {"id": ID, "kind": "frames", "step": 3, "places": [0, 4], "files": [PNG, ...]}
        {"id": ID, "kind": "picture", "place": 4, "file": PNG}
        {"id": ID, "kind": "done", "files": [PNG, ...], "notices": [...], "seconds": 1.9}
        {"id": ID, "kind": "error", "problem": ..., "where": ..., "fix": ...}
        {"id": ID, "kind": "cancelled"}

Requests are answered in order, a cancel at once, between two denoising steps; what was finished before stays. Steps are
counted over all pictures. Pictures are drawn together where they can be, so they are finished in another order than
that of the request: `place` is a picture's number in it, and each is told of as soon as it is a file. `frames` come
where the request asks for them: small pictures of those numbers, not finished yet. Each has a new name; all are gone
when the request is answered. A grid's `done` has `sheet` too.

It ends when standard input is closed, so it never outlives the program that started it, and where nothing was asked for
half an hour (`ATELIER_IDLE_SECONDS`): then it says {"id": "", "kind": "idle"} and gives its memory back.

`python -P -m trainer caption FILE` writes a `Progress` a line, as {"kind": "progress", "what": "captioning", "done": 3,
"total": 40, ...}; its last line is the answer.
"""

import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.contract.config import NumberType, Prediction, Switch
from trainer.contract.errors import UserError
from trainer.contract.files import write_atomic
from trainer.contract.rundir import RunDir, run_of

Model = TypeVar("Model", bound=BaseModel)
Detail = Literal["auto", "brief", "detailed", "paragraph"]
Put = Literal["missing", "replace", "append"]
Factor = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Prompt = Annotated[str, Field(max_length=20_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Steps = Annotated[int, Field(ge=1, le=200)]
Guidance = Annotated[float, Field(ge=1, le=30)]
Size = tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]]
ClipSkip = Annotated[int, Field(ge=1, le=12)]


class Asked(BaseModel):
    """A frozen part of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strength(Asked):
    """An adapter's strength where one number does not say it all.

    Attributes:
        unet: in the UNet.
        text_encoder: in the text encoders; None for the same.
        blocks: factors on that, by block: a preset such as `MIDD`, numbers in order (SD 1.x: 26 or 17, SDXL: 20 or 12),
            or (name, factor) of some, such as `IN04`; see `trainer.formats.block_weights`.
        start, end: the share of the denoising steps that the UNet has it for, from 0 to 1.
    """

    unet: Factor = 1.0
    text_encoder: Factor | None = None
    blocks: str | tuple[Factor, ...] | tuple[tuple[str, Factor], ...] = ()
    start: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0

    @property
    def text(self) -> float:
        """In the text encoders, blocks aside."""
        return self.unet if self.text_encoder is None else self.text_encoder


class Picture(Asked):
    """One picture: what it shows, its seed, and a strength for each of the request's adapters.

    A prompt is read as A1111 reads it, see `trainer.formats.prompt`. `<lora:NAME:0.8>` in it sets the strength of the
    request's adapter of that name for this picture, whatever `strengths` says.

    Attributes:
        steps, guidance, sampler: None: the request's.
    """

    prompt: Prompt
    negative: Prompt = ""
    seed: Seed = 42
    strengths: tuple[Factor | Strength, ...] = ()
    steps: Steps | None = None
    guidance: Guidance | None = None
    sampler: str | None = None


class BaseSettings(Asked):
    """How a base is opened, as in the config's model section."""

    revision: str = ""
    vae: str = ""
    prediction: Prediction = "auto"
    zero_terminal_snr: Switch = "auto"
    dtype: NumberType = "auto"


def base_settings(base: str, adapters: Iterable[Path]) -> tuple[BaseSettings, tuple[str, ...]]:
    """Find how the first of these adapters that a run here trained on this base had it opened.

    Whoever draws otherwise sees something else than the run's own samples.

    Returns:
        That, or the defaults; and a sentence for each run whose config cannot be read, such as a newer version's.
    """
    notices = []
    for run in filter(None, map(run_of, adapters)):
        try:
            model = run.config().model
        except (UserError, tomllib.TOMLDecodeError) as error:
            why = str(error).splitlines()[0]
            notices.append(f"the settings of run '{run.name}' cannot be read, its base is opened as usual: {why}")
            continue
        if model.base == base:
            return BaseSettings(**model.model_dump(include=set(BaseSettings.model_fields))), tuple(notices)
    return BaseSettings(), tuple(notices)


class Shared(Asked):
    """What all pictures of a request have in common.

    Attributes:
        id: names the answer, and the files: `<out>/<id>-0.png`, `-1`, ...
        base: base model, as in `model.base`.
        opened: what else is said of it.
        adapters: adapter files; every picture has a strength for each.
        steps, guidance, sampler: as in the config's sampling section, of each picture that does not say otherwise.
        rescale: share of guidance that is scaled back to the prompt's own contrast (arXiv 2305.08891, section 3.4).
        frames: a small picture of what is there so far is sent every so many steps; 0 for none.
        size: (width, height) in pixels; None for the base's own.
        clip_skip: text encoder layer, counted from the end; None: as the picture's first adapter was trained.
        out: folder for the pictures.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")
    base: str = "demo"
    opened: BaseSettings = BaseSettings()
    adapters: tuple[str, ...] = ()
    steps: Steps = 20
    guidance: Guidance = 5.0
    sampler: str = "DPM++ 2M"
    rescale: float = Field(0.0, ge=0, le=1)
    frames: int = Field(0, ge=0, le=200)
    size: Size | None = None
    clip_skip: ClipSkip | None = None
    out: str


class GenerateRequest(Shared):
    """Pictures to draw in one go; each may differ in all that `Picture` has.

    Attributes:
        pictures: what to draw.
    """

    pictures: tuple[Picture, ...] = Field(min_length=1, max_length=256)

    def steps_of(self, place: int) -> int:
        """Denoising steps of a picture."""
        return self.pictures[place].steps or self.steps

    def guidance_of(self, place: int) -> float:
        """Guidance scale of a picture."""
        return self.pictures[place].guidance or self.guidance

    def sampler_of(self, place: int) -> str:
        """Sampler of a picture."""
        return self.pictures[place].sampler or self.sampler


class SampleRequest(Asked):
    """A prompt that a run draws between two of its steps: `requests/sample-ID.json` in its folder.

    The answer is an event: `answered` with the files under `samples/`, or `unanswered` with the problem.

    Attributes:
        prompt: what to draw.
        strengths: of the adapter, side by side; none: as the run's samples.
        negative, seed: None: as the run's samples.
    """

    prompt: str = Field(min_length=1, max_length=4000)
    strengths: tuple[Annotated[float, Field(ge=-4, le=4)], ...] = Field((), max_length=9)
    negative: str | None = None
    seed: Seed | None = None


def parse_strengths(text: str) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        UserError: something else, or numbers that make no sense as strengths.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"'{text}' is no list of strengths", "strengths", "Write numbers, such as 0,0.5,1.") from None
    if len(found) > 9 or not all(-4 <= one <= 4 for one in found):
        raise UserError(f"'{text}' cannot be drawn", "strengths", "Give at most nine numbers from -4 to 4.")
    return found


def ask_sample(run: RunDir, request: SampleRequest) -> str:
    """Ask a run for pictures; return the id of the answer."""
    name = f"{time.time_ns():x}"
    folder = run.path / "requests"
    folder.mkdir(exist_ok=True)
    write_atomic(folder / f"sample-{name}.json", request.model_dump_json())
    return name


def asked_samples(run: RunDir) -> list[Path]:
    """The requests for pictures that are not answered yet, oldest first."""
    return sorted((run.path / "requests").glob("sample-*.json"))


class CaptionRequest(Asked):
    """Captions for the pictures of a set, by a model.

    Attributes:
        dataset: folder of a set of the user's own.
        model: Hub id or folder of a captioner.
        revision: branch, tag or commit of a Hub id.
        task: how much is said; what the model is made for with `auto`.
        prompt: said to the model instead, where it takes one.
        mode: for pictures without a caption only, in place of the captions they have, or as one more.
        batch: most pictures at once.
        threshold: least probability of a tag, for taggers.
        character_threshold: the same for names of characters.
        trigger: word put in front of each caption.
        chosen: ids of the pictures; all that are not excluded where there are none.
        known_only: take what was written before a stop, and ask the model nothing.
    """

    dataset: str
    model: str = Field(min_length=1)
    revision: str = ""
    task: Detail = "auto"
    prompt: str = Field("", max_length=2000)
    mode: Put = "missing"
    batch: int = Field(8, ge=1, le=512)
    threshold: float = Field(0.35, gt=0, lt=1)
    character_threshold: float = Field(0.85, gt=0, lt=1)
    trigger: str = ""
    chosen: tuple[str, ...] = ()
    known_only: bool = False


class FetchRequest(Asked):
    """A base model to be fetched from the Hub, whole.

    Attributes:
        base: Hub id: owner/name, or owner/name/file.safetensors.
    """

    base: str


class Progress(Asked):
    """How far a command is.

    Attributes:
        kind: tells it from an answer.
        what: is being done, in words.
        done: pictures, or bytes, so far.
        total: in all, 0 where that is not known yet.
        picture: id of the picture that was done last.
        caption: its words.
        left: seconds that it takes yet, None while unknown.
    """

    kind: Literal["progress"] = "progress"
    what: str
    done: int = 0
    total: int = 0
    picture: str = ""
    caption: str = ""
    left: float | None = None


def parse(kind: type[Model], text: str) -> Model:
    """Read a request.

    Raises:
        UserError: it is not one, with every mistake.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UserError(
            f"the request cannot be used: {mistakes}", "request", "See trainer/contract/requests.py."
        ) from None
