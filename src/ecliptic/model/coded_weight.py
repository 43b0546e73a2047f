"""`CodedWeight`: the weight of an int8 layer as a float32 tensor that keeps only the codes.

Each operator that reads it gets the float32 values, which are made for it and dropped after it.
What is written to it stays: from the first write on it holds float32 values, as any other tensor.
It is a wrapper subclass of PyTorch (docs, "Extending PyTorch", "Subclassing torch.Tensor"). The
first operator of such a tensor imports parts of PyTorch for half a second, so loading and encoding
use none. M outputs, K inputs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.utils._pytree import tree_leaves, tree_map

from ecliptic.model.quantised import QuantisedLinear

# Older pickles, which `torch.save` writes too, are for programs that may not know this class.
_OLDER_PICKLES = 2
_ALIASES = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)  # all values, as they are


@dataclass(eq=False)
class _Values:
    """The values of a weight, which all its views share."""

    layer: QuantisedLinear | None  # None once something was written
    floats: Tensor | None = None  # (M, K), once they have to stay

    def read(self) -> Tensor:
        if self.floats is not None:
            return self.floats
        assert self.layer is not None
        return self.layer.to_float()

    @torch.inference_mode(False)  # what is kept may be written to outside of it
    def keep(self) -> None:
        """From now on hold float32 values."""
        self.floats = self.read()

    def write(self) -> None:
        """Before a write: hold float32 values, which the codes no longer stand for."""
        self.keep()
        self.layer = None


class CodedWeight(Tensor):
    """(M, K) float32 values of a `QuantisedLinear` on the CPU, made anew whenever they are read."""

    _shared: _Values
    _views: tuple[Callable[[Tensor], Tensor], ...]  # that lead from all values to these

    @staticmethod
    def __new__(cls, layer: QuantisedLinear, *, parameter: bool = False) -> "CodedWeight":
        """The weight of `layer`; as an `nn.Parameter` if it is a `parameter`."""
        made = cls._make(torch.empty(layer.weight.shape, device="meta"), _Values(layer), ())
        if parameter:
            made._is_param = True  # as `nn.Parameter` does, but without an operator
            made.requires_grad_()
        return made

    @classmethod
    def _make(
        cls, shape: Tensor, values: _Values, views: tuple[Callable[[Tensor], Tensor], ...]
    ) -> "CodedWeight":
        """With the sizes of `shape`, a tensor without values."""
        sizes = shape.shape, shape.stride(), shape.storage_offset()
        with torch.inference_mode(False):  # a view of a tensor that PyTorch counts writes to
            made: CodedWeight = Tensor._make_wrapper_subclass(
                cls, *sizes, dtype=shape.dtype, device=torch.device("cpu")
            )
        made._shared, made._views = values, views
        return made

    def parameter(self) -> Tensor:
        """A parameter of a model with these values, which it can change without changing this."""
        if self._layer is None:
            return nn.Parameter(self.to_ordinary().clone())
        return CodedWeight(self._layer, parameter=True)

    @property
    def place(self) -> int:
        """Another number after a write, also after those that PyTorch does not count."""
        values = self._shared
        if values.layer is not None:
            return id(values.layer)
        assert values.floats is not None
        return values.floats.data_ptr()

    @property
    def coded(self) -> bool:
        """Whether only the codes are kept."""
        return self._shared.floats is None

    def to_ordinary(self) -> Tensor:
        """The values as an ordinary tensor, a copy while they are codes."""
        found = self._shared.read()
        for view in self._views:
            found = view(found)
        return found

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator on the values; autograd is done with it by then."""
        kwargs = kwargs or {}
        found = func.decompose(*args, **kwargs)  # in inference mode PyTorch has not done it
        if found is not NotImplemented:
            return found
        if torch.Tag.inplace_view in func.tags:
            raise TypeError(
                f"{func} would give the weight of an int8 layer another shape in place; change a "
                "copy, weight.clone()."
            )
        if func._schema.is_mutable:
            return _write(func, args, kwargs)
        if _is_view(func) and isinstance(args[0], CodedWeight):
            return args[0]._view(func, args[1:], kwargs)
        return func(*_ordinary(args), **_ordinary(kwargs))

    def _view(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The view or views that `func` makes."""
        if func in _ALIASES:
            return self._make(_shape_of(self), self._shared, self._views)

        def make(shape: Tensor, place: int | None = None) -> CodedWeight:
            def view(x: Tensor) -> Tensor:
                found = func(x, *args, **kwargs)
                return found if place is None else found[place]  # type: ignore[no-any-return]

            return self._make(shape, self._shared, (*self._views, view))

        shapes = func(_shape_of(self), *args, **kwargs)
        if isinstance(shapes, Tensor):
            return make(shapes)
        return [make(shape, place) for place, shape in enumerate(shapes)]

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer what is asked of memory, which only ordinary tensors have."""
        if func is torch._has_compatible_shallow_copy_type:
            return type(args[0]) is type(args[1])  # so `Module.to` replaces it by what it cast
        if func in _READS:
            args = (args[0].detach().to_ordinary(), *args[1:])
        elif func in _ADDRESSES:
            args[0]._shared.keep()
            args = (args[0].to_ordinary(), *args[1:])
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
        if func == _SET_DATA:
            args[0]._replace(args[1])
        return found

    def _replace(self, new: Tensor) -> None:
        """Hold what was assigned to `data`."""
        if isinstance(new, CodedWeight):
            self._shared, self._views = new._shared, new._views
        else:
            self._shared, self._views = _Values(None, new.detach()), ()

    @property
    def _layer(self) -> QuantisedLinear | None:
        """The layer that these values are surely all of."""
        shared = self._shared
        return shared.layer if self.coded and not self._views else None

    def __copy__(self) -> Tensor:
        return _like(self, self.detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            layer, parameter = deepcopy(self._layer, memo), isinstance(self, nn.Parameter)
            memo[id(self)] = (
                _like(self, self.to_ordinary().clone())
                if layer is None
                else _make(layer, parameter, self.requires_grad)
            )
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._layer is None or protocol <= _OLDER_PICKLES:
            return _like(self, self.to_ordinary()).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]
        return _make, (self._layer, isinstance(self, nn.Parameter), self.requires_grad)


# Asked of memory that may be written to from outside, so the values stay there.
_ADDRESSES = frozenset(
    {
        Tensor.__array__,
        Tensor.__dlpack__,
        Tensor._typed_storage,
        Tensor.data_ptr,
        Tensor.is_shared,
        Tensor.numpy,
        Tensor.share_memory_,
        Tensor.storage,
        Tensor.untyped_storage,
    }
)
_READS = frozenset({Tensor.__repr__, Tensor.tolist})
_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]


