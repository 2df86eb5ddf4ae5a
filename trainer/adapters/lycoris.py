"""LyCORIS' formulas (arXiv 2309.14859), imported only by the methods that are made of them."""

from trainer.contract.errors import UserError

try:
    from lycoris.functional import diag_oft, loha, lokr, weight_decompose
except ImportError as error:
    raise UserError(
        "DoRA, LoHa, LoKr and OFT need LyCORIS, which is not installed",
        "adapter.method",
        "Run `pip install lycoris-lora`, or take adapter.method=lora.",
    ) from error

__all__ = ["BACKEND", "diag_oft", "loha", "lokr", "weight_decompose"]

BACKEND = "torch"  # its own kernels and the compiler differ from machine to machine, and start slowly
