"""What people may call a base: built in, a folder, a file, a Hub id in the cache; and every way that can go wrong."""

import json
import shutil

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects

from tests.tiny_checkpoints import tiny_checkpoint
from trainer.contract.errors import UserError
from trainer.families.checkpoint import CheckpointSource
from trainer.families.locate import HUB_DUPLICATES, HUB_FILES, find_source
from trainer.families.source import FolderSource
from trainer.formats.bases import check_base

COMMIT = "a" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub, name, source, revision="main"):
    """Put a folder or file into the cache as the Hub's client does."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    if source.is_dir():
        shutil.copytree(source, snapshot)
    else:
        snapshot.mkdir(parents=True)
        shutil.copy(source, snapshot)
    return snapshot


def test_demo_folder_and_file(tiny_sd, tmp_path):
    demo = find_source("demo")
    assert isinstance(demo, FolderSource)
    assert (demo.facts.family, demo.facts.prediction) == ("sd1", "epsilon")
    assert find_source(str(tiny_sd)).facts.path == tiny_sd
    file = tiny_checkpoint("sd1").write(tmp_path / "my model.safetensors")
    assert isinstance(find_source(str(file)), CheckpointSource)
    check_base(str(file))


def test_a_hub_id_is_found_in_the_cache(hub, tiny_sd):
    snapshot = cached(hub, "some/model", tiny_sd)
    source = find_source("some/model")
    assert isinstance(source, FolderSource)
    assert source.facts.path == snapshot
    assert find_source("some/model", COMMIT).facts.path == snapshot


def test_a_pinned_branch_is_found_in_the_cache(hub, tiny_sd):
    snapshot = cached(hub, "some/model", tiny_sd, revision="v2")
    assert find_source("some/model", "v2").facts.path == snapshot
    with pytest.raises(UserError, match="not on this machine"):
        find_source("some/model")


def test_one_file_of_a_repository_is_found_in_the_cache(hub, tmp_path):
    file = tiny_checkpoint("sd1").write(tmp_path / "model.safetensors")
    cached(hub, "some/one", file)
    source = find_source("some/one/model.safetensors")
    assert isinstance(source, CheckpointSource)
    assert source.facts.family == "sd1"


def test_a_repository_without_a_pipeline_says_how_to_name_a_file(hub, tmp_path):
    (tmp_path / "weights").mkdir()
    cached(hub, "some/weights", tmp_path / "weights")
    with pytest.raises(UserError, match="is not a diffusers model") as raised:
        find_source("some/weights")
    assert "some/weights/FILE.safetensors" in raised.value.fix


def test_what_is_not_here_and_cannot_be_fetched(hub):
    for base in ("no/where", "no/where/x.safetensors"):
        with pytest.raises(UserError, match=f"'{base}' is not on this machine, or not all of it, and the Hub cannot"):
            find_source(base)


def answer(kind, status):
    return kind("told so", response=httpx.Response(status, request=httpx.Request("GET", "http://hub")))


FAILURES = {
    "gated": (lambda: answer(errors.GatedRepoError, 403), "base", "'a/b' on the Hub is gated"),
    "unknown": (lambda: answer(errors.RepositoryNotFoundError, 404), "base", "there is no model 'a/b' on the Hub"),
    "revision": (lambda: answer(errors.RevisionNotFoundError, 404), "revision", "'a/b' on the Hub has no revision 'x'"),
    "file": (lambda: answer(errors.RemoteEntryNotFoundError, 404), "base", "there is no file 'a/b' on the Hub"),
    "broken": (lambda: answer(errors.HfHubHTTPError, 500), "base", "could not be fetched from the Hub: told so"),
    "proxy": (lambda: errors.HTTPError("no proxy"), "base", "could not be fetched from the Hub: no proxy"),
    "disk": (lambda: OSError(28, "No space left on device"), "base", "No space left on device"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_of_the_hub_has_its_sentence(monkeypatch, case):
    make, where, sentence = FAILURES[case]

    def fail(*_, **__):
        raise make()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as raised:
        find_source("a/b", "x")
    assert raised.value.where == f"model.{where}"
    assert sentence in raised.value.problem
    assert raised.value.fix


def test_a_revision_belongs_to_the_hub(tiny_sd):
    with pytest.raises(UserError, match="only a base from the Hub has revisions") as raised:
        find_source(str(tiny_sd), "main")
    assert raised.value.where == "model.revision"


@pytest.mark.parametrize(
    "base", ["nowhere", "./a/b.safetensors", "models/x.safetensors", "/no/x.safetensors", "a/../b"]
)
def test_what_is_no_base_by_its_name(base):
    with pytest.raises(UserError, match="there is no base model"):
        find_source(base)


@pytest.mark.parametrize("base", ["a/b/x.ckpt", "x.pt"])
def test_pickles_are_refused_by_their_name(base):
    with pytest.raises(UserError, match="pickle"):
        check_base(base)


def test_each_weight_is_fetched_once():
    """File list of the SD 1.5 and SDXL repositories, shortened."""
    parts = ["unet", "vae", "text_encoder", "text_encoder_2"]
    weights = ["diffusion_pytorch_model", "model"]
    there = [
        f"{part}/{name}{kind}"
        for part in parts
        for name in weights
        for kind in (".safetensors", ".fp16.safetensors", ".non_ema.safetensors", ".bin", ".fp16.bin", ".onnx")
    ]
    there += [f"{part}/config.json" for part in parts]
    there += ["unet/diffusion_pytorch_model.safetensors.index.json", "unet/model-00001-of-00002.safetensors"]
    there += ["v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "README.md", "safety_checker/model.safetensors"]
    there += ["vae_1_0/config.json", "vae_decoder/model.onnx", "unet/openvino_model.bin", "unet/flax_model.msgpack"]
    there += ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer_2/merges.txt"]
    taken = list(filter_repo_objects(there, allow_patterns=HUB_FILES, ignore_patterns=HUB_DUPLICATES))
    wanted = {f"{part}/{name}.safetensors" for part in parts for name in weights}
    wanted |= {f"{part}/config.json" for part in parts}
    wanted |= {"unet/diffusion_pytorch_model.safetensors.index.json", "unet/model-00001-of-00002.safetensors"}
    wanted |= {
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer_2/merges.txt"
    }  # fmt: skip
    assert set(taken) == wanted


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_weights_that_are_cut_off_or_gone_are_told_before_anything_is_loaded(tiny_sd, tmp_path, part):
    folder = shutil.copytree(tiny_sd, tmp_path / "cut")
    file = next((folder / part).glob("*.safetensors"))
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"cut off|header|only") as raised:
            check_base(str(folder))
        assert file.name in str(raised.value)
    file.unlink()
    with pytest.raises(UserError, match=f"{part}/{file.name} is missing"):
        check_base(str(folder))


def test_an_index_must_name_files_that_are_there(tiny_sd, tmp_path):
    folder = shutil.copytree(tiny_sd, tmp_path / "shards")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    for text, said in (("{", "missing or broken"), ("{}", "names no files"), ('{"weight_map": {"a": "b"}}', "unet/b")):
        index.write_text(text)
        with pytest.raises(UserError, match=said):
            check_base(str(folder))


def test_a_vae_with_the_wrong_channels_is_told_before_anything_is_loaded(tiny_sd, tmp_path):
    folder = shutil.copytree(tiny_sd, tmp_path / "channels")
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 16}))
    with pytest.raises(UserError, match="16 latent channels"):
        check_base(str(folder))
