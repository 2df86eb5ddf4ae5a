"""From a folder of pictures to batches on the device, a pure function of (seed, micro-step)."""
