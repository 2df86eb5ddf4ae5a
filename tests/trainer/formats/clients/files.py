"""Headers of adapter files in full size, written by hand and by our own names."""

from trainer.formats.clients.models import SD1, SD2, SDXL, model_of
from trainer.formats.clients.report import judge
from trainer.formats.clients.sheet import Sheet
from trainer.formats.header import TensorInfo
from trainer.formats.kohya import module_names

SAID = {
    SD1: {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "ss_output_name": "mine",
    },
    SD2: {
        "ss_base_model_version": "sd_v2",
        "ss_v2": "True",
        "modelspec.architecture": "stable-diffusion-v2-768-v/lora",
        "ss_output_name": "mine",
    },
    SDXL: {
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": "False",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "ss_output_name": "mine",
    },
}
KOHYA, PEFT = (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")


def lora(name, width, height=None, ends=KOHYA, alpha=True, rank=4):
    """The shapes of a module's tensors: [rank, width] and [height, rank]."""
    down, up = ends
    shapes = {name + down: (rank, width), name + up: (height or width, rank)}
    return shapes | ({f"{name}.alpha": ()} if alpha else {})


def sheet(shapes, metadata=None, hash_is_true=None):
    tensors = {name: TensorInfo("F16", shape, (0, 0)) for name, shape in shapes.items()}
    return Sheet("mine", metadata or {}, tensors, hash_is_true)


def verdicts(shapes, metadata=None, hash_is_true=None):
    """What each client says, by its name."""
    return {verdict.client: verdict for verdict in judge(sheet(shapes, metadata, hash_is_true)).verdicts}


def whole(family, parts=("unet", "text_encoder", "text_encoder_2")):
    """All that kohya trains by default, as we name it."""
    layers = [layer for layer in model_of(family).layers if not layer.norm]
    paths = {}
    for layer in layers:
        paths.setdefault(layer.part, []).append(layer.path)
    names = module_names(paths)
    shapes = {}
    for layer in layers:
        trained = "attentions" in layer.path if layer.part == "unet" else "layers" in layer.path
        if trained and layer.part in parts:
            height, width, *kernel = layer.shape
            name = names[layer.part, layer.path]
            shapes[f"{name}.lora_down.weight"] = (4, width, *kernel)
            shapes[f"{name}.lora_up.weight"] = (height, 4, *[1] * len(kernel))
            shapes[f"{name}.alpha"] = ()
    return shapes