def ordinary(tensor: Tensor) -> Tensor:
    """`tensor`, or the values of a coded one as an ordinary tensor."""
    return tensor.to_ordinary() if isinstance(tensor, CodedWeight) else tensor


def _ordinary(arguments: Any) -> Any:
    return tree_map(lambda one: ordinary(one) if isinstance(one, Tensor) else one, arguments)


def _write(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator that writes to some of its arguments, and return those that it returns."""
    for given in _written(func._schema.arguments, args, kwargs):
        written = [one for one in tree_leaves(given) if isinstance(one, CodedWeight)]
        for one in written:
            one._shared.write()
        if isinstance(given, list):
            increment_version(written)  # PyTorch counts writes to single tensors only
    coded = [one for one in tree_leaves((args, kwargs)) if isinstance(one, CodedWeight)]
    values = {id(one): one.to_ordinary() for one in coded}
    args, kwargs = tree_map(lambda one: values.get(id(one), one), (args, kwargs))
    found = func(*args, **kwargs)
    back = {id(values[id(one)]): one for one in coded}
    return tree_map(lambda one: back.get(id(one), one), found)


def _written(
    arguments: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Any]:
    """What an operator with these arguments writes to, of what it is given."""
    for place, argument in enumerate(arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield args[place] if place < len(args) else kwargs.get(argument.name)


def _is_view(func: Any) -> bool:
    return any(result.alias_info is not None for result in func._schema.returns)


def _shape_of(tensor: Tensor) -> Tensor:
    """A tensor of the same sizes without values."""
    sizes, strides = tensor.shape, tensor.stride()
    return torch.empty_strided(sizes, strides, dtype=tensor.dtype, device="meta")


def _like(old: Tensor, new: Tensor) -> Tensor:
    """`new` as a parameter or an ordinary tensor, as `old` is."""
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, old.requires_grad)
    return new.detach().requires_grad_(old.requires_grad)


def _make(layer: QuantisedLinear, parameter: bool, gradients: bool) -> Tensor:
    return CodedWeight(layer, parameter=parameter).requires_grad_(gradients)
