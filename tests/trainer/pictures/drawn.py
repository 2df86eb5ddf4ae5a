"""Pictures that look like something: coloured discs in random places."""

import random

from PIL import Image, ImageDraw


def discs(seed, size=(256, 256), count=25):
    """A sharp picture that no other seed comes near."""
    dice = random.Random(seed)
    width, height = (side * 2 for side in size)
    image = Image.new("RGB", (width, height), colour(dice))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        radius = dice.uniform(0.05, 0.3) * min(width, height)
        x, y = dice.uniform(0, width), dice.uniform(0, height)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour(dice))
    return image.resize(size, Image.Resampling.LANCZOS)


def colour(dice):
    return tuple(dice.randrange(256) for _ in "rgb")
