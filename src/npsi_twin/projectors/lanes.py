"""A vector of sixteen single-precision numbers for numba kernels: one number of sixteen slices at once.

Parallel-beam slices share their geometry, so that every step of a projector is the same for all of them. Kernels that
keep the slice axis last do each step once, on `LANES` slices, in what is one register of an AVX-512 machine, two of an
AVX2 and four of a NEON one. numba leaves vectors to the compiler's own judgement, which gives up on loops with as many
streams as a butterfly of a Fourier transform has; here they are a type, and the machine code is what the kernel says.

A `Lanes` value knows ``+``, ``-``, ``*`` with another and ``*`` with one float32 for all lanes. `load` and `store` move
it from and to a flat, contiguous float32 array at an index that the kernel answers for: nothing checks bounds. A lane
never meets another one, which is why a slice's result does not depend on its neighbours. Products and sums may be fused
where the machine can, in the same way for every lane.
"""

# mypy: allow-untyped-calls
# numba's own interface for extensions is not annotated.

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # ships no types; numba is built on it
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from npsi_twin.volumes import FloatArray

#: Slices worked on at once.
LANES = 16

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_BYTES = 4 * LANES


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES})")


lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes_type: _LanesType) -> None:
        super().__init__(manager, lanes_type, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _load(typing_context: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``array[index : index + LANES]`` of a flat, contiguous float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return lanes(array, types.intp), generate


def _store(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set ``array[index : index + LANES]`` of a flat, contiguous float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, index), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


def _line_pointer(context: Any, builder: Any, line_type: Any, line: Any, index: Any) -> Any:
    array = context.make_array(line_type)(context, builder, line)
    stride = builder.extract_value(array.strides, 0)
    place = cgutils.pointer_add(builder, array.data, builder.mul(index, stride))
    return builder.bitcast(place, _VECTOR.as_pointer())


def _load_line(typing_context: Any, line: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``line[index, :LANES]`` of a two-dimensional float32 array whose last axis has no gaps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_line_pointer(context, builder, signature.args[0], *arguments), align=4)

    return lanes(line, types.intp), generate


def _store_line(typing_context: Any, line: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set ``line[index, :LANES]`` of a two-dimensional float32 array whose last axis has no gaps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, index, value = arguments
        builder.store(value, _line_pointer(context, builder, signature.args[0], line, index), align=4)
        return context.get_dummy_value()

    return types.void(line, types.intp, lanes), generate


# numba ships no types for what calls of an intrinsic look like.
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
load_line: Any = intrinsic(_load_line)
store_line: Any = intrinsic(_store_line)


class _SameForEveryLane(AbstractTemplate):
    key: Any

    def generic(self, args: Any, kws: Any) -> Any:
        if args == (lanes, lanes) or (self.key is operator.mul and args == (lanes, types.float32)):
            return signature(lanes, *args)
        return None


def _operator(function: Any, instruction: str) -> None:
    template = type(f"_Lanes_{function.__name__}", (_SameForEveryLane,), {"key": function})
    infer_global(function)(template)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second = arguments
        if signature.args[1] == types.float32:
            zero = ir.Constant(ir.IntType(32), 0)
            single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), second, zero)
            every = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            second = builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), every)
        return getattr(builder, instruction)(first, second, flags=("contract",))

    lower_builtin(function, lanes, lanes)(generate)
    if function is operator.mul:
        lower_builtin(function, lanes, types.float32)(generate)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


def aligned(size: int) -> FloatArray:
    """Return an uninitialised flat float32 array that starts where a whole register of lanes does."""
    raw = np.empty(4 * size + _BYTES, np.uint8)
    start = -raw.ctypes.data % _BYTES
    array: FloatArray = raw[start : start + 4 * size].view(np.float32)
    return array
