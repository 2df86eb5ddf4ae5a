"""Files that are broken or made to do harm: refused in under a second each, with flat memory and the reason."""

import gc
import json
import os
import pickle
import struct
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from trainer.contract.errors import UserError
from trainer.contract.tools import ResizeRequest
from trainer.export.opened import opened
from trainer.export.resizing import resize
from trainer.export.written import Written
from trainer.formats.clients.report import report
from trainer.formats.header import TensorInfo, open_tensors, read_header
from trainer.formats.inspect import inspect
from trainer.formats.kinds import KINDS, misfit

SECONDS, MEGABYTES = 1.0, 100
MODULE = "lora_unet_mid_block_attentions_0_proj_in"


def raw(text: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(name: str = "a", body: bytes = b"xxxx", **entry) -> bytes:
    whole = {"dtype": "F32", "shape": [1], "data_offsets": [0, len(body)]} | entry
    return raw(json.dumps({name: whole}).encode(), body)


def tensors(count: int) -> bytes:
    entry = '"t%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    return raw(("{" + ",".join(entry % (i, i, i + 1) for i in range(count)) + "}").encode(), b"x" * count)


def large(metadata: str) -> bytes:
    return raw(json.dumps({"__metadata__": {"note": metadata}}).encode())


TWICE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "only 0 bytes"),
    "five bytes": (lambda: b"12345", "only 5 bytes"),
    "a header of 2**63": (lambda: raw(b"{}", length=2**63), "length of a header"),
    "a header of 2**64 - 1": (lambda: raw(b"{}", length=2**64 - 1), "length of a header"),
    "a header of 90 MB, cut off": (lambda: raw(b"{}", length=90_000_000), "length of a header"),
    "a header longer than the file": (lambda: raw(b"{}", length=5000), "cut off"),
    "a header of no bytes": (lambda: raw(b"", b"x" * 20), "header of 0 bytes"),
    "not JSON": (lambda: raw(b"{not json}"), "not JSON"),
    "not text": (lambda: raw(b"\xff\xfe\xfd\xfc"), "not JSON"),
    "a list": (lambda: raw(b"[1,2]"), "not a JSON object"),
    "a number": (lambda: raw(b"12"), "not a JSON object"),
    "nested 10 000 deep": (lambda: raw(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "not JSON"),
    "nested a million deep": (lambda: raw(b"[" * 1_000_000), "as much else"),
    "a million empty lists": (lambda: raw(b'{"a":[' + b"[]," * 4_000_000 + b"1]}"), "as much else"),
    "as many lists as are allowed": (
        lambda: raw(b'{"a":[' + b"[]," * 340_000 + b"1]}"),
        "not dtype, shape and offsets",
    ),
    "as long a text as is allowed": (lambda: large("x" * 24_000_000) + b"x", "cut off"),
    "a number of a million digits": (lambda: raw(b'{"a":' + b"9" * 1_000_000 + b"}"), "not JSON"),
    "a name twice": (lambda: raw(TWICE, b"x"), "comes twice"),
    "a name twice, once escaped": (lambda: raw(TWICE.replace(b'"a":{', b'"\\u0061":{', 1), b"x"), "comes twice"),
    "half a surrogate pair for a name": (lambda: one("\ud800"), "surrogates not allowed"),
    "half a surrogate pair for a title": (lambda: large("\udfff"), "surrogates not allowed"),
    "a number that is none": (lambda: one(more=float("nan")), "NaN is not a number"),
    "an infinite shape": (lambda: one(shape=[float("inf")]), "Infinity is not a number"),
    "a space before it": (lambda: raw(b" {}"), "not a JSON object"),
    "an empty shape beyond all memory": (lambda: one(shape=[2**62, 2**62, 0], body=b""), "size that its shape"),
    "metadata that is no text": (lambda: raw(b'{"__metadata__":{"a":{"b":1}}}'), "metadata is not text"),
    "metadata of 50 MB": (lambda: large("x" * 50_000_000), "length of a header"),
    "a cut-off file": (lambda: save({"a": np.ones(1000, np.float32)})[:-1], "cut off"),
    "more than its tensors": (lambda: save({"a": np.ones(10, np.float32)}) + b"x", "cut off"),
    "offsets beyond the end": (lambda: one(data_offsets=[0, 4000], shape=[1000]), "4000 bytes and 4 are there"),
    "negative offsets": (lambda: one(data_offsets=[-4, 0]), "not dtype, shape and offsets"),
    "offsets backwards": (lambda: one(data_offsets=[4, 0]), "gap or overlaps"),
    "offsets beyond 2**63": (lambda: one(data_offsets=[0, 2**70]), "not dtype, shape and offsets"),
    "a gap": (lambda: one(data_offsets=[4, 8], body=b"xxxxyyyy"), "gap or overlaps"),
    "overlapping tensors": (
        lambda: raw(
            json.dumps(
                {n: {"dtype": "U8", "shape": [3], "data_offsets": [i, i + 3]} for i, n in enumerate("ab")}
            ).encode(),
            b"xxxx",
        ),
        "overlaps",
    ),
    "a shape that is not its size": (lambda: one(shape=[2]), "size that its shape"),
    "a shape beyond all memory": (lambda: one(shape=[2**62, 2**62]), "size that its shape"),
    "a shape of 100 000 sides": (lambda: one(shape=[2**62] * 100_000), "100,000 sides"),
    "a shape of fractions": (lambda: one(shape=[1.5]), "not dtype, shape and offsets"),
    "no number type": (lambda: one(dtype=3), "not dtype, shape and offsets"),
    "300 000 tensors": (lambda: tensors(300_000), "more than 50,000 tensors"),
    "a pickle of today": (lambda: b"PK\x03\x04" + b"\0" * 100, "pickle"),
    "an old pickle": (lambda: pickle.dumps({"state_dict": [1, 2, 3]}, protocol=2), "pickle"),
    "a pickle of protocol 4": (lambda: pickle.dumps({"state_dict": ["x" * 99]}, protocol=4), "pickle"),
    "a web page": (lambda: b"<!DOCTYPE html><html><body>Please log in</body></html>", "web page"),
    "a pointer of Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:abc", "Git LFS"),
}


