"""Our kernels against the same in float64: `pytest -m gpu -n 0`."""

import pytest
import torch

from tests.against_peft import cosine_to_peft
from tests.tiny import make_tiny_sd
from tests.tiny_sdxl import make_tiny_sdxl
from trainer.attention import Shape, probe
from trainer.kernels.reference import REFERENCE

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = torch.device("cuda")
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 6e-4}  # relative error of a whole tensor
SHAPES = [
    (2, 64, 9, 7, 8),
    (1, 320, 64, 64, 32),
    (2, 96, 5, 5, 32),
    (3, 2560, 8, 8, 32),
    (1, 960, 40, 33, 32),
    (1, 32, 1, 1, 4),
]


@pytest.fixture(params=ROUNDING, ids=str)
def kind(request):
    torch.manual_seed(0)
    return {"device": "cuda", "dtype": request.param}


@pytest.fixture
def ours():
    from trainer.kernels.fused import FUSED  # noqa: PLC0415 - needs Triton

    return FUSED


def check(mine, right, given, rest):
    """Answers and gradients of `given` agree, up to the rounding of their type; twice the same bits."""
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    wanted = right(*exact, *[item.double() if isinstance(item, torch.Tensor) else item for item in rest])
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    slopes = [torch.randn_like(tensor, dtype=given[0].dtype) for tensor in wanted]
    wanted += torch.autograd.grad(wanted, exact, [slope.double() for slope in slopes])
    runs = []
    for _ in range(2):
        found = mine(*given, *rest)
        found = found if isinstance(found, tuple) else (found,)
        runs.append(found + torch.autograd.grad(found, given, slopes))
    for one, two, exactly in zip(*runs, wanted, strict=True):
        assert torch.equal(one, two)
        assert (one.double() - exactly).norm() / exactly.norm() < ROUNDING[one.dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
def test_group_norm(kind, ours, shape, silu, shifted):
    pictures, channels, height, width, groups = shape
    x = (torch.randn(pictures, channels, height, width, **kind) * 2 + 5).requires_grad_()  # a mean far from zero
    weight, bias, conv_bias = torch.randn(3, channels, **kind)
    extra = (torch.randn(pictures, channels, **kind), conv_bias) if shifted else (None, None)
    check(ours.group_norm, REFERENCE.group_norm, [x], [weight, bias, groups, 1e-5, silu, *extra])


def test_gated_gelu(kind, ours):
    check(ours.gated_gelu, REFERENCE.gated_gelu, [torch.randn(3, 7, 2 * 330, **kind).requires_grad_()], [])


def test_add_norm(kind, ours):
    given = [torch.randn(3, 7, 330, **kind).requires_grad_() for _ in range(2)]
    check(ours.add_norm, REFERENCE.add_norm, given, [*torch.randn(2, 330, **kind), 1e-5])


def test_add_bias(kind, ours):
    given = [torch.randn(2, 70, 5, 3, **kind).requires_grad_() for _ in range(2)]
    check(ours.add_bias, REFERENCE.add_bias, given, [torch.randn(70, **kind)])


@pytest.mark.parametrize("wide", [1, 16, 96])
def test_scale_rows(kind, ours, wide):
    x, scale = torch.randn(3, 77, wide, **kind), torch.randn(5, wide, **kind)[1:4]
    scale[1] = 0
    x[1, 3] = torch.inf
    wanted = REFERENCE.scale_rows(x, scale)
    found = ours.scale_rows(x, scale)
    assert found.data_ptr() == x.data_ptr() and torch.equal(found, wanted) and not found[1].any()


@pytest.mark.parametrize("make", [make_tiny_sd, make_tiny_sdxl])
def test_the_adapters_gradient_is_that_of_peft(tmp_path, ours, make):
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert cosine_to_peft(make(tmp_path / "base"), ours, DEVICE) > 0.9999


@pytest.mark.parametrize("width", [40, 64, 80, 160])
def test_the_attention_probe_finds_kernels_with_right_gradients(width):
    found = probe([Shape(2, 8, 1024, 1024, width, 1), Shape(2, 8, 1024, 77, width, 1)], torch.bfloat16, DEVICE)
    assert {"torch", "flash", "efficient"} <= set(found.seconds)
    assert found.chosen in {"torch", *found.seconds}
