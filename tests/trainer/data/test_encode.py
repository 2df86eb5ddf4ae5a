"""From a picture to the pixels that the VAE gets."""

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.data.encode import _cut
from trainer.data.views import View
from trainer.pictures.buckets import CENTRE, Bucket, crop_box

AT = st.tuples(st.floats(0, 1), st.floats(0, 1))


def cut(image, bucket, at=CENTRE):
    return Image.fromarray(_cut(image, bucket, View(crop_box(image.size, bucket, at), False, (), "")))


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), AT)
def test_any_picture_fits(size, at):
    assert cut(Image.new("RGB", size), Bucket(24, 16), at).size == (24, 16)


def test_the_centre_is_kept_and_the_overhang_cut():
    image = Image.new("RGB", (40, 10), "blue")
    image.paste((255, 0, 0), (15, 0, 25, 10))  # a red square in the middle
    assert crop_box(image.size, Bucket(8, 8)) == (15, 0, 25, 10)
    whole = image.resize((32, 8), Image.Resampling.LANCZOS)
    assert cut(image, Bucket(8, 8)).tobytes() == whole.crop((12, 0, 20, 8)).tobytes()
    assert cut(image, Bucket(8, 8), at=(0, 0)).getpixel((0, 0)) == (0, 0, 255)
