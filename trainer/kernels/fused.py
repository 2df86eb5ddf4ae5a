"""All of our kernels. Needs Triton."""

from trainer.kernels.group_norm import group_norm
from trainer.kernels.reference import Kernels
from trainer.kernels.rows import add_bias, add_norm, gated_gelu, scale_rows

FUSED = Kernels(group_norm, gated_gelu, add_norm, add_bias, scale_rows)
