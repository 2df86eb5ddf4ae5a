"""Captions by models: the calls are those of the real ones, and nothing that was paid for is lost."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BlipForConditionalGeneration,
    Florence2ForConditionalGeneration,
    LlavaForConditionalGeneration,
)

from tests.tiny_captioners import make_blip, make_florence, make_llava, make_tagger
from trainer.contract.errors import UserError
from trainer.contract.requests import CaptionRequest
from trainer.pictures.album import PICTURES, WORDS, Album, Entry, create_album, edit, identity, open_album, undo
from trainer.tools import captioning
from trainer.tools.captioners import CHAT, open_captioner
from trainer.tools.captioning import caption_set
from trainer.tools.fetching import find_captioner

COLOURS = ("red", "blue", "white", "lime", "black", "#808080")
runs_taggers = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason='needs onnxruntime: pip install "lora-atelier[captions]"'
)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return make_blip(tmp_path_factory.mktemp("blip") / "blip")


@pytest.fixture(scope="module")
def florence(tmp_path_factory):
    return make_florence(tmp_path_factory.mktemp("florence") / "florence")


def make_set(folder: Path, colours=COLOURS) -> Path:
    """A set of the user's own; its second picture has a caption."""
    create_album(folder)
    (folder / PICTURES).mkdir()
    entries = []
    for index, colour in enumerate(colours):
        path = folder / PICTURES / f"{index}.png"
        Image.new("RGB", (40 + index % 9, 48), colour).save(path)
        captions = ("mine",) if index == 1 else ()
        entries.append(Entry(id=identity(path.read_bytes() + bytes([index])), file=f"{PICTURES}/{index}.png",
                             name=f"{index}.png", captions=captions))  # fmt: skip
    (folder / "album.jsonl").unlink()
    create_album(folder, Album(entries=tuple(entries)))
    text = "\n".join([Album().model_dump_json(exclude={"entries"}), *(entry.model_dump_json() for entry in entries)])
    (folder / "album.jsonl").write_text(text + "\n")
    return folder


def pictures() -> list[Image.Image]:
    noise = [Image.effect_noise((50 + 30 * index, 90 - 10 * index), 100).convert("RGB") for index in range(2)]
    return [*(Image.new("RGB", (40, 48), colour) for colour in COLOURS[:4]), *noise]


def asked(folder, model, **more) -> CaptionRequest:
    return CaptionRequest(dataset=str(folder), model=str(model), **more)


def of_set(folder, model, **more) -> CaptionRequest:
    """A beginning, because the tiny model has nothing to say of some pictures."""
    return asked(folder, model, **{"prompt": "a photo of", **more})


def silent(*_):
    pass


def captions(folder: Path) -> list[tuple[str, ...]]:
    return [entry.captions for entry in open_album(folder).entries]


@pytest.fixture
def looked(monkeypatch):
    """Counts the pictures that models are shown."""
    seen = []

    def opened(*given):
        captioner = open_captioner(*given)
        return lambda images: seen.append(len(images)) or captioner(images)

    monkeypatch.setattr(captioning, "open_captioner", opened)
    return seen


def of_blip(folder, image, prompt):
    """As the model card of Salesforce/blip-image-captioning-base."""
    processor = AutoProcessor.from_pretrained(folder)
    model = BlipForConditionalGeneration.from_pretrained(folder)
    inputs = processor(image, prompt, return_tensors="pt") if prompt else processor(image, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=60)
    return processor.decode(out[0], skip_special_tokens=True)


def of_florence(folder, image, task):
    """As the model card of florence-community/Florence-2-base."""
    processor = AutoProcessor.from_pretrained(folder)
    model = Florence2ForConditionalGeneration.from_pretrained(folder)
    inputs = processor(text=task, images=image, return_tensors="pt")
    generated_ids = model.generate(**inputs, max_new_tokens=1024, num_beams=3)
    text = processor.batch_decode(generated_ids, skip_special_tokens=False)[0]
    return processor.post_process_generation(text, task=task, image_size=image.size)[task]


