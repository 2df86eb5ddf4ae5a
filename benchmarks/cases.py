"""What is measured: a case is one process, a profile a list of cases.

A case is written MODEL:BATCH and more words after colons, such as `sdxl:4`, `sd15:1:te`, `sd15:1:engine.graph=off` or
`kohya:sd15:8`. MODEL is sd15 (512 px), sd21 (768 px), sdxl (1024 px) or demo (128 px, on the CPU).
"""

from dataclasses import dataclass, replace
from typing import Any

WARM = 10  # steps before the clock starts: kernels are chosen and graphs recorded in them
LEAST = 60  # steps that are measured
WINDOW = 10.0  # seconds that are measured where the steps are short
FLOOR = 0.02  # seconds that a step takes at least, about
SHAPES = ((1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16))  # aspects of the six buckets
# What every trainer here trains: 192 layers of SD 1.5 and 2.1, 722 of SDXL.
RANK = 16
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")


@dataclass(frozen=True)
class Model:
    """A base as far as the measuring of it goes.

    Attributes:
        side: of a picture, in pixels.
        tflop: of one picture's forward and input-gradient backward, rank 16, counted by torch's FlopCounterMode; 0
            where nobody counted.
        seconds: that a picture takes, about, to choose how many steps are measured.
    """

    side: int
    tflop: float
    seconds: float


MODELS = {
    "sd15": Model(512, 1.81, 0.01),
    "sd21": Model(768, 5.22, 0.03),
    "sdxl": Model(1024, 14.74, 0.05),
    "demo": Model(128, 0, 0.04),
}


@dataclass(frozen=True)
class Case:
    """One process to be measured.

    Attributes:
        name: as it was asked for.
        runner: who trains: see `benchmarks.suite.RUNNERS`.
        model: a key of `MODELS`.
        batch: pictures in a step.
        steps: of the whole run; 0 for a window that is long enough.
        pictures: in the set; 0 for four batches of every shape.
        shapes: how many aspects the pictures have.
        samples: whether samples are drawn and checkpoints saved as in the shipped preset, or never.
        settings: `section.key=value`, the last word.
    """

    name: str
    runner: str = "train"
    model: str = "sd15"
    batch: int = 1
    steps: int = 0
    pictures: int = 0
    shapes: int = 1
    samples: bool = False
    settings: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """The case with nothing but model and batch."""
        return f"{self.model}:{self.batch}"

    @property
    def warm(self) -> int:
        """Steps before the clock starts; a graph is recorded for every shape, so that one epoch goes by."""
        return WARM if self.shapes == 1 else WARM + self.set_size // self.batch

    @property
    def length(self) -> int:
        """Steps to be taken, the warm-up included."""
        seconds = max(FLOOR, self.batch * MODELS[self.model].seconds)
        return self.steps or self.warm + max(LEAST, round(WINDOW / seconds))

    @property
    def set_size(self) -> int:
        """Pictures in the set."""
        return self.pictures or 4 * self.batch * self.shapes


# Words that a case may have, and what they change. `short` is a whole job on a small card, no longer than it must be.
WORDS: dict[str, dict[str, Any]] = {
    "te": {"settings": ("adapter.text_encoder=true",)},
    "buckets": {"shapes": len(SHAPES)},
    "cold": {"steps": 500, "pictures": 20},
    "short": {"steps": 60, "pictures": 20},
    "samples": {"samples": True},
}
RUNNERS = ("train", "kohya", "kohya-best", "kohya-compiled", "diffusers", "diffusers-best")
COMMANDS = ("atelier-demo",)  # cases that are a command of the product, without a model and a batch


def parse_case(text: str) -> Case:
    """Read a case as it is written on the command line.

    Raises:
        ValueError: it is none.
    """
    if text in COMMANDS:
        return Case(text, runner=text, model="demo", batch=4)
    runner, *rest = text.split(":") if text.split(":")[0] in RUNNERS else ["train", *text.split(":")]
    if len(rest) < 2 or rest[0] not in MODELS or not rest[1].isdigit():
        raise ValueError(f"'{text}' is no case: write MODEL:BATCH with MODEL one of {', '.join(MODELS)}")
    case = Case(text, runner, rest[0], int(rest[1]))
    for word in rest[2:]:
        if "=" in word:
            case = replace(case, settings=(*case.settings, word))
        elif word in WORDS:
            changes = WORDS[word]
            case = replace(case, **{**changes, "settings": (*case.settings, *changes.get("settings", ()))})
        else:
            raise ValueError(f"'{word}' in '{text}' is neither one of {', '.join(WORDS)} nor section.key=value")
    return case


@dataclass(frozen=True)
class Profile:
    """Cases that belong together.

    Attributes:
        cases: in this order.
        yardsticks: what is measured beside them, see `benchmarks.yardsticks`.
    """

    cases: tuple[str, ...]
    yardsticks: tuple[str, ...] = ("matrix",)


ALL = ("matrix", "ceiling", "peft")
LADDER = (
    "engine.checkpointing=none",
    "engine.checkpointing=full",
    "engine.base=int8:engine.checkpointing=none",
    "engine.base=int8:engine.checkpointing=full",
    "engine.base=nf4:engine.checkpointing=full",
    "engine.base=streamed:engine.checkpointing=full",
)
PROFILES = {
    "rates": Profile(
        ("sd15:1", "sd15:8", "sdxl:1", "sdxl:4", "sd15:4", "sd15:16", "sd21:1", "sd21:4", "sdxl:8"),
        ALL,
    ),
    "text-encoder": Profile(("sd15:1", "sd15:1:te", "sd21:1", "sd21:1:te", "sdxl:1", "sdxl:1:te")),
    "buckets": Profile(("sd15:1", "sd15:1:buckets", "sd15:4", "sd15:4:buckets", "sdxl:1", "sdxl:1:buckets")),
    "cold": Profile(("sd15:1:cold", "sd15:1:cold:samples", "sdxl:1:cold", "sdxl:1:cold:samples")),
    "memory": Profile(tuple(f"{model}:1:{rung}" for model in ("sdxl", "sd15") for rung in LADDER)),
    "small-cards": Profile(
        (
            "sdxl:1:short:samples:engine.memory=7.2",
            "sd15:1:short:samples:engine.memory=5.5",
            "sd15:1:short:samples:engine.memory=3.8",
        ),
        (),
    ),
    "cpu": Profile(("demo:4", "atelier-demo"), ()),
    "peers": Profile(
        (
            *("sd15:8", "kohya:sd15:8", "kohya-best:sd15:8", "diffusers:sd15:8", "diffusers-best:sd15:8"),
            *("sdxl:4", "kohya:sdxl:4", "kohya-best:sdxl:4", "diffusers:sdxl:4", "diffusers-best:sdxl:4"),
        ),
        ALL,
    ),
}
