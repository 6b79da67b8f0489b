"""A vector of sixteen single-precision numbers for numba kernels: one number of sixteen slices at once.

Parallel-beam slices share their geometry, so that every step of a projector is the same for all of them. Kernels that
keep the slice axis last do each step once, on `LANES` slices, in what is one register of an AVX-512 machine, two of an
AVX2 and four of a NEON one. numba leaves vectors to the compiler's own judgement, which gives up on loops with as many
streams as a butterfly of a Fourier transform has; here they are a type, and the machine code is what the kernel says.

A `Lanes` value knows ``+``, ``-``, ``*`` with another and ``*`` with one float32 for all lanes. `load` and `store` move
it from and to a flat, contiguous float32 array at an index that the kernel answers for: nothing checks bounds. A lane
never meets another one, which is why a slice's result does not depend on its neighbours. `load_across` and
`store_across` do the same for sixteen places of slices that lie apart in memory; `every`, `whole` and `positive` serve
kernels that reckon sixteen steps ahead. Products and sums may be fused where the machine can, in the same way for every
lane.
"""

# mypy: allow-untyped-calls
# numba's own interface for extensions is not annotated.

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_BYTES = 4 * LANES


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES})")


lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes_type: _LanesType) -> None:
        super().__init__(manager, lanes_type, _VECTOR)


def _in_every_lane(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_INTEGERS, [0] * LANES))


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


def _swap_axes(builder: Any, vectors: list[Any]) -> list[Any]:
    """Return lane j of vector i as lane i of vector j, by exchanging ever smaller blocks beside the diagonal."""
    size = LANES // 2
    while size:
        for i in range(LANES):
            if i & size == 0:
                one, other = vectors[i], vectors[i + size]
                upper = [j + LANES - size if j & size else j for j in range(LANES)]
                lower = [j + LANES if j & size else j + size for j in range(LANES)]
                vectors[i] = builder.shuffle_vector(one, other, ir.Constant(_INTEGERS, upper))
                vectors[i + size] = builder.shuffle_vector(one, other, ir.Constant(_INTEGERS, lower))
        size //= 2
    return vectors


def _across(context: Any, builder: Any, line_type: Any, line: Any, index: Any) -> list[Any]:
    """Return where the places from ``index`` on begin in each of `LANES` slices, which are apart in memory."""
    array = context.make_array(line_type)(context, builder, line)
    place, slices = (builder.extract_value(array.strides, axis) for axis in (0, 1))
    pointer = cgutils.pointer_add(builder, array.data, builder.mul(index, place))
    each = (builder.mul(slices, ir.Constant(slices.type, z)) for z in range(LANES))
    return [builder.bitcast(cgutils.pointer_add(builder, pointer, z), _VECTOR.as_pointer()) for z in each]


def _along(context: Any, builder: Any, array_type: Any, array: Any, index: Any, stride: Any) -> list[Any]:
    """Return where `LANES` vectors lie in a flat array, a stride apart."""
    each = (builder.add(index, builder.mul(stride, ir.Constant(stride.type, i))) for i in range(LANES))
    return [_pointer(context, builder, array_type, array, place) for place in each]


def _load_across(
    typing_context: Any, line: Any, index: Any, array: Any, place: Any, stride: Any
) -> tuple[Any, Callable[..., Any]]:
    """Set vector i, at ``place + i * stride``, to ``line[index + i, :LANES]``; i < `LANES`, places without gaps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, index, array, place, stride = arguments
        sources = _across(context, builder, signature.args[0], line, index)
        targets = _along(context, builder, signature.args[2], array, place, stride)
        vectors = [builder.load(source, align=4) for source in sources]
        for target, vector in zip(targets, _swap_axes(builder, vectors), strict=True):
            builder.store(vector, target, align=4)
        return context.get_dummy_value()

    return types.void(line, types.intp, array, types.intp, types.intp), generate


def _store_across(
    typing_context: Any, line: Any, index: Any, array: Any, place: Any, stride: Any
) -> tuple[Any, Callable[..., Any]]:
    """Set ``line[index + i, :LANES]`` to vector i, at ``place + i * stride``; i < `LANES`, places without gaps."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, index, array, place, stride = arguments
        sources = _along(context, builder, signature.args[2], array, place, stride)
        targets = _across(context, builder, signature.args[0], line, index)
        vectors = [builder.load(source, align=4) for source in sources]
        for target, vector in zip(targets, _swap_axes(builder, vectors), strict=True):
            builder.store(vector, target, align=4)
        return context.get_dummy_value()

    return types.void(line, types.intp, array, types.intp, types.intp), generate


def _every(typing_context: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``array[index]`` of a flat, contiguous float32 array in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        return _in_every_lane(builder, builder.load(builder.gep(data, [index])))

    return lanes(array, types.intp), generate


def _whole(typing_context: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the lanes' integer parts, rounded towards 0; below 2^31."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(builder.fptosi(arguments[0], _INTEGERS), _VECTOR)

    return lanes(value), generate


def _store_whole(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set ``array[index : index + LANES]`` of a flat, contiguous int32 array to the lanes' integer parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        place = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [index])
        whole = builder.fptosi(value, _INTEGERS)
        builder.store(whole, builder.bitcast(place, _INTEGERS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


def _positive(typing_context: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the lanes with 0 for what lies below it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zeros), arguments[0], zeros)

    return lanes(value), generate


# numba ships no types for what calls of an intrinsic look like.
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
load_line: Any = intrinsic(_load_line)
store_line: Any = intrinsic(_store_line)
load_across: Any = intrinsic(_load_across)
store_across: Any = intrinsic(_store_across)
every: Any = intrinsic(_every)
whole: Any = intrinsic(_whole)
store_whole: Any = intrinsic(_store_whole)
positive: Any = intrinsic(_positive)


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
            second = _in_every_lane(builder, second)
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


class IdleArrays:
    """Aligned arrays that outlive a call, so that the next one need not ask the system for memory again."""

    def __init__(self) -> None:
        self._idle: dict[int, list[FloatArray]] = {}

    @contextmanager
    def lent(self, size: int) -> Iterator[FloatArray]:
        """Lend an array of some size to one user at a time; it is made when none is idle, and holds anything."""
        idle = self._idle.setdefault(size, [])
        try:
            array = idle.pop()
        except IndexError:
            array = aligned(size)
        yield array
        idle.append(array)


def batches(slices: int) -> list[slice]:
    """Return the parts of a slab that are worked on at once, `LANES` slices each but the last."""
    return [slice(start, start + LANES) for start in range(0, slices, LANES)]
