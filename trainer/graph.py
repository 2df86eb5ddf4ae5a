"""CUDA graphs: a function of a batch, recorded once for each set of shapes and replayed with one launch.

A LoRA step at the batch sizes people use is bound by launches: thousands of small kernels, each started from Python.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from trainer.device import ran_out

WARM_UPS = 3  # kernels are chosen and workspaces made before anything is recorded

Tensors = TypeVar("Tensors", bound=tuple[Tensor | None, ...])


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Within this no garbage is collected: a graph of an earlier attempt among it would end a recording."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Recording(NamedTuple):
    """A graph with the memory it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]
    output: Tensor


class Graphed(Generic[Tensors]):
    """Replays a function of tensors.

    All graphs share one memory pool: they are never replayed at the same time, so memory is the largest, not the sum.

    Args:
        function: reads the batch and tensors that stay where they are; waits for nothing.
        scratch: tensors that the function changes: they are put back after the warm-up, which may run at any moment.
        generators: CUDA generators that it draws from; seeded before a replay, they give the same draws.
        told: hears a sentence where a set of shapes could not be recorded and is run as it is.
    """

    def __init__(
        self,
        function: Callable[[Tensors], Tensor],
        scratch: Sequence[Tensor],
        generators: Sequence[torch.Generator] = (),
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._function, self._scratch, self._generators = function, scratch, generators
        self._told = told
        self._recordings: dict[tuple[object, tuple[torch.Size | None, ...]], Recording | None] = {}
        self._pool: object = None
        self._side: torch.cuda.Stream | None = None

    def __call__(self, batch: Tensors, kind: object = None) -> Tensor:
        """Run the function on a batch; the answer is overwritten by the next call.

        `kind`: what else the function does otherwise than before, such as which tensors it reads.
        """
        key = kind, tuple(None if tensor is None else tensor.shape for tensor in batch)
        if key not in self._recordings:
            self._recordings[key] = self._try_to_record(batch)
        recording = self._recordings[key]
        if recording is None:
            return self._function(batch)
        for mine, given in zip(recording.inputs, batch, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        recording.graph.replay()
        return recording.output

    def forget(self) -> None:
        """Give up all recordings and their memory; each is made again when it is needed."""
        self._recordings.clear()
        self._pool = None
        torch.cuda.empty_cache()

    def _try_to_record(self, batch: Tensors) -> Recording | None:
        states = [generator.get_state() for generator in self._generators]
        kept = [tensor.to("cpu", copy=True) for tensor in self._scratch]  # the device's memory is short just now
        try:
            return self._record(batch)
        except RuntimeError as error:
            if ran_out(error):
                raise
            reason = str(error).strip().partition("\n")[0]
            self._told(f"a step could not be recorded as a CUDA graph and is run kernel by kernel, slower: {reason}")
            return None
        finally:
            for tensor, before in zip(self._scratch, kept, strict=True):
                tensor.copy_(before)
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)

    def _record(self, batch: Tensors) -> Recording:
        inputs = type(batch)(*(None if tensor is None else tensor.clone() for tensor in batch))
        # One stream for warm-ups and recordings: cuBLAS keeps a workspace (32 MiB on an H200) for each it has seen.
        self._side = self._side or torch.cuda.Stream()
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            for _ in range(WARM_UPS):
                self._function(inputs)
        torch.cuda.current_stream().wait_stream(self._side)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what the warm-up left would stay beside the graph's own pool
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with _nothing_collected(), torch.cuda.graph(graph, pool=self._pool, stream=self._side):
            output = self._function(inputs)
        self._pool = self._pool or graph.pool()
        return Recording(graph, tuple(inputs), output)
