"""Tiny captioners for tests: real classes, real processors, random weights; and a tagger as an ONNX file."""

import struct
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, pre_tokenizers
from transformers import (
    BartTokenizer,
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from trainer.formats.vocabulary import byte_alphabet

WORDS = ("a", "red", "blue", "dog", "cat", "on", "the", "grass", "sits", "runs", "photo", "of", "big", "small")
SIDE = 32


def make_blip(folder: Path) -> Path:
    """Write a BLIP of random weights with a WordPiece vocabulary of a few words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    # As in the published ones, the first token is one that the tokenizer does not have.
    special = {"pad_token_id": 0, "bos_token_id": len(tokens), "sep_token_id": 3, "eos_token_id": 2}
    text = {**size, **special, "vocab_size": len(tokens) + 2, "encoder_hidden_size": 16, "max_position_embeddings": 64}
    vision = {**size, "image_size": SIDE, "patch_size": 16, "initializer_range": 0.02}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    torch.manual_seed(3)
    model = BlipForConditionalGeneration(config)
    _spread(model)
    pictures = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return _write(folder, model, BlipProcessor(pictures, tokenizer))


def make_florence(folder: Path) -> Path:
    """Write a Florence-2 of random weights whose BART tokenizer knows single bytes."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *byte_alphabet()]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = BartTokenizer(vocab=vocabulary, merges=[], extra_special_tokens={"image_token": "<image>"})
    vision = {
        "depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2), "patch_padding": (3, 1),
        "patch_prenorm": (False, True), "embed_dim": (8, 16), "num_heads": (1, 2), "num_groups": (1, 2),
        "window_size": 4, "projection_dim": 16, "drop_path_rate": 0.0,
    }  # fmt: skip
    text = {
        "model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": len(tokenizer),
        "max_position_embeddings": 1100, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2, "forced_eos_token_id": 2,
    }  # fmt: skip
    config = Florence2Config(vision_config=vision, text_config=text, image_token_id=tokenizer.image_token_id)
    torch.manual_seed(3)
    model = Florence2ForConditionalGeneration(config)
    _spread(model)
    pictures = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, crop_size={"height": SIDE, "width": SIDE}
    )
    pictures.image_seq_length = (SIDE // 8) ** 2 + 1
    plain: dict = {"pure_text": {}}
    return _write(folder, model, Florence2Processor(pictures, tokenizer, post_processor_config=plain))


def make_llava(folder: Path) -> Path:
    """Write a LLaVA of random weights, with a chat template."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:", *WORDS]
    table = tokenizers.Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, "<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=table, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(**size, vocab_size=len(tokens), bos_token_id=0, pad_token_id=1, eos_token_id=2)
    vision = CLIPVisionConfig(**size, image_size=SIDE, patch_size=16, projection_dim=16)
    torch.manual_seed(3)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1)
    model = LlavaForConditionalGeneration(config)
    _spread(model)
    edge = {"height": SIDE, "width": SIDE}
    pictures = CLIPImageProcessor(size=edge, do_center_crop=False, crop_size=edge)
    template = (
        "{% for message in messages %}USER: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %} ASSISTANT:"
        "{% endfor %}"
    )
    about = {"patch_size": 16, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return _write(folder, model, LlavaProcessor(pictures, tokenizer, chat_template=template, **about))


def make_tagger(folder: Path, batch: int | str = "batch", rows: Sequence[tuple[str, int]] = ()) -> Path:
    """Write a tagger that sees the mean colour of a picture: how blue, green and red it is.

    Its tags: a rating that always holds, `blue_sky`, `grass_(plant)`, `^_^` (red), and a character (red and no green).
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = rows or (("general", 9), ("blue_sky", 0), ("grass_(plant)", 0), ("^_^", 0), ("miku_(vocaloid)", 4))
    lines = [f"{index},{name},{category},10" for index, (name, category) in enumerate(table)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *lines, ""]), "utf-8")
    weights = [(0, 0, 0), (0.02, 0, 0), (0, 0.03, 0), (0, 0, 0.04), (0, -0.04, 0.02)]  # of blue, green, red
    biases = [9.0, -2.5, -3.8, -5.0, -2.0]
    (folder / "model.onnx").write_bytes(onnx_of(weights, biases, batch))
    return folder


def onnx_of(weights: Sequence[Sequence[float]], biases: Sequence[float], batch: int | str) -> bytes:
    """An ONNX file: sigmoid(weights . mean over the picture + biases), for (batch, 32, 32, 3) float32.

    Field numbers are those of onnx.proto3.
    """
    order = _bytes(1, "perm") + b"".join(_number(8, axis) for axis in (0, 3, 1, 2)) + _number(20, 7)
    turned = _bytes(1, "transB") + _number(3, 1) + _number(20, 2)
    nodes = (
        ("Transpose", ["pixels"], "channels", order),
        ("GlobalAveragePool", ["channels"], "pooled", b""),
        ("Flatten", ["pooled"], "means", b""),
        ("Gemm", ["means", "weights", "biases"], "logits", turned),
        ("Sigmoid", ["logits"], "chances", b""),
    )
    graph = b"".join(
        _bytes(1, b"".join(_bytes(1, name) for name in given) + _bytes(2, made) + _bytes(4, kind)
               + (_bytes(5, about) if about else b""))
        for kind, given, made, about in nodes
    )  # fmt: skip
    flat = [value for row in weights for value in row]
    graph += _bytes(2, "tagger")
    graph += _bytes(5, _tensor("weights", (len(weights), 3), flat)) + _bytes(
        5, _tensor("biases", (len(biases),), biases)
    )
    graph += _bytes(11, _value("pixels", (batch, SIDE, SIDE, 3))) + _bytes(12, _value("chances", (batch, len(biases))))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    sizes = b"".join(_number(1, size) for size in shape)
    return sizes + _number(2, 1) + _bytes(8, name) + _bytes(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size) if isinstance(size, int) else _bytes(2, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, sizes)))


def _spread(model: torch.nn.Module) -> None:
    """Make what reads the picture louder, so that different pictures get different words."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                loud = any(word in name for word in ("patch_embedding", "crossattention", "encoder_attn", "vision"))
                still = "position_embedding" in name or "class_embedding" in name
                parameter.mul_(0.1 if still else 30 if loud else 8)


def _write(folder: Path, model, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
