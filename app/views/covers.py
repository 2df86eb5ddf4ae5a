"""The picture of an adapter: its run's sample, what lies beside its file, what is in it, or a coloured square."""

from pathlib import Path

from PIL import Image

from app.views import adapters, pictures
from app.views.shelf import Card
from trainer.contract.errors import UserError
from trainer.pictures.bundle import inner_cover


def copy(home: Path, card: Card, side: int) -> str:
    """Return the path of a copy that fits in a square of `side`."""
    picture = adapters.cover(card.item)
    found = picture and pictures.copy(home, picture, side)
    return found or _inner(home, card, side) or pictures.tile(home, card.item.name)


def _inner(home: Path, card: Card, side: int) -> str | None:
    item = card.item
    if card.seen is not None and not card.seen.cover:
        return None

    def draw() -> Image.Image | None:
        try:
            cover = inner_cover(item.path)
        except UserError:
            return None  # the card says what is wrong with the file
        return cover.image if cover else None

    return pictures.kept(home, f"inside {item.path}|{item.stamp}", draw, side)
