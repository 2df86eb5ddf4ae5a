"""What a run draws while it trains, where nobody has said."""

from collections.abc import Sequence
from dataclasses import replace

from trainer.pictures.captions import fold, has_trigger, with_trigger
from trainer.pictures.gather import Picture
from trainer.pictures.wording import Wording, word

# Of scenes that everybody's base knows, the first is taken that the captions say nothing of.
SCENES = (
    "on a beach at sunset", "in a snowy forest", "in a busy street at night", "on a table in a kitchen",
    "by a mountain lake", "in an empty white room",
)  # fmt: skip


def default_prompts(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Return prompts that show whether something is learned, and whether it stays where it belongs.

    They are two captions as they are trained, the trigger in a scene that the pictures do not have, and that scene
    without the trigger, which is to stay what the base makes of it. Without a trigger there is one prompt with the
    scene.

    Args:
        pictures: of the run; those of regularisation do not count.
    """
    taught = [picture for picture in pictures if not picture.prior]
    called = [replace(picture.wording, shuffle="off", tag_dropout=0.0) for picture in taught]
    texts = [
        word(picture.entry.captions[:1], said, 0, picture.entry.id, 0)
        for picture, said in zip(taught, called, strict=True)
    ]
    distinct = list(dict.fromkeys(filter(None, texts)))
    captions = distinct[:1] + distinct[len(distinct) // 2 :][:1] if len(distinct) > 1 else distinct
    said = called[0] if called else Wording()
    said = replace(said, trigger=fold(said.trigger), class_word=fold(said.class_word))
    return tuple(dict.fromkeys([*captions, *_in_a_new_scene(said, texts)]))


def _in_a_new_scene(said: Wording, texts: list[str]) -> list[str]:
    known = {piece.strip(".,").lower() for text in texts for piece in text.split()}
    scene = next((scene for scene in SCENES if known.isdisjoint(_things(scene))), SCENES[0])
    plain = f"{said.class_word} {scene}" if said.class_word else scene.split(" ", 1)[1]  # "a beach at sunset"
    if not said.trigger:
        return [plain]
    if not said.class_word:
        return [with_trigger(plain, said.trigger), plain]
    whole = said.trigger if has_trigger(said.trigger, said.class_word) else f"{said.trigger} {said.class_word}"
    return [f"{whole} {scene}", plain]


def _things(scene: str) -> set[str]:
    return {piece for piece in scene.split() if len(piece) > 4}
