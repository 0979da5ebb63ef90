"""A device that is not the CPU, on a machine that has none: torch's "meta", with the numbers kept behind it.

    with Elsewhere():
        x = torch.ones(3).to("meta")    # lies on "meta", and holds numbers: x.cpu() has them
        x + torch.ones(3)               # raises Mixed, as CUDA would

Every operation below autograd goes through it, gradients, optimisers and a language model's layers too: it computes on
the CPU what lies on "meta", and refuses tensors of both in one operation. It is stricter than CUDA in one thing (an
index on the CPU into a tensor elsewhere is refused: CUDA waits for it to be copied) and alike in another (a CPU tensor
of no axis is a number in whatever acts element by element). It proves that no tensor is forgotten on the CPU; not that
CUDA has each operation, how it rounds, how fast it is or what memory it takes. torch's FakeTensorMode does not serve:
without a CUDA build autograd ends the process on a tensor that says "cuda", and its tensors hold no numbers, which
`torch.unique` and a loop's lengths ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "meta"
COPIES = ("_to_copy", "copy_", "_foreach_copy_")  # may go from one device to the other


class Mixed(RuntimeError):
    """Tensors of two devices in one operation."""


class There(Tensor):
    """A tensor that lies on the device; `numbers` are what it holds."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype,
            device=NAME)
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        """As of a tensor on CUDA; torch has none for subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, set())


class Elsewhere(TorchDispatchMode):
    """Meanwhile "meta" is a device with numbers. `seen`: names of the operations that were computed on it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, self.seen)


def computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any], seen: set[str]) -> Any:
    """The operation on the numbers; what it makes lies where its tensors do, or where it is told to. Raises Mixed."""
    given: list[Tensor] = []
    args, kwargs = _each(args, given), {name: _each(x, given) for name, x in kwargs.items()}
    name = func._schema.name.partition("::")[2]
    scalars_pass = torch.Tag.pointwise in func.tags or name.startswith("_foreach")
    there = [x for x in given if isinstance(x, There)]
    if there and len(there) < len(given) and name not in COPIES:
        here = [x for x in given if not isinstance(x, There) and not (scalars_pass and x.dim() == 0)]
        if here:
            raise Mixed(f"{name}: a tensor on the CPU of shape {tuple(here[0].shape)} beside one on {NAME}")
    told, lands = kwargs.get("device"), bool(there)
    if told is not None:
        kwargs["device"], lands = torch.device("cpu"), torch.device(told).type == NAME
    if there or lands:
        seen.add(name)
    made = func(*args, **kwargs)
    # An argument that was written to is returned as itself; anything new lies where it should.
    known = {id(x.numbers if isinstance(x, There) else x): x for x in given}
    return _mapped(made, lambda x: known.get(id(x), There(x) if lands else x))


def _each(given: Any, tensors: list[Tensor]) -> Any:
    """The numbers of what was given, whose tensors are added to a list."""

    def numbers(x: Tensor) -> Tensor:
        tensors.append(x)
        return x.numbers if isinstance(x, There) else x

    return _mapped(given, numbers)


def _mapped(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(x, Tensor):
        return change(x)
    return type(x)(_mapped(y, change) for y in x) if isinstance(x, (list, tuple)) else x
