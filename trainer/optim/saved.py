"""The state of an optimiser as named tensors: what a checkpoint keeps. Nothing is pickled."""

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from trainer.contract.errors import UserError
from trainer.protocols import Optimizer

REST = "rest"  # name of the tensor that holds, as UTF-8 bytes of JSON, all that is no tensor
PLAIN = bool | int | float | str | None


def misfit() -> UserError:
    """What is said of a checkpoint that another config made."""
    return UserError(
        "the checkpoint does not fit the run's config", "checkpoints", "Start a new run; this one was changed by hand."
    )


@torch.no_grad()
def put_back(saved: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into live ones of the same names.

    Raises:
        UserError: names or shapes differ: the checkpoint belongs to another config.
    """
    if saved.keys() != into.keys() or any(saved[name].shape != into[name].shape for name in into):
        raise misfit()
    for name, tensor in into.items():
        tensor.copy_(saved[name])


def load_around(inner: Optimizer, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Load what stands around another optimiser: its own tensors, and the other's from what is left."""
    put_back({name: saved[name] for name in own if name in saved}, own)
    inner.load({name: tensor for name, tensor in saved.items() if name not in own})


def pack(optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that an optimiser of torch's kind keeps: tensors by name, the rest as JSON (see `REST`).

    Numbers come back exactly: JSON holds the shortest text that gives a float again. Of the options of its groups only
    what JSON can hold is kept: the others are those it is made with, each time.

    Args:
        optimizer: its state is read, not changed.
        names: of its parameters.

    Raises:
        TypeError: it keeps something that is neither a tensor nor plain.
    """
    tensors: dict[str, Tensor] = {}
    seen: dict[tuple[Any, ...], str] = {}

    def told(value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            # One tensor that several parameters share, such as a table of 8-bit values, is kept once.
            own = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else (place,)
            name = seen.setdefault(own, place)
            tensors.setdefault(name, value.detach())
            return {"tensor": name, "cpu": value.device.type == "cpu"}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"map": {key: told(item, f"{place}/{key}") for key, item in value.items()}}
        if isinstance(value, list | tuple):
            items = [told(item, f"{place}/{index}") for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, PLAIN):
            return value
        raise TypeError(f"'{place.rpartition('/')[2]}' is a {type(value).__name__}")

    def options(group: Mapping[str, Any], index: int) -> dict[str, Any]:
        kept = {key: value for key, value in group.items() if key != "params" and _holdable(value)}
        return {key: told(value, f"group/{index}/{key}") for key, value in kept.items()}

    by_parameter = {id(parameter): name for name, parameter in names.items()}
    state = {}
    for key, value in optimizer.state.items():
        name = by_parameter[id(key)] if isinstance(key, Tensor) else f"/{key}"
        if not isinstance(value, Mapping) or value:
            state[name] = told(value, name)
    groups = [options(group, index) for index, group in enumerate(optimizer.param_groups)]
    text = json.dumps({"state": state, "groups": groups})
    return {**tensors, REST: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}


def _holdable(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_holdable(item) for item in value)
    return isinstance(value, PLAIN | Tensor)


def unpack(
    saved: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor], device: torch.device
) -> None:
    """Give an optimiser back what `pack` took of it: values, number types and places, bit for bit.

    Its own `load_state_dict` is not used: torch's would turn 8-bit states into float32.

    Raises:
        UserError: the state is that of another optimiser.
    """
    moved: dict[str, Tensor] = {}

    def given(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = [item for item in value.items() if item[0] != "cpu"]
        if kind == "tensor":
            place = torch.device("cpu") if value["cpu"] else device
            return moved.setdefault(content, saved[content].to(place, copy=True))
        if kind == "map":
            return {key: given(item) for key, item in content.items()}
        return (tuple if kind == "tuple" else list)(given(item) for item in content)

    try:
        rest = json.loads(bytes(saved[REST].tolist()))
        state: MutableMapping[Any, Any] = optimizer.state
        state.clear()
        for name, value in rest["state"].items():
            state[name[1:] if name.startswith("/") else names[name]] = given(value)
        for group, options in zip(optimizer.param_groups, rest["groups"], strict=True):
            group.update({key: given(value) for key, value in options.items()})
    except (KeyError, ValueError) as error:
        raise misfit() from error
