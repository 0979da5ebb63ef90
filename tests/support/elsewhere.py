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
from torch.utils._pytree import tree_iter, tree_map_only

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
        return computed(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Meanwhile "meta" is a device with numbers. `seen`: names of the operations that were computed on it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        made = computed(func, args, kwargs or {})
        if any(isinstance(x, There) for x in tree_iter(made)):
            self.seen.add(func._schema.name)
        return made


def computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operation on the numbers; what it makes lies where its tensors do, or where it is told to. Raises Mixed."""
    tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
    name = func._schema.name.partition("::")[2]
    scalars_pass = torch.Tag.pointwise in func.tags or name.startswith("_foreach")
    there = [x for x in tensors if isinstance(x, There)]
    here = [x for x in tensors if not isinstance(x, There) and not (scalars_pass and x.dim() == 0)]
    if there and here and name not in COPIES:
        raise Mixed(f"{name}: a tensor on the CPU of shape {tuple(here[0].shape)} beside one on {NAME}")
    told = kwargs.get("device")
    lands = torch.device(told).type == NAME if told is not None else bool(there)
    if told is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = (tree_map_only(There, lambda x: x.numbers, x) for x in (args, kwargs))
    if name == "_to_copy" and told is not None:  # what is moved shares no memory with what stays
        kwargs = {k: v for k, v in kwargs.items() if k != "non_blocking"}
    made = func(*args, **kwargs)
    return _returned(func, made, tensors, lands)


def _returned(func: Any, made: Any, tensors: Sequence[Tensor], lands: bool) -> Any:
    """What the caller sees: an argument that was written is itself, anything new lies where it should."""
    known: dict[int, Tensor] = {id(x.numbers if isinstance(x, There) else x): x for x in tensors}
    wrap: Callable[[Tensor], Tensor] = lambda x: known.get(id(x), There(x) if lands else x)  # noqa: E731
    return tree_map_only(Tensor, wrap, made)