def refused(read: Callable[[Path], object], path: Path, traced: bool = True) -> UserError:
    """The error, if it came quickly (of the processor, which others share) and without much memory."""
    gc.collect()
    gc.freeze()  # what other tests left is not looked through meanwhile
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        read(path)
    seconds = time.process_time() - began
    gc.unfreeze()
    assert seconds < SECONDS, f"{seconds:.2f} s"
    if traced:  # apart, as it takes time itself
        tracemalloc.start()
        with pytest.raises(UserError):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEGABYTES * 2**20, f"{peak / 2**20:.0f} MB"
    assert len(str(caught.value)) < 1000, "an error is a sentence, not the file"
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_quickly_and_the_reason_named(name, tmp_path):
    make, words = FILES[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(make())
    assert words in refused(read_header, path).problem
    assert words in refused(inspect, path, traced=False).problem


def test_what_is_no_file_is_refused(tmp_path):
    loop, pipe, folder = (tmp_path / f"{name}.safetensors" for name in ("loop", "pipe", "folder"))
    loop.symlink_to(loop)
    folder.mkdir()
    os.mkfifo(pipe)
    zipped = tmp_path / "zip.safetensors"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("data.pkl", "x")
    gone, pickled = tmp_path / "none.safetensors", tmp_path / "a.ckpt"
    for path, words in ((loop, "could not be read"), (folder, "no file"), (pipe, "no file"), (zipped, "pickle"),
                        (Path("/dev/zero"), "no file"), (tmp_path / "a\0b", "could not be read"),
                        (gone, "could not be read"), (pickled, "pickle")):  # fmt: skip
        assert words in refused(inspect, path).problem


def test_names_that_would_move_the_cursor_or_leave_a_folder_are_only_shown(tmp_path):
    path = tmp_path / "a.safetensors"
    strange = ["\x1b[2J\x1b]0;gone\x07", "../../etc/passwd", "a\nb", "\u202egnp.exe", "\0", "x" * 5000]
    path.write_bytes(save({name: np.ones(1, np.float32) for name in strange}))
    found = inspect(path)
    assert set(found.unmatched) == set(strange)
    assert all(line.isprintable() and len(line) < 1000 for line in found.fit)
    for name in strange:
        path.write_bytes(one(name, shape=[3]))
        problem = refused(inspect, path).problem
        assert problem.isprintable() and "size that its shape" in problem


@pytest.mark.parametrize("count", [10_000, 30_000])
def test_very_many_tensors_are_read_and_told(count, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensors(count))
    began = time.process_time()
    found = inspect(path)
    assert report(path, digest=found.hash).verdicts
    assert time.process_time() - began < count / 10_000
    assert len(found.unmatched) == count and found.matched == 0
    assert f"{count} ({count} like t0)" in found.fit[1]


@pytest.mark.parametrize("sign", [".", "_", "down_blocks_0_attentions_", "lora_down.weight."])
def test_names_of_thousands_of_pieces_take_no_longer_than_their_bytes(sign, tmp_path):
    path, piece = tmp_path / "a.safetensors", sign * (5000 // len(sign))
    path.write_bytes(save({f"lora_unet_{piece}{number}": np.ones(1, np.float16) for number in range(500)}))
    began = time.process_time()
    assert inspect(path).matched == 0
    with pytest.raises(UserError, match="no adapter"), opened(path):
        pass
    assert time.process_time() - began < 3 * SECONDS


def test_a_small_file_cannot_ask_for_a_large_product(tmp_path):
    """Two factors of 100 000 numbers would make an update of ten billion."""
    long, path = np.ones((100_000, 1), np.float16), tmp_path / "a.safetensors"
    halves = {f"{MODULE}.lora_up.weight": long, f"{MODULE}.lora_down.weight": long.T.copy()}
    inner = {f"{MODULE}.lora_up.weight": long.T.copy(), f"{MODULE}.lora_down.weight": long}
    hada = {f"{MODULE}.hada_w{n}_{s}": long if s == "a" else long.T.copy() for n in (1, 2) for s in "ab"}
    for held in (halves, inner, hada):
        path.write_bytes(save(held))
        tracemalloc.start()
        numbers = report(path).numbers
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60 * 2**20, f"{peak / 2**20:.0f} MB"
        assert inspect(path).matched == 0 and numbers is not None and numbers.nan == 0


@pytest.mark.parametrize("kind", ["more ranks than sides", "a large kernel between small factors"])
def test_a_small_file_cannot_ask_the_tools_for_a_large_product(kind, tmp_path):
    """Every way to work its change out, but the one through the small side, takes terabytes."""
    path, out, long = tmp_path / "a.safetensors", tmp_path / "b.safetensors", np.ones((1, 1_000_000), np.float16)
    held = {f"{MODULE}.lora_up.weight": long, f"{MODULE}.lora_down.weight": long.T.copy()}
    if kind.endswith("factors"):
        held = {f"{MODULE}.lora_{name}.weight": long[..., None, None].copy() for name in ("down", "up")}
        held[f"{MODULE}.lora_up.weight"] = held[f"{MODULE}.lora_up.weight"].swapaxes(0, 1).copy()
        held[f"{MODULE}.lora_mid.weight"] = np.ones((1, 1, 1000, 1000), np.float16)
        path.write_bytes(save(held))
        assert "too large for any layer" in refused(lambda file: _resized(file, out), path).problem
        return
    path.write_bytes(save(held))
    assert _resized(path, out).error < 1e-3
    assert read_header(out).tensors[f"{MODULE}.lora_down.weight"].shape == (1, 1)


def _resized(path: Path, out: Path) -> Written:
    return resize(ResizeRequest(file=str(path), rank=1, out=str(out), device="cpu"), lambda *_: None)


def test_a_file_that_is_replaced_or_cut_while_it_is_open(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": np.arange(4, dtype=np.float32)}))
    with open_tensors(path) as (file, header):
        other = tmp_path / "b"
        other.write_bytes(save({"another": np.zeros(99, np.float32)}))
        other.replace(path)
        file.seek(header.body_start)
        assert np.frombuffer(file.read(), np.float32).tolist() == [0, 1, 2, 3]


def test_a_pipe_does_not_hold_anybody_up(tmp_path):
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    done = threading.Event()

    def look() -> None:
        with pytest.raises(UserError):
            read_header(pipe)
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(5)


SIDES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 2**40]), max_size=5).map(tuple)
ROLES = sorted(frozenset().union(*(kind.used for kind in KINDS)))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(ROLES), SIDES, max_size=7), SIDES.filter(bool), st.sampled_from(KINDS))
def test_tensors_of_any_shapes_are_held_against_any_layer(shapes, weight, kind):
    """Whatever a header says, the answer is a reason or a fit."""
    whole = {role: TensorInfo("F16", shapes.get(role, (4, 4)), (0, 0)) for role in (*kind.needed, *shapes)}
    assert isinstance(misfit(whole, weight), str)