def of_llava(folder, image, prompt):
    """As the model card of llava-hf/llava-1.5-7b-hf; what stands after the prompt is the answer."""
    processor = AutoProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    said = [{"role": "user", "content": [{"type": "text", "text": prompt}, {"type": "image"}]}]
    said[0]["content"].reverse()
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=CHAT.options["max_new_tokens"], do_sample=False)
    return processor.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)


CALLS = {
    "blip": (make_blip, {}, of_blip, ""),
    "blip with a beginning": (make_blip, {"prompt": "a photo of"}, of_blip, "a photo of"),
    "florence": (make_florence, {}, of_florence, "<DETAILED_CAPTION>"),
    "florence, brief": (make_florence, {"task": "brief"}, of_florence, "<CAPTION>"),
    "llava": (make_llava, {"prompt": "the dog"}, of_llava, "the dog"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_batch_says_of_each_picture_what_the_model_cards_own_call_says(tmp_path, case):
    make, options, straight, prompt = CALLS[case]
    model = make(tmp_path / "model")
    shown = pictures()
    torch.manual_seed(0)
    batch = open_captioner(model, asked(tmp_path, model, **options))(shown)
    assert batch == [" ".join(straight(model, image, prompt).split()) for image in shown]
    assert len(set(batch)) > 1, "the tiny model must tell pictures apart, or this test says nothing"


@runs_taggers
@pytest.mark.parametrize("batch", ["batch", 1, 2])
def test_a_tagger_names_what_is_likely_enough_the_likeliest_first(tmp_path, batch):
    model = make_tagger(tmp_path / "tagger", batch)
    tag = open_captioner(model, asked(tmp_path, model))
    wide_red = Image.new("RGB", (64, 16), "red")  # made square, three quarters of it are white
    shown = [Image.new("RGB", (9, 9), "red"), Image.new("RGB", (50, 50), "blue"), Image.new("RGB", (32, 32), "white")]
    assert tag([*shown, wide_red]) == [
        "^_^, miku (vocaloid)",
        "blue sky",
        "^_^, grass (plant), blue sky",
        "^_^, grass (plant), blue sky",
    ]
    strict = open_captioner(model, asked(tmp_path, model, threshold=0.97, character_threshold=0.99))
    assert strict([*shown, wide_red]) == ["^_^", "", "^_^, grass (plant)", "^_^"]


@runs_taggers
def test_a_table_of_another_model_is_refused(tmp_path):
    model = make_tagger(tmp_path / "tagger", rows=(("a", 0), ("b", 0)))
    with pytest.raises(UserError, match="5 outputs for the 2 tags"):
        open_captioner(model, asked(tmp_path, model))([Image.new("RGB", (8, 8))])


def test_missing_replace_and_append_are_each_one_change_with_a_way_back(tmp_path, blip, looked):
    folder = make_set(tmp_path / "set")
    told = caption_set(of_set(folder, blip, trigger="sks"), silent)
    assert (told.changed, told.asked, told.kept, told.skipped) == (5, 5, 0, [])
    assert told.label == "captions by blip" and captions(folder)[1] == ("mine",)
    assert all(
        len(words) == 1 and words[0].startswith("sks, ") for words in captions(folder)[:1] + captions(folder)[2:]
    )
    first = captions(folder)
    assert caption_set(of_set(folder, blip), silent).changed == 0 and sum(looked) == 5, "no picture lacks a caption"

    told = caption_set(of_set(folder, blip, mode="append"), silent)
    assert (told.changed, told.asked, told.kept) == (6, 1, 5) and sum(looked) == 6
    assert [len(words) for words in captions(folder)] == [2] * 6
    assert caption_set(of_set(folder, blip, mode="append"), silent).changed == 0, "the same words are not added again"

    assert undo(folder) == "captions by blip" and captions(folder) == first
    caption_set(of_set(folder, blip, mode="replace"), silent)
    assert [len(words) for words in captions(folder)] == [1] * 6 and captions(folder)[1] != ("mine",)
    undo(folder)
    assert captions(folder) == first and sum(looked) == 6, "what was known was not asked again"


def test_a_start_after_a_stop_asks_for_the_rest_only(tmp_path, blip, looked):
    folder = make_set(tmp_path / "set")

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caption_set(of_set(folder, blip, mode="replace", batch=1), stop)
    assert captions(folder)[0] == () and sum(looked) == 3, "nothing is a caption before all are there"
    work = next((folder / WORDS).glob("*.jsonl"))
    with work.open("a") as file:
        file.write('{"picture": "torn of')
    fraction = make_set(tmp_path / "fraction")
    shutil.copytree(folder / WORDS, fraction / WORDS)
    for name in COLOURS:  # the same files, as words are kept for those alone
        number = COLOURS.index(name)
        shutil.copy2(folder / PICTURES / f"{number}.png", fraction / PICTURES / f"{number}.png")
    taken = caption_set(of_set(fraction, blip, mode="replace", known_only=True), silent)
    assert (taken.kept, taken.asked, taken.changed) == (3, 0, 3) and sum(looked) == 3
    assert [bool(words) for words in captions(fraction)] == [True] * 3 + [False] * 3
    seen = []
    told = caption_set(of_set(folder, blip, mode="replace", batch=4), seen.append)
    assert [one.done for one in seen if one.total] == [3, 4, 5, 6] and seen[-1].left == 0
    last = open_album(folder).entries[-1]
    assert (seen[-1].picture, (seen[-1].caption,)) == (last.id, last.captions)
    assert (told.kept, told.asked, told.changed) == (3, 3, 6) and looked == [1, 1, 1, 3]
    told = caption_set(of_set(folder, blip, mode="replace"), silent)
    assert (told.kept, told.asked, told.changed) == (6, 0, 0), "the torn line did not spoil the one after it"
    fresh = make_set(tmp_path / "fresh")
    caption_set(of_set(fresh, blip, mode="replace", batch=6), silent)
    assert captions(fresh) == captions(folder), "stopped or not, and in batches of any size, the words are the same"
    caption_set(of_set(folder, blip, mode="replace", prompt="a big dog"), silent)
    assert sum(looked) == 6 + 6 + 6, "asked otherwise, all are asked"


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_captioned(tmp_path, blip):
    folder = make_set(tmp_path / "set")
    (folder / PICTURES / "2.png").write_bytes(b"no picture")
    (folder / PICTURES / "3.png").unlink()
    told = caption_set(of_set(folder, blip, batch=2), silent)
    assert [name for name, _ in told.skipped] == ["2.png", "3.png"] and all(reason for _, reason in told.skipped)
    assert told.changed == 3 and captions(folder)[2] == captions(folder)[3] == ()


def test_excluded_pictures_are_left_out_unless_they_are_chosen(tmp_path, blip, looked):
    folder = make_set(tmp_path / "set")
    last = open_album(folder).entries[-1].id
    edit(folder, "excluded", [last], lambda entry: entry.model_copy(update={"excluded": True}))
    assert caption_set(of_set(folder, blip, chosen=(last,)), silent).changed == 1 and sum(looked) == 1
    caption_set(of_set(folder, blip, mode="replace"), silent)
    assert sum(looked) == 6


def test_batches_become_smaller_until_they_fit_into_the_memory(tmp_path, blip, monkeypatch):
    folder, sizes = make_set(tmp_path / "set"), []

    def opened(*_):
        def captioner(images):
            sizes.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return ["words"] * len(images)

        return captioner

    monkeypatch.setattr(captioning, "open_captioner", opened)
    told = caption_set(of_set(folder, blip, mode="replace"), silent)
    assert told.changed == 6 and sizes == [6, 3, 1, 1, 1, 1, 1, 1] and "batches of 1" in told.notices[-1]


def pickled(folder, tmp_path):
    model = shutil.copytree(folder, tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    return model


def of_kind(kind, **more):
    def make(folder, tmp_path):
        model = shutil.copytree(folder, tmp_path / "other")
        (model / "config.json").write_text(json.dumps({"model_type": kind, **more}))
        return model

    return make


def half(folder, tmp_path):
    model = shutil.copytree(folder, tmp_path / "half")
    for name in ("tokenizer.json", "processor_config.json"):
        (model / name).unlink()
    return model


def tags_only(folder, tmp_path):
    model = make_tagger(tmp_path / "tags")
    (model / "model.onnx").unlink()
    return model


REFUSED = {
    "pickled": (pickled, ["pytorch_model.bin", "any program", "safetensors"]),
    "unknown": (of_kind("bert"), ["bert", "BLIP", "Florence-2", "WD tagger"]),
    "own code": (of_kind("florence2", auto_map={"AutoModel": "x.X"}), ["own", "florence-community/Florence-2-base"]),
    "own code, unknown": (of_kind("nobody", auto_map={"AutoModel": "x.X"}), ["nobody", "own", "BLIP"]),
    "not complete": (half, ["cannot be loaded", "complete"]),
    "no model": (tags_only, ["model.onnx", "hf download"]),
    "not here": (lambda *_: "some/captioner", ["some/captioner", "not on this machine", "hf download some/captioner"]),
    "no name": (lambda *_: "captioner", ["no captioner 'captioner'", "Hub id"]),
    "empty": (lambda _, tmp_path: tmp_path, ["no config.json", "Hub id"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason_and_a_way_out(tmp_path, blip, case):
    make, words = REFUSED[case]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        name = make(blip, tmp_path / "empty")
        open_captioner(find_captioner(str(name)), asked(tmp_path, name))
    for word in words:
        assert word in str(caught.value)


def test_what_a_model_has_no_word_for_is_refused(florence, blip):
    with pytest.raises(UserError, match="no prompt"):
        open_captioner(florence, asked("x", florence, prompt="hello"))
    with pytest.raises(UserError, match="no task 'paragraph'"):
        open_captioner(blip, asked("x", blip, task="paragraph"))


def test_a_model_in_the_cache_of_the_hub_is_found_without_the_network(tmp_path, blip, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    kept = tmp_path / "hub" / "models--some--blip"
    snapshot = shutil.copytree(blip, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    assert find_captioner("some/blip") == snapshot


def test_without_its_package_a_tagger_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = make_tagger(tmp_path / "tagger")
    with pytest.raises(UserError, match="not installed") as caught:
        open_captioner(model, asked(tmp_path, model))
    assert "lora-atelier[captions]" in caught.value.fix


def test_nothing_is_written_into_a_plain_folder(tmp_path, blip):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="plain folder") as caught:
        caption_set(of_set(tmp_path, blip), silent)
    assert "atelier dataset import" in caught.value.fix and [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_ctrl_c_keeps_what_is_done_and_ends_the_model_too(tmp_path, blip):
    home = tmp_path / "home"
    folder = make_set(home / "datasets" / "mine", COLOURS * 20)
    command = [sys.executable, "-P", "-m", "app", "dataset", "caption", "mine", "--model", blip, "--mode", "replace"]
    command += ["--prompt", "a photo of", "--batch", 1, "--data-dir", home]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (found := [path for path in folder.glob(".captions/*.jsonl") if path.read_bytes().count(b"\n") >= 2]):
        assert process.poll() is None and time.monotonic() < deadline, "the model has written nothing"
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "goes on from there" in said and "Traceback" not in said, said
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert 2 <= found[0].read_bytes().count(b"\n") < 120 and captions(folder)[0] == ()


def test_killed_in_the_middle_the_command_goes_on_where_it_was(tmp_path, blip):
    home = tmp_path / "home"
    folder = make_set(home / "datasets" / "mine", COLOURS * 10)
    request = tmp_path / "request.json"
    request.write_text(of_set(folder, blip, mode="replace", batch=1).model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "caption", str(request)], stdout=subprocess.PIPE, text=True
    )
    told = (json.loads(line) for line in process.stdout)
    next(line for line in told if line["what"] == "captioning" and line["done"] >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert captions(folder)[0] == ()
    command = [sys.executable, "-P", "-m", "app", "dataset", "caption", "mine", "--model", blip, "--mode", "replace"]
    command += ["--prompt", "a photo of"]
    began = time.monotonic()
    done = subprocess.run(
        [*map(str, command), "--data-dir", str(home), "--json"],
        capture_output=True, text=True, check=False, timeout=200, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stderr, time.monotonic() - began)
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer["kept"] >= 3 and answer["asked"] == 60 - answer["kept"] and answer["changed"] == 60
    assert all(len(words) == 1 for words in captions(folder))
