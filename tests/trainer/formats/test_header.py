"""Headers: read with limits, rewritten, hashed."""

import hashlib
import json
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, save

from trainer.contract.errors import UserError
from trainer.formats.header import (
    TensorInfo,
    body_sha256,
    file_sha256,
    legacy_hash,
    parse_header,
    read_header,
    refuse_pickle,
    with_metadata,
)

METADATA = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4)


@pytest.fixture
def blob():
    return save({"w": np.ones((4, 2), np.float16), "s": np.array(1.0, np.float32)}, {"ss_network_dim": "4"})


def raw(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(begin, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_the_header_says_what_the_reference_implementation_says(tmp_path, blob):
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob)
    header = read_header(path)
    assert header == parse_header(blob)
    with safe_open(path, framework="numpy") as reference:
        assert header.metadata == reference.metadata()
        assert set(header.tensors) == set(reference.keys())
        for name, info in header.tensors.items():
            assert info.shape == tuple(reference.get_slice(name).get_shape())
            assert info.dtype == reference.get_slice(name).get_dtype()


def test_offsets_count_from_the_end_of_the_header():
    header = parse_header(raw({"b": entry(1, 3), "a": entry(0, 1)}, b"xyz"))
    assert list(header.tensors.items()) == [
        ("a", TensorInfo("U8", (1,), (0, 1))),
        ("b", TensorInfo("U8", (2,), (1, 3))),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "only 0 bytes"),
        (b"1234567", "only 7 bytes"),
        (b"\xff" * 20, "length of a header"),
        (struct.pack("<Q", 50) + b"{}", "cut off"),
        (raw(b"[]"), "not a JSON object"),
        (raw(b"{]"), "not JSON"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b'{"a":1,"a":1}'), "comes twice"),
        (raw({"__metadata__": {"a": 1}}), "metadata is not text"),
        (raw({"a": 3}), "entry of tensor 'a'"),
        (raw({"a": entry(0, 1) | {"shape": [True]}}, b"x"), "entry of tensor 'a'"),
        (raw({"a": entry(0, 1) | {"data_offsets": [-1, 0]}}), "entry of tensor 'a'"),
        (raw({"a": entry(0, 4)}, b"xyz"), "need 4 bytes and 3 are there"),
        (raw({"a": entry(0, 2)}, b"xyz"), "need 2 bytes and 3 are there"),
        (raw({"a": entry(0, 2), "b": entry(1, 3)}, b"xyz"), "overlaps"),
        (raw({"a": entry(0, 1), "b": entry(2, 3)}, b"xyz"), "gap"),
        (raw({"a": entry(0, 3, "F32", [1])}, b"xyz"), "size that its shape"),
    ],
)
def test_unsound_files_are_refused_with_the_reason(tmp_path, data, words):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        read_header(path)
    assert caught.value.where == str(path)


def test_an_announced_giant_header_is_not_read(tmp_path):
    path = tmp_path / "giant.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)  # a sparse file: the bytes would be there
    with pytest.raises(UserError, match="length of a header"):
        read_header(path)


@pytest.mark.parametrize("name", ["a.ckpt", "a.PT", "a.pth", "a.bin", "a.pkl"])
def test_pickle_is_refused_by_suffix_even_unseen(tmp_path, name):
    with pytest.raises(UserError, match="pickle"):
        refuse_pickle(tmp_path / name)


def test_pickle_is_refused_under_another_name(tmp_path, blob):
    zipped, bare, sound = (tmp_path / f"{name}.safetensors" for name in ("zipped", "bare", "sound"))
    zipped.write_bytes(b"PK\x03\x04 what torch.save writes")
    bare.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))  # torch's magic number, its first object
    sound.write_bytes(blob)
    for path in (zipped, bare):
        with pytest.raises(UserError, match="pickle"):
            read_header(path)
    refuse_pickle(sound)
    refuse_pickle(tmp_path / "owner" / "model-v1.5")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="could not be read"):
        read_header(tmp_path / "none.safetensors")


@given(METADATA, st.binary(max_size=9))
def test_rewriting_metadata_keeps_the_tensors(metadata, content):
    before = save({"t": np.frombuffer(content, np.uint8), "s": np.ones(3, np.float32)}, {"old": "1"})
    after = with_metadata(before, metadata)
    header = parse_header(after)
    assert header.metadata == metadata
    assert header.body_start % 8 == 0
    assert after[8:10] == b'{"'
    assert after[header.body_start :] == before[parse_header(before).body_start :]
    assert body_sha256(after) == body_sha256(before)
    assert load(after)["t"].tobytes() == content  # the reference implementation reads it
    assert with_metadata(after, dict(reversed(metadata.items()))) == after


def test_half_a_surrogate_pair_does_not_break_the_file():
    blob = with_metadata(save({"t": np.ones(1, np.uint8)}), {"k": "a\ud83db"})
    assert parse_header(blob).metadata == {"k": "a?b"}


def test_hashes_are_those_of_the_definitions(tmp_path):
    body = np.random.default_rng(0).integers(0, 255, 0x120000, dtype=np.uint8)
    blob = save({"t": body}, {"ss_x": "1", "sshs_model_hash": "anything", "modelspec.title": "t"})
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob)
    assert body_sha256(blob) == body_sha256(path) == hashlib.sha256(body.tobytes()).hexdigest()
    assert file_sha256(path) == hashlib.sha256(blob).hexdigest()
    # kohya hashes a copy that holds nothing but the ss_ names.
    header = b'{"__metadata__":{"ss_x":"1"},"t":{"dtype":"U8","shape":[1179648],"data_offsets":[0,1179648]}}'
    copy = raw(header + b" " * (-len(header) % 8), body.tobytes())
    assert legacy_hash(blob) == hashlib.sha256(copy[0x100000:0x110000]).hexdigest()[:8]
    assert legacy_hash(with_metadata(blob, {"ss_x": "1"})) == legacy_hash(blob)
    assert legacy_hash(with_metadata(blob, {"ss_x": "2" * 9})) != legacy_hash(blob)
