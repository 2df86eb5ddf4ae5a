"""Our own GPU kernels, in Triton: what a UNet does between its products, with fewer passes over memory.

Nothing outside imports these modules before it has seen a CUDA device: Triton is not there otherwise. Weights are taken
as frozen: no kernel computes a gradient for them.
"""
