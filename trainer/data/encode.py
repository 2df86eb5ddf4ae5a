"""Pictures to latents: decoded in threads, a few ahead of the VAE, which gets several of one shape at a time."""

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from trainer.contract.errors import UserError
from trainer.data.views import CachedPicture, Latents, View
from trainer.device import Engine
from trainer.pictures.buckets import Bucket
from trainer.pictures.decode import Decoded, decode, decode_picture, read_bytes
from trainer.pictures.measure import READERS
from trainer.protocols import Family

Told = Callable[[str, int, int], None]
AHEAD = 2 * READERS  # pictures that are decoded before the VAE asks for them: memory is bounded
ENCODED_PIXELS = 4 * 512 * 512  # of the pictures that the VAE gets at a time


class Want(NamedTuple):
    """A view that the store does not have, or not all of it.

    Attributes:
        row, view: which.
        latents, mask: what is missing.
    """

    row: CachedPicture
    view: View
    latents: bool
    mask: bool


class Made(NamedTuple):
    """What became of the pictures.

    Attributes:
        trouble: picture -> why it cannot be used.
        seconds: that it took.
        waited: seconds of them in which the VAE waited for a picture to be decoded.
    """

    trouble: dict[str, str]
    seconds: float
    waited: float


class Prepared(NamedTuple):
    """A picture ready to be encoded.

    Attributes:
        key: of the picture.
        pixels: (shape, view, [H, W, 3] bytes not mirrored yet) of every view that is missing.
        masks: (view, [h, w] float32) of every mask that is missing.
        trouble: why it cannot be used; empty where it can.
    """

    key: str
    pixels: Sequence[tuple[Bucket, View, np.ndarray]] = ()
    masks: Sequence[tuple[View, np.ndarray]] = ()
    trouble: str = ""


