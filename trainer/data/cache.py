"""Latents and captions, computed once and kept in the run folder: a resume sees what the first start saw.

An edited picture is never served stale, because the cache belongs to one run and its config is frozen.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.contract.config import DatasetSection
from trainer.contract.errors import UserError
from trainer.contract.files import replace_atomic
from trainer.pictures.buckets import Bucket, Size, crop_box, fit, make_buckets, nearest
from trainer.pictures.captions import with_trigger
from trainer.pictures.decode import open_picture
from trainer.pictures.folder import Scan, fingerprint, scan
from trainer.protocols import Family, Posterior

FORM = "2"  # of the file; it changes with what a row holds
Sizes = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class CachedPicture:
    """One picture as training sees it.

    Attributes:
        name: its file, for messages.
        caption: with the trigger in it.
        bucket: size in pixels it was brought to.
        sizes: original height and width, top and left of the crop, target height and width; the crop in pixels of the
            resized picture.
        views: its posterior, and that of its mirror image where flipping is on.
    """

    name: str
    caption: str
    bucket: Bucket
    sizes: Sizes
    views: tuple[Posterior, ...]


@dataclass(frozen=True)
class Cache:
    """Everything the run needs of its pictures.

    Attributes:
        pictures: in the order of the folder.
        fingerprint: of the pictures and captions.
        skipped: a sentence for each file that could not be used.
    """

    pictures: tuple[CachedPicture, ...]
    fingerprint: str
    skipped: tuple[str, ...]


def to_pixels(image: Image.Image) -> Tensor:
    """RGB picture -> [3, H, W] float32 in -1..1."""
    array = torch.from_numpy(np.array(image, dtype=np.float32))
    return array.permute(2, 0, 1).div_(127.5).sub_(1.0)


def build_cache(path: Path, family: Family, options: DatasetSection, on_progress: Callable[[int, int], None]) -> Cache:
    """Return the run's cache, from disk where it is there, else made from the folder.

    Args:
        path: the cache's file in the run folder.
        family: encodes the pictures.
        options: the dataset section.
        on_progress: told (pictures done, pictures in all).

    Raises:
        UserError: no folder, no pictures, or a picture that the VAE cannot encode.
    """
    if path.exists() and (kept := read_cache(path)):
        return kept
    found = scan(Path(options.path))
    resolution = family.resolution if options.resolution == "auto" else options.resolution
    if resolution < family.step:
        raise UserError(
            f"{resolution} pixels is too small", "dataset.resolution", f"This base needs {family.step} pixels or more."
        )
    buckets = make_buckets(resolution, family.step)
    pictures = []
    for index, record in enumerate(found.records):
        bucket = nearest(record.size, buckets)
        image = fit(open_picture(record.path), bucket)
        sides = (image, ImageOps.mirror(image)) if options.flip else (image,)
        views = tuple(family.encode_picture(to_pixels(side)) for side in sides)
        if not all(torch.isfinite(view.mean).all() and torch.isfinite(view.std).all() for view in views):
            raise UserError(
                "the base's VAE gives no finite latents for this picture", str(record.path), "Take it out of the set."
            )
        caption = with_trigger(record.caption, options.trigger)
        inside = record.path.is_relative_to(options.path)  # a set may refer to pictures that lie elsewhere
        name = record.path.relative_to(options.path).as_posix() if inside else record.path.name
        pictures.append(
            CachedPicture(
                name,
                caption,
                bucket,
                crop_sizes(record.size, bucket),
                tuple(Posterior(v.mean.cpu(), v.std.cpu()) for v in views),
            )
        )
        on_progress(index + 1, len(found.records))
    cache = Cache(tuple(pictures), fingerprint(found.records), _sentences(found))
    write_cache(path, cache)
    return cache


def crop_sizes(size: Size, bucket: Bucket) -> Sizes:
    """What SDXL is told of a picture of `size` (width, height) that was brought to `bucket`. See `CachedPicture`."""
    left, top, right, _ = crop_box(size, bucket)
    scale = bucket.width / (right - left)
    return size[1], size[0], round(top * scale), round(left * scale), bucket.height, bucket.width


def _sentences(found: Scan) -> tuple[str, ...]:
    return tuple(f"{item.path.name}: {item.reason}" for item in found.skipped)


def write_cache(path: Path, cache: Cache) -> None:
    """Write a cache as one safetensors file."""
    tensors, rows = {}, []
    for index, picture in enumerate(cache.pictures):
        sides = picture.bucket.width, picture.bucket.height
        rows.append([picture.name, picture.caption, sides, picture.sizes, len(picture.views)])
        for view, posterior in enumerate(picture.views):
            tensors[f"{index}.{view}.mean"], tensors[f"{index}.{view}.std"] = (
                posterior.mean.contiguous(),
                posterior.std.contiguous(),
            )
    about = {
        "form": FORM,
        "pictures": json.dumps(rows),
        "fingerprint": cache.fingerprint,
        "skipped": json.dumps(cache.skipped),
    }
    replace_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=about))


def read_cache(path: Path) -> Cache | None:
    """Read back what `write_cache` wrote; None where another version of it did, in another form."""
    with safe_open(path, framework="pt") as stored:
        about = stored.metadata()
        if about.get("form") != FORM:
            return None
        pictures = []
        for index, (name, caption, sides, sizes, views) in enumerate(json.loads(about["pictures"])):
            read = [
                Posterior(*(stored.get_tensor(f"{index}.{view}.{part}") for part in ("mean", "std")))
                for view in range(views)
            ]
            pictures.append(CachedPicture(name, caption, Bucket(*sides), tuple(sizes), tuple(read)))
    return Cache(tuple(pictures), about["fingerprint"], tuple(json.loads(about["skipped"])))
