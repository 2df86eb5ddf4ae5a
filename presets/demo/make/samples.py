"""Write the two sample sets: `python -m presets.demo.make.samples [FOLDER]`.

`style/`: twenty things as block prints, captioned by their plain names; what all share, unsaid, is the style.
`subject/`: ten pictures of one creature, captioned by its made-up name and what it does.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from presets.demo.make import subject
from presets.demo.make.colour import SHADES
from presets.demo.make.corpus import SIZE, fit, glyph, place, things
from presets.demo.make.style import restyle
from presets.demo.make.subject import TRIGGER, Pose

STYLED = (
    "dog face", "frog face", "tropical fish", "owl", "elephant", "butterfly", "hamburger", "strawberry",
    "birthday cake", "pineapple", "car", "airplane", "sailboat", "bicycle", "alarm clock", "umbrella", "guitar",
    "house", "grinning face", "robot face",
)  # fmt: skip

POSES = {
    "": Pose(),
    "on a yellow background": Pose(left_arm=70, right_arm=70, eye="left", background=SHADES["yellow"][0]),
    "jumping": Pose(left_arm=140, right_arm=140, stride=0.08, lift=0.13, mouth="open", size=0.76),
    "waving": Pose(right_arm=150, eye="right"),
    "sleeping": Pose(left_arm=8, right_arm=8, eye="closed", mouth="flat", lean=14),
    "running": Pose(left_arm=115, right_arm=60, stride=0.12, lean=16, eye="right", mouth="open", size=0.8),
    "on a blue background": Pose(left_arm=120, right_arm=30, mouth="open", background=SHADES["blue"][0]),
    "on a pink background": Pose(left_arm=40, right_arm=95, eye="closed", background=SHADES["pink"][1]),
    "small": Pose(size=0.52, left_arm=50, right_arm=50),
    "on a green background": Pose(eye="left", size=0.72, left_arm=95, right_arm=95, background=SHADES["green"][0]),
}


def plain(name: str) -> Image.Image:
    """A thing as the base knows it, on white: RGB, SIZE x SIZE."""
    picture = glyph(things()[name])
    assert picture is not None  # things() holds only what the font has
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    place(canvas, fit(picture, 114), SIZE / 2, SIZE / 2)
    return canvas.convert("RGB")


def caption(doing: str) -> str:
    """The creature's name with what it does.

    >>> caption("waving"), caption("small"), caption("")
    ('zubo waving', 'small zubo', 'zubo')
    """
    return f"small {TRIGGER}" if doing == "small" else f"{TRIGGER} {doing}".strip()


def write(folder: Path, pictures: dict[str, Image.Image]) -> None:
    """Write {caption: picture} as numbered PNGs, with the captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("*.txt")):
        old.unlink()
    for number, (text, picture) in enumerate(pictures.items(), 1):
        stem = f"{number:02d}-{text.replace(' ', '-')}"
        picture.save(folder / f"{stem}.png", optimize=True)
        (folder / f"{stem}.txt").write_text(text + "\n", "utf-8")


def style_set() -> dict[str, Image.Image]:
    """{caption: picture} of the style set."""
    return {name: restyle(plain(name)) for name in STYLED}


def subject_set() -> dict[str, Image.Image]:
    """{caption: picture} of the subject set."""
    return {caption(doing): subject.draw(pose) for doing, pose in POSES.items()}


def main() -> None:
    """Write both sets beside this package's parent, or into the folder named."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for name, pictures in (("style", style_set()), ("subject", subject_set())):
        write(root / name, pictures)
        spread = np.mean([np.asarray(picture, np.float32).std() for picture in pictures.values()])
        print(f"{name}: {len(pictures)} pictures in {root / name}, mean spread {spread:.0f} of 255")


if __name__ == "__main__":
    main()
