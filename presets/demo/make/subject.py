"""An invented creature for subject training, called zubo: a violet pear with one eye, two horns and a striped scarf.

Drawn from geometry alone, four times too large and scaled down for smooth edges. The name is no word: the tokenizer
splits it in four, and no caption of the base's corpus has it.
"""

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

TRIGGER = "zubo"
SIZE = 128
SCALE = 4
SKIN, SHADE, BELLY, HORN, MINT, CREAM, INK = "#7d4fd6", "#5f37b0", "#d9c2f7", "#ff9f2e", "#35d0a5", "#fff7e0", "#261a3d"


@dataclass(frozen=True)
class Pose:
    """How the creature stands: angles in degrees from hanging down, lengths as shares of its height."""

    left_arm: float = 25
    right_arm: float = 25
    stride: float = 0.0  # how far apart the feet are, beyond standing
    lift: float = 0.0  # feet off the ground
    lean: float = 0.0  # degrees, clockwise
    eye: str = "open"  # open, closed, left, right
    mouth: str = "smile"  # smile, open, flat
    size: float = 0.86  # height as a share of the picture's
    x: float = 0.5  # centre, as a share of the picture's width
    background: str = "white"


class Pen:
    """Draws in units of the creature's height, (0, 0) between its feet, y upwards, on SCALE * SIZE pixels."""

    def __init__(self, pose: Pose) -> None:
        self.side = SCALE * SIZE
        self.layer = Image.new("RGBA", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.layer)
        self.unit = pose.size * self.side * 0.92
        self.origin = pose.x * self.side, self.side * (0.5 + 0.5 * pose.size * 0.96)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        return self.origin[0] + x * self.unit, self.origin[1] - y * self.unit

    def oval(self, x: float, y: float, wide: float, high: float, fill: str) -> None:
        """An ellipse about (x, y)."""
        left, bottom = self.at(x - wide / 2, y - high / 2)
        right, top = self.at(x + wide / 2, y + high / 2)
        self.draw.ellipse((left, top, right, bottom), fill)

    def limb(self, points: list[tuple[float, float]], width: float, fill: str) -> None:
        """A line with round ends."""
        pixels = [self.at(*point) for point in points]
        self.draw.line(pixels, fill, round(width * self.unit), "curve")
        for x, y in points:
            self.oval(x, y, width, width, fill)

    def shape(self, points: list[tuple[float, float]], fill: str) -> None:
        """A polygon."""
        self.draw.polygon([self.at(*point) for point in points], fill)


def legs(pen: Pen, pose: Pose) -> None:
    """Two short legs with mint feet."""
    for side in (-1, 1):
        foot = side * (0.12 + pose.stride), pose.lift * (0.4 if side > 0 else 0)
        pen.limb([(side * 0.11, 0.2), (foot[0], foot[1] + 0.06)], 0.09, SHADE)
        pen.oval(foot[0] + side * 0.02, foot[1] + 0.04, 0.19, 0.09, MINT)


def arm(pen: Pen, side: int, angle: float) -> None:
    """One arm, raised by `angle` degrees from hanging down."""
    turn = math.radians(angle)
    hand = side * (0.27 + 0.24 * math.sin(turn)), 0.42 - 0.24 * math.cos(turn)
    pen.limb([(side * 0.25, 0.42), hand], 0.075, SHADE)
    pen.oval(*hand, 0.11, 0.11, MINT)


def body(pen: Pen) -> None:
    """A pear with two horns, a pale belly and a striped scarf."""
    for side in (-1, 1):
        pen.shape([(side * 0.07, 0.88), (side * 0.19, 0.83), (side * 0.21, 1.03)], HORN)
    pen.oval(0, 0.36, 0.6, 0.56, SKIN)
    pen.oval(0, 0.68, 0.47, 0.48, SKIN)
    pen.oval(0, 0.29, 0.36, 0.32, BELLY)
    pen.limb([(-0.2, 0.47), (0, 0.44), (0.2, 0.47)], 0.085, MINT)
    for x in (-0.15, -0.05, 0.05, 0.15):
        pen.limb([(x - 0.012, 0.425 + abs(x) * 0.15), (x + 0.012, 0.475 + abs(x) * 0.15)], 0.03, CREAM)


def face(pen: Pen, pose: Pose) -> None:
    """One eye and a mouth."""
    if pose.eye == "closed":
        pen.limb([(-0.1, 0.72), (0, 0.69), (0.1, 0.72)], 0.028, INK)
    else:
        look = {"left": -0.045, "right": 0.045}.get(pose.eye, 0)
        pen.oval(0, 0.73, 0.27, 0.27, CREAM)
        pen.oval(look, 0.73, 0.14, 0.16, INK)
        pen.oval(look - 0.03, 0.765, 0.045, 0.045, "white")
    if pose.mouth == "open":
        pen.oval(0, 0.545, 0.13, 0.09, INK)
    else:
        drop = 0.02 if pose.mouth == "smile" else 0
        pen.limb([(-0.065, 0.56), (0, 0.56 - drop), (0.065, 0.56)], 0.022, INK)


def draw(pose: Pose) -> Image.Image:
    """The creature in a pose: RGB, SIZE x SIZE."""
    pen = Pen(pose)
    legs(pen, pose)
    arm(pen, -1, pose.left_arm)
    arm(pen, 1, pose.right_arm)
    body(pen)
    face(pen, pose)
    middle = pen.at(0, 0.45)
    figure = pen.layer.rotate(-pose.lean, Image.Resampling.BICUBIC, center=middle)
    picture = Image.new("RGBA", figure.size, pose.background)
    shift = round(pose.lift * pen.unit)
    picture.alpha_composite(figure.crop((0, shift, pen.side, pen.side)), (0, 0))
    return picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
