"""Every kind of file must come out as a viewer shows it."""

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from trainer.contract.errors import UserError
from trainer.pictures import decode as decoding
from trainer.pictures.decode import BEGINNING, decode, is_srgb, looks_like_picture, open_picture

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def two_halves() -> Image.Image:
    """8 x 4, left red, right blue."""
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (4, 0, 8, 4))
    return image


def close(found: object, wanted: tuple[int, int, int], within: int = 2) -> bool:
    return isinstance(found, tuple) and all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


# Where the first row and the first column of the file lie in the upright picture (EXIF 2.3, tag 274).
SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(48, 32), (32, 48)], ids=["landscape", "portrait"])
@pytest.mark.parametrize("orientation", SIDES)
def test_exif_orientation_is_applied(tmp_path, kind, size, orientation):
    upright = np.zeros((size[1], size[0], 3), np.uint8)
    upright[: size[1] // 2, :, 0] = 255
    upright[:, : size[0] // 2, 2] = 255
    rows, columns = SIDES[orientation]
    lying = upright if rows in ("top", "bottom") else upright.swapaxes(0, 1)
    lying = lying[:: -1 if rows in ("bottom", "right") else 1, :: -1 if columns in ("bottom", "right") else 1]
    exif = Image.Exif()
    exif[274] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    Image.fromarray(np.ascontiguousarray(lying)).save(tmp_path / "a.bin", kind, exif=exif, **options)
    picture = open_picture(tmp_path / "a.bin")
    assert picture.size == size
    assert np.abs(np.asarray(picture, dtype=int) - upright).max() <= 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_lose_the_picture(tmp_path):
    two_halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", quality=100)
    assert open_picture(tmp_path / "a.jpg").size == (8, 4)


def test_heic_is_read_and_turned_once():
    picture = open_picture(Path(__file__).parent / "files" / "turned.heic")
    assert picture.format == "HEIF"
    assert picture.size == (32, 64)
    assert close(picture.getpixel((16, 4)), RED, 12)
    assert close(picture.getpixel((16, 60)), BLUE, 12)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_formats_are_known_by_content_whatever_the_suffix(tmp_path, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.new("RGB", (16, 16), RED).save(tmp_path / "file.jpg", kind, **options)
    picture = open_picture(tmp_path / "file.jpg")
    assert (picture.mode, picture.format) == ("RGB", kind)
    assert close(picture.getpixel((8, 8)), RED, 6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_converted_and_not_kept(tmp_path, mode):
    # A profile with red and green swapped: what its file calls pure red is sRGB green.
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = tag_slot(swapped, b"rXYZ"), tag_slot(swapped, b"gXYZ")
    data = bytearray(swapped)
    data[red : red + 8], data[green : green + 8] = swapped[green : green + 8], swapped[red : red + 8]
    Image.new("RGB", (4, 4), RED).convert(mode).save(tmp_path / "a.png", icc_profile=bytes(data))
    picture = open_picture(tmp_path / "a.png")
    assert close(picture.getpixel((0, 0)), (0, 255, 0), 3)
    picture.save(tmp_path / "again.png")
    with Image.open(tmp_path / "again.png") as stored:
        assert "icc_profile" not in stored.info


def tag_slot(profile: bytes, tag: bytes) -> int:
    """Where the (offset, length) of a tag stands in an ICC profile's table (ICC.1:2022, 7.3)."""
    return profile.index(tag, 128) + 4


def test_a_grey_profile_is_converted(tmp_path):
    for mode in ("L", "LA"):
        Image.new("L", (4, 4), 128).convert(mode).save(tmp_path / "a.png", icc_profile=linear_grey())
        assert close(open_picture(tmp_path / "a.png").getpixel((0, 0)), (188, 188, 188))  # 128 / 255 on sRGB's curve


def linear_grey() -> bytes:
    """A grey profile without a curve: the smallest that ICC.1:2022 (8.4.4) allows a reader to use."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    curve = b"curv\0\0\0\0\0\0\0\0"
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 12)
    head = struct.pack(">I4sI4s4s4s12s4s", 188, b"", 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"", b"acsp")
    return head.ljust(68, b"\0") + white[8:] + b"\0" * 48 + table + white + curve


def test_ink_is_converted_through_its_profile(tmp_path):
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    ink.save(tmp_path / "a.jpg", quality=100, icc_profile=odd_ink())
    ink.save(tmp_path / "a.tif", icc_profile=odd_ink())
    for name in ("a.jpg", "a.tif"):
        assert close(open_picture(tmp_path / name).getpixel((8, 8)), (119, 119, 119)), name  # L* = 50 on sRGB's curve


def odd_ink() -> bytes:
    """A press whose cyan ink is a middle grey and whose other inks are black (ICC.1:2022, 10.11: lut8Type)."""
    paper, grey, black = (255, 128, 128), (128, 128, 128), (0, 128, 128)
    corners = [{(0, 0, 0, 0): paper, (1, 0, 0, 0): grey}.get(corner, black) for corner in np.ndindex(2, 2, 2, 2)]
    identity = struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
    lut = b"mft1\0\0\0\0\4\3\2\0" + identity + bytes(range(256)) * 4 + bytes(sum(corners, ())) + bytes(range(256)) * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"A2B0", 176, len(lut))
    head = struct.pack(">I4sI4s4s4s12s4s", 176 + len(lut), b"", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp")
    return head.ljust(68, b"\0") + white[8:] + b"\0" * 48 + table + white + lut


def test_only_a_profile_that_changes_nothing_counts_as_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = tag_slot(srgb, b"rXYZ"), tag_slot(srgb, b"gXYZ")
    swapped = bytearray(srgb)
    swapped[red : red + 8], swapped[green : green + 8] = srgb[green : green + 8], srgb[red : red + 8]
    assert is_srgb(srgb, "RGB") and not is_srgb(bytes(swapped), "RGB")
    assert not is_srgb(linear_grey(), "L")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_a_profile_that_does_not_fit_is_ignored(tmp_path, mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in (("fits-not.tif", profile), ("broken.tif", b"no profile at all")):
        Image.new("RGB", (4, 4), WHITE).convert(mode).save(tmp_path / name, icc_profile=icc)
        assert close(open_picture(tmp_path / name).getpixel((0, 0)), WHITE)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.array([[0, 255, 257, 0x8080, 0xFFFF]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        grey = np.asarray(open_picture(tmp_path / name))[0, :, 0]
        assert grey.tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (6, 4), (0, 1), (4, 2)])
def test_sixteen_bits_of_colour_are_scaled(tmp_path, colours, channels):
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[..., -1] = 0xFFFF
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 8, 8, 16, colours, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    found = np.asarray(open_picture(tmp_path / "a.png"), dtype=float)
    wanted = values[..., : 3 if channels > 2 else 1] / 257
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_floating_point_is_scaled_from_its_own_range(tmp_path, full):
    values = np.array([[0.0, full / 2, full, np.nan]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(open_picture(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 128, 255, 0]


def test_transparency_shows_the_background(tmp_path):
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.save(tmp_path / "rgba.png")
    clear.convert("LA").save(tmp_path / "la.png")
    clear.save(tmp_path / "clear.webp", lossless=True, exact=True)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    Image.new("RGB", (4, 4), RED).save(tmp_path / "colour-key.png", transparency=RED)
    for name in ("rgba.png", "la.png", "clear.webp", "p.png", "colour-key.png"):
        assert open_picture(tmp_path / name).getpixel((0, 0)) == WHITE, name
        assert open_picture(tmp_path / name, background=(1, 2, 3)).getpixel((0, 0)) == (1, 2, 3), name


def test_what_was_transparent_is_told_and_only_where_it_was():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    assert decode(data_of(clear), "a").alpha is None
    clear.putpixel((1, 2), (255, 0, 0, 7))
    alpha = decode(data_of(clear), "a").alpha
    assert alpha.mode == "L" and np.argwhere(np.asarray(alpha) != 255).tolist() == [[2, 1]]
    bits = decode(data_of(clear, "BMP"), "a")
    assert bits.alpha is None or bits.alpha.getpixel((1, 2)) == 7, "a 32-bit BMP has alpha or filling there"


def data_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_what_needs_nothing_done_is_told(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    assert decode(data_of(two_halves(), "JPEG"), "a").plain
    assert not decode(data_of(two_halves(), "JPEG", exif=exif), "a").plain
    assert not decode(data_of(two_halves().convert("CMYK"), "JPEG"), "a").plain


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_more_frames_or_pages_are_told(kind):
    frames = [two_halves().resize((16, 16)), Image.new("RGB", (16, 16), BLUE)]
    assert decode(data_of(frames[0], kind, save_all=True, append_images=frames[1:]), "a").several
    assert not decode(data_of(frames[0], kind), "a").several


def test_beginnings_of_pictures_are_known():
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"):
        assert looks_like_picture(data_of(two_halves().resize((16, 16)), kind)[:BEGINNING]), kind
    assert not looks_like_picture(b"hello, this is no picture") and not looks_like_picture(b"")


def test_half_transparent_is_mixed(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert close(open_picture(tmp_path / "a.png").getpixel((0, 0)), (255, 127, 127))
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "la.png")
    assert close(open_picture(tmp_path / "la.png").getpixel((0, 0)), (127, 127, 127))


def test_one_bit_and_palettes_keep_their_colours(tmp_path):
    Image.new("1", (9, 4), 1).save(tmp_path / "one.png")
    assert open_picture(tmp_path / "one.png").getpixel((8, 3)) == WHITE
    two_halves().quantize(2).save(tmp_path / "p.png", bits=1)
    assert open_picture(tmp_path / "p.png").getpixel((0, 0)) == RED
    assert open_picture(tmp_path / "p.png").getpixel((7, 3)) == BLUE


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert close(open_picture(tmp_path / "a.jpg").getpixel((8, 8)), RED, 6)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert close(open_picture(tmp_path / name).getpixel((0, 0)), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_file_cut_off_is_named(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, kind)
    path = tmp_path / "half.img"
    path.write_bytes(file.getvalue()[: len(file.getvalue()) * 2 // 3])
    with pytest.raises(UserError) as caught:
        open_picture(path)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    # EPS is a picture to Pillow, and would start Ghostscript.
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\n")
    for name, words in (("empty.png", "empty"), ("text.png", "not a picture"), ("script.png", "not a picture")):
        with pytest.raises(UserError, match=words):
            open_picture(tmp_path / name)
    with pytest.raises(UserError, match="could not be read"):
        open_picture(tmp_path / "missing.png")


@pytest.mark.parametrize("size", [4 * 2**20, 2**28])
def test_long_texts_do_not_lose_the_picture_and_bombs_of_text_do_no_harm(size):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * size, zip=True)
    data = data_of(two_halves(), pnginfo=info)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(data, "a").picture.tobytes() == two_halves().tobytes()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB, on Linux


def test_a_picture_that_says_it_is_huge_is_refused_in_our_words(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;")
    with pytest.raises(UserError, match=r"larger than 178 megapixels \(4294 megapixels\)"):
        open_picture(tmp_path / "a.gif")


def test_too_many_pixels_or_bytes_are_refused_before_decoding(tmp_path, monkeypatch):
    two_halves().save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 31)
    with pytest.raises(UserError, match=r"larger than .* megapixels .*8 x 4"):
        open_picture(tmp_path / "a.png")
    with pytest.raises(UserError, match="at most 0 MiB"):
        decoding.read_bytes(tmp_path / "a.png", limit=10)


def test_the_clear_grey_of_sixteen_bits_stays_clear():
    file = io.BytesIO()
    Image.fromarray(np.array([[3000, 3001, 65535]], dtype=np.uint16)).save(file, "PNG", transparency=3000)
    found = decode(file.getvalue(), "", (255, 0, 0))
    assert list(np.asarray(found.alpha)[0]) == [0, 255, 255]
    assert list(map(found.picture.getpixel, ((0, 0), (1, 0)))) == [(255, 0, 0), (12, 12, 12)]


@pytest.mark.parametrize(
    ("bits", "signed", "levels"), [(12, 1, (0, 2048, 4095)), (16, 2, (0, 16384, 32767)), (16, 1, (0, 32768, 65535))]
)
def test_white_is_what_a_tiff_says_it_is(bits, signed, levels):
    packed = np.array([levels], dtype="<u2")
    data = packed.tobytes() if bits == 16 else bytes.fromhex("000800fff0")  # 12 bits each, the first ones first
    tags = ((256, 3), (257, 1), (258, bits), (259, 1), (262, 1), (273, 134), (277, 1), (278, 1), (279, len(data)),
            (339, signed))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag != 339 else 3, 1, value) for tag, value in tags)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    found = np.asarray(decode(head + data, "").picture)[0, :, 0].astype(int)
    assert found.tolist() == [0, pytest.approx(128, abs=1), 255]


def test_highlights_and_faults_of_floating_point_do_not_make_the_rest_dark():
    file = io.BytesIO()
    levels = np.array([[0.0, 0.5, 1.0, 1.04, np.inf, np.nan, -np.inf, -0.1]], dtype=np.float32)
    Image.fromarray(levels).save(file, "TIFF")
    found = np.asarray(decode(file.getvalue(), "").picture)[0, :, 0].astype(int)
    assert found.tolist() == [0, 128, 255, 255, 255, 0, 0, 0]


def with_chunks(data, *chunks):
    """A PNG with more behind its header; each chunk with its kind, its data, and what its check sum is wrong by."""
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)
        for kind, body, wrong in chunks
    )
    return data[:33] + b"".join(made) + data[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"a\0b", 1),
        (b"iCCP", b"a\0\0" + zlib.compress(b"profile"), 1),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26), 1), 0),
        (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**26), 1), 0),
        (b"acTL", bytes(8), 0),
    ],
    ids=["text", "profile", "bomb of a profile", "bomb of a text", "no frames"],
)
def test_what_is_wrong_beside_a_picture_does_not_lose_it(chunk):
    file, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6
    two_halves().save(file, "PNG", exif=exif)
    whole = decode(file.getvalue(), "").picture
    found = decode(with_chunks(file.getvalue(), chunk), "").picture
    assert (found.size, found.tobytes()) == (whole.size, whole.tobytes())


def test_a_picture_that_breaks_off_in_its_head_is_not_called_unknown():
    with pytest.raises(UserError, match="damaged, or of a rare kind"):
        decode(b"II*\0\x08\0\0\0\0\0", "a.tif")


def test_a_profile_stays_out_of_the_mask(tmp_path):
    half = Image.new("LA", (4, 4), (128, 128))
    for name, picture, profile in (
        ("grey.png", half, linear_grey()),
        ("colour.png", half.convert("RGBA"), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    ):
        found = decode(data_of(picture, icc_profile=profile), name)
        assert found.alpha.info == {} and found.picture.info == {}
        assert decode(data_of(found.alpha), name).picture.getpixel((0, 0)) == (128, 128, 128)


def test_the_clear_colour_of_sixteen_bits_stays_clear():
    levels = np.array([[[0x1234, 0x5678, 0x9ABC], [0x34, 0x78, 0xBC]]], dtype=">u2")
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"tRNS", levels[0, 0].tobytes()),
             (b"IDAT", zlib.compress(b"\0" + levels.tobytes())), (b"IEND", b""))  # fmt: skip
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    found = decode(b"\x89PNG\r\n\x1a\n" + b"".join(made), "", (255, 0, 0))
    assert found.alpha is not None and list(np.asarray(found.alpha)[0]) == [0, 255]
    assert list(map(found.picture.getpixel, ((0, 0), (1, 0)))) == [(255, 0, 0), (0, 0, 0)]
