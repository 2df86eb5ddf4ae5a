"""What is learned and how errors weigh: pure functions of tensors, each named after its paper, and their choice.

Nothing here draws: what is random comes with the batch (`trainer.data.noising`). Nothing waits for the device or
branches on a value, so that all of it can be recorded in a CUDA graph. Rows of the catalogue name the functions.
"""
