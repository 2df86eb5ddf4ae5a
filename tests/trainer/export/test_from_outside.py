"""Hashes and metadata of real runs, computed here from the bytes by interop.md's definitions; nothing of ours reads."""

import hashlib
import json
import struct

import pytest
from safetensors.numpy import load, save

from trainer.__main__ import main
from trainer.contract.compose import compose
from trainer.contract.rundir import create_run

MIB, PIECE = 0x100000, 0x10000


def trained(home, base, pictures, ema):
    layer = {
        "model": {"base": str(base)},
        "dataset": {"path": str(pictures), "trigger": "ohwx"},
        "adapter": {"rank": 128, "alpha": 64},
        "optimizer": {"learning_rate": 1e-2},
        "training": {"steps": 4, "threads": 1, "ema": 0.5},
        "sampling": {"every": "never"},
        "validation": {"share": 0},
        "export": {"dtype": "fp32", "ema": ema},
    }
    run = create_run(home, "fox", compose([layer]))
    assert main(["train", str(run.path)]) == 0
    return run.adapter_file


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_sd, tiny_set):
    return [trained(tmp_path_factory.mktemp("outside"), tiny_sd, tiny_set, ema) for ema in (False, True)]


def taken_apart(path):
    """(metadata, bytes after the header) by the layout in the README of safetensors."""
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    assert blob[8:10] == b'{"', "A1111 asks for it"
    header = json.loads(blob[8 : 8 + length])
    return header["__metadata__"], blob[8 + length :]


def test_the_hashes_are_those_of_the_definitions(files):
    for path in files:
        metadata, body = taken_apart(path)
        assert all(type(value) is str for value in metadata.values())
        addnet = hashlib.sha256(body).hexdigest()
        assert metadata["sshs_model_hash"] == addnet
        assert metadata.get("modelspec.hash_sha256", f"0x{addnet}") == f"0x{addnet}"
        # kohya's: another copy by the reference implementation, which has the names that begin with ss_ and no others
        training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
        copy = save(load(path.read_bytes()), training)
        assert len(copy) > MIB, "or the part that is hashed is empty"
        assert metadata["sshs_legacy_hash"] == hashlib.sha256(copy[MIB : MIB + PIECE]).hexdigest()[:8]


def test_the_running_average_is_written_and_recorded_only_where_it_is_asked_for(files):
    (last, plain), (average, told) = ((body, metadata) for metadata, body in map(taken_apart, files))
    assert last != average and plain["sshs_model_hash"] != told["sshs_model_hash"]
    assert plain["lora_atelier.ema"] == "None" and told["lora_atelier.ema"] == "0.5"
    assert {key for key in plain if plain[key] != told.get(key)} <= {
        "lora_atelier.ema", "lora_atelier.recipe", "ss_session_id", "sshs_model_hash", "sshs_legacy_hash",
        "modelspec.hash_sha256",
    }  # fmt: skip
