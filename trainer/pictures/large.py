"""Very large pictures, of which a half, a quarter or an eighth is enough to train on and to look at."""

Size = tuple[int, int]
LARGE = 2**26  # pixels: what the best cameras make stays as it is, panoramas and posters do not
LEAST_SIDE = 2048  # pixels that the short side keeps, more than any base is trained at
MOST = 8  # what a JPEG can be divided by while it is decoded


def divisor(size: Size) -> int:
    """What the sides of a picture of (width, height) pixels are divided by when it is decoded: 1, 2, 4 or 8."""
    by = 1
    while by < MOST and size[0] * size[1] > LARGE * by**2 and min(size) >= 2 * by * LEAST_SIDE:
        by *= 2
    return by


def reduced(size: Size) -> Size:
    """(width, height) of a picture once it is decoded."""
    by = divisor(size)
    return -(-size[0] // by), -(-size[1] // by)