@dataclass
class Encoding:
    """Pictures on their way through the VAE.

    Attributes:
        family: encodes.
        latents: takes what is made.
        trouble: picture -> why it cannot be used.
    """

    family: Family
    latents: Latents
    trouble: dict[str, str] = field(default_factory=dict)
    _waiting: dict[Bucket, list[tuple[str, View, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, picture: Prepared) -> None:
        """Encode its views as soon as there are enough of their shape."""
        if picture.trouble:
            self.trouble[picture.key] = picture.trouble
        for view, mask in picture.masks:
            self.latents.add(view.mask, {"mask": torch.from_numpy(mask)})
        for bucket, view, pixels in picture.pixels:
            self._waiting[bucket].append((picture.key, view, pixels))
            if len(self._waiting[bucket]) >= at_once(self.family.engine, bucket):
                self._encode(self._waiting.pop(bucket))

    def rest(self) -> None:
        """Encode what is left."""
        for waiting in self._waiting.values():
            self._encode(waiting)
        self._waiting.clear()

    def _encode(self, views: Sequence[tuple[str, View, np.ndarray]]) -> None:
        pixels = torch.stack([to_pixels(array, view.mirrored) for _, view, array in views])
        made = self.family.encode_pictures(pixels)
        for index, (key, view, _) in enumerate(views):
            mean, std = made.mean[index].cpu(), made.std[index].cpu()
            if mean.isfinite().all() and std.isfinite().all():
                self.latents.add(view.latents, {"mean": mean.clone(), "std": std.clone()})
            else:
                self.trouble[key] = "the base's VAE gives no finite latents for this picture"


def to_pixels(array: np.ndarray, mirrored: bool = False) -> Tensor:
    """RGB bytes [H, W, 3] -> [3, H, W] float32 in -1..1."""
    pixels = torch.from_numpy(array).permute(2, 0, 1).float().div_(127.5).sub_(1.0)
    return pixels.flip(2) if mirrored else pixels


def at_once(engine: Engine, bucket: Bucket) -> int:
    """Pictures that the VAE gets together. One where the same bits are promised, whatever was made before."""
    if engine.device.type == "cpu" or engine.deterministic:
        return 1
    return max(1, ENCODED_PIXELS // (bucket.width * bucket.height))


def make_missing(rows: Sequence[CachedPicture], family: Family, latents: Latents, told: Told) -> Made:
    """Encode what the store does not have.

    Args:
        rows: what is wanted.
        family: encodes.
        latents: says what is there, takes what is made.
        told: hears what is being done, pictures done, pictures in all.
    """
    began, waited = time.perf_counter(), 0.0
    encoding, total = Encoding(family, latents), len({row.key for row in rows})
    asked: set[Want] = set()
    # Again for those that waited for what they share with one that turned out to be unusable.
    while missing := wants([row for row in rows if row.key not in encoding.trouble], latents):
        wanted = {want for several in missing.values() for want in several}
        lost = {want.row.key: "what was made of it cannot be read back from the disk" for want in wanted & asked}
        encoding.trouble.update(lost)
        asked |= wanted
        left = [several for key, several in missing.items() if key not in lost]
        with ThreadPoolExecutor(READERS) as pool:
            prepared = ahead(pool, lambda several: prepare(several, family), left)
            for done, future in enumerate(prepared, start=total - len(missing) + 1):
                before = time.perf_counter()
                picture = future.result()
                waited += time.perf_counter() - before
                encoding.take(picture)
                told("reading pictures", done, total)
        encoding.rest()
    return Made(encoding.trouble, time.perf_counter() - began, waited)


def wants(rows: Sequence[CachedPicture], latents: Latents) -> dict[str, list[Want]]:
    """What is missing of each picture; what several views share is asked for once."""
    asked: set[str] = set()
    missing: dict[str, list[Want]] = defaultdict(list)
    for row in rows:
        for view in row.views:
            lost = [key != "" and key not in asked and not latents.find(key) for key in (view.latents, view.mask)]
            if any(lost):
                missing[row.key].append(Want(row, view, *lost))
                asked |= {view.latents, view.mask}
    return missing


def ahead(pool: ThreadPoolExecutor, work: Callable, items: Iterable) -> Iterator[Future]:
    """Work on items in a pool, never more than `AHEAD` of them before they are asked for; in their order."""
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= AHEAD:
            yield waiting.popleft()
    yield from waiting


def prepare(wanted: Sequence[Want], family: Family) -> Prepared:
    """Decode a picture once and cut all its missing views out of it."""
    first = wanted[0].row
    try:
        data = read_bytes(Path(first.file))
        if hashlib.sha256(data).hexdigest() != first.digest:
            return Prepared(first.key, trouble="the file was changed since the run first read it")
        found = decode(data, first.file, ImageColor.getrgb(first.background)[:3])
        image = found.picture
        if image.size != first.size:
            trouble = f"its header says {first.size[0]}x{first.size[1]}, and it has {image.width}x{image.height} pixels"
            return Prepared(first.key, trouble=trouble)
        mask = _open_mask(first, found) if any(want.mask for want in wanted) else None
    except UserError as error:
        mask_name = f"{Path(error.where).name}: " if first.mask_file and error.where == first.mask_file else ""
        return Prepared(first.key, trouble=f"{mask_name}{error.problem} {error.fix}")
    pixels = [(row.bucket, view, _cut(image, row.bucket, view)) for row, view, latents, _ in wanted if latents]
    masks = [(view, _cut_mask(mask, row, view, family)) for row, view, _, lost in wanted if mask and lost]
    return Prepared(first.key, pixels, masks)


def _cut(image: Image.Image, bucket: Bucket, view: View) -> np.ndarray:
    kept = image.resize((bucket.width, bucket.height), Image.Resampling.LANCZOS, box=view.box)
    return np.array(kept)


def _open_mask(row: CachedPicture, found: Decoded) -> Image.Image:
    if row.mask_file:
        data = read_bytes(Path(row.mask_file))
        if hashlib.sha256(data).hexdigest() != row.mask_digest:
            fix = "Start a new run to train with it."
            raise UserError("The mask was changed since the run first read it.", row.mask_file, fix)
        return decode_picture(data, row.mask_file).convert("L")
    return found.alpha or Image.new("L", row.size, 255)


def _cut_mask(mask: Image.Image, row: CachedPicture, view: View, family: Family) -> np.ndarray:
    """[h, w]: the mask's mean over each latent pixel."""
    _, height, width = family.latent_shape(row.bucket.width, row.bucket.height)
    across, down = mask.width / row.size[0], mask.height / row.size[1]
    left, top, right, bottom = view.box
    box = left * across, top * down, min(right * across, mask.width), min(bottom * down, mask.height)
    array = np.array(mask.resize((width, height), Image.Resampling.BOX, box=box), dtype=np.float32) / 255
    return np.ascontiguousarray(array[:, ::-1] if view.mirrored else array)
