"""The passes of the ray projector over sixteen slices; every pass is a loop that threads share out freely.

Forward: `pixels_in`, `pixels_to_views`, `views_out`. Backwards: `views_in`, `views_to_pixels`. The model is in
`npsi_twin.projectors.rays`; arrays here are flat float32 with the slices innermost: pixels (y, x, slice) with a border
of zeros, views (view, column, slice). Work goes tile by tile of the slice, so that what all views read stays in the
cache.

Nothing checks bounds: the border, and columns added to the views at both ends, keep every access inside.
"""

from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.projectors.lanes import (
    LANES,
    every,
    load,
    load_across,
    load_line,
    positive,
    store,
    store_across,
    store_line,
    store_whole,
    whole,
)
from npsi_twin.volumes import FloatArray

#: Pixels of zeros round a slice: one that interpolation reads, one for rounding at a tile's edge.
BORDER = 2

#: Pixels along a side of the tile of a slice that all rays, or all views, pass before the next one.
_RAY_TILE, PIXEL_TILE = 64, 32

#: Views added to a pixel while it stays in a register; `Shadows` are made up to a multiple of it by views of zeros.
TOGETHER = 4

_ZERO, _ONE = np.float32(0), np.float32(1)
_ONES = np.ones(LANES, np.float32)
_COUNT = np.arange(LANES, dtype=np.float32)


class Rays(NamedTuple):
    """Every ray as a straight line over the slice's lines of pixels: rows, or columns, whichever it crosses steeper.

    Ray c of a view crosses line j at pixel  start + c * per_column + j * per_line  of it. Lines are counted from the
    end from which this grows.

    Attributes
    ----------
    start, per_column, per_line
        In pixels; ``per_line`` is at least 1e-9; (views,).
    places
        Where pixel 0 of line 0 lies in the flat slice, the way to the next line, and to the next pixel; (views, 3).
    """

    start: NDArray[np.float64]
    per_column: NDArray[np.float64]
    per_line: NDArray[np.float64]
    places: NDArray[np.int64]


class Shadows(NamedTuple):
    """Where a pixel falls on the detector, and what it takes from the two columns about that place.

    Pixel (x, y) falls on  start + x * per_x + y * per_y  and takes max(0, most - fall * distance) of a column.

    Attributes
    ----------
    origin
        Where a view's column 0 lies in the flat views; (views,).
    start, per_x, per_y
        In columns, the added ones counted; (views,).
    most, fall
        (views,).
    """

    origin: NDArray[np.int64]
    start: NDArray[np.float64]
    per_x: NDArray[np.float64]
    per_y: NDArray[np.float64]
    most: FloatArray
    fall: FloatArray


class Scratch(NamedTuple):
    """What one thread writes meanwhile.

    Attributes
    ----------
    tile
        Sums of the pixels of a tile, (y, x, slice), flat.
    steps
        How many pixels, or columns, to go to each of the next steps, integers.
    left, right
        The weights of what lies there and of the next one.
    """

    tile: FloatArray
    steps: NDArray[np.int32]
    left: FloatArray
    right: FloatArray


_STEPS = max(_RAY_TILE, TOGETHER * PIXEL_TILE)
_TILE_NUMBERS = PIXEL_TILE**2 * LANES

#: float32 numbers that a `Scratch` takes.
SCRATCH_NUMBERS = _TILE_NUMBERS + 3 * _STEPS


def scratch_in(numbers: FloatArray) -> Scratch:
    """Return a scratch that lies in `SCRATCH_NUMBERS` numbers."""
    parts = np.split(numbers, np.cumsum([_TILE_NUMBERS, _STEPS, _STEPS]))
    return Scratch(parts[0], parts[1].view(np.int32), parts[2], parts[3])


@njit(cache=True, nogil=True)
def _take(line: Any, target: FloatArray, o: int) -> None:
    """Copy a line (place, slice) to a flat array from ``o`` on, with zeros for the slices there are not."""
    places, slices = line.shape
    done = 0
    if slices == LANES and line.strides[1] == line.itemsize:
        for i in range(places):
            store(target, o + i * LANES, load_line(line, i))
        done = places
    elif slices == LANES and line.strides[0] == line.itemsize:
        # Slices apart in memory come over in squares.
        done = places // LANES * LANES
        for i in range(0, done, LANES):
            load_across(line, i, target, o + i * LANES, LANES)
    for i in range(o + done * LANES, o + places * LANES):
        target[i] = 0
    for z in range(slices):
        for i in range(done, places):
            target[o + i * LANES + z] = line[i, z]


@njit(cache=True, nogil=True)
def _give(line: Any, source: FloatArray, o: int, factor: Any) -> None:
    """Write to a line, times a factor, what lies in a flat array from ``o`` on; the array is spoilt."""
    places, slices = line.shape
    for i in range(o, o + places * LANES):
        source[i] *= factor
    done = 0
    if slices == LANES and line.strides[1] == line.itemsize:
        for i in range(places):
            store_line(line, i, load(source, o + i * LANES))
        done = places
    elif slices == LANES and line.strides[0] == line.itemsize:
        done = places // LANES * LANES
        for i in range(0, done, LANES):
            store_across(line, i, source, o + i * LANES, LANES)
    for z in range(slices):
        for i in range(done, places):
            line[i, z] = source[o + i * LANES + z]


@njit(cache=True, nogil=True)
def pixels_in(start: int, stop: int, slab: Any, pixels: FloatArray) -> None:
    """Copy rows of a slab (y, x, slice), counted with the border, into pixels with their border."""
    width = slab.shape[0]
    pitch = (width + 2 * BORDER) * LANES
    for row in range(start, stop):
        o = row * pitch
        for i in range(o, o + pitch):
            pixels[i] = 0
        if BORDER <= row < width + BORDER:
            _take(slab[row - BORDER], pixels, o + BORDER * LANES)


@njit(cache=True, nogil=True)
def views_in(start: int, stop: int, sinograms: Any, before: int, pitch: int, views: FloatArray) -> None:
    """Copy sinograms (view, column, slice) into views of ``pitch`` columns, ``before`` of them zeros before theirs."""
    for view in range(start, stop):
        o = view * pitch * LANES
        for i in range(o, o + pitch * LANES):
            views[i] = 0
        _take(sinograms[view], views, o + before * LANES)


@njit(cache=True, nogil=True)
def views_out(start: int, stop: int, views: FloatArray, factors: FloatArray, sinograms: Any) -> None:
    """Write views, times a factor each, to sinograms (view, column, slice)."""
    for view in range(start, stop):
        _give(sinograms[view], views, view * sinograms.shape[1] * LANES, factors[view])


@njit(cache=True, nogil=True)
def pixels_to_views(
    start: int, stop: int, pixels: FloatArray, width: int, rays: Rays, columns: int, views: FloatArray, scratch: Scratch
) -> None:
    """Sum the pixels along every ray of some views, interpolated between the two that it passes in every line."""
    for i in range(start * columns * LANES, stop * columns * LANES):
        views[i] = 0
    for first in range(0, width, _RAY_TILE):
        last = min(first + _RAY_TILE, width)
        for low in range(-1, width, _RAY_TILE):
            high = min(low + _RAY_TILE, width)
            for view in range(start, stop):
                _sum_in_tile(first, last, low, high, pixels, rays, view, columns, views, scratch)


@njit(cache=True, nogil=True)
def _sum_in_tile(
    first: int,
    last: int,
    low: int,
    high: int,
    pixels: FloatArray,
    rays: Rays,
    view: int,
    columns: int,
    views: FloatArray,
    scratch: Scratch,
) -> None:
    """Add what the rays of a view meet in lines first to last - 1 at places from low up to high."""
    # Arrays by their own names: taken out of a tuple within the loop, each would be counted as in use and no longer.
    steps, left, right = scratch.steps, scratch.left, scratch.right
    start, per_column, per_line = rays.start[view], rays.per_column[view], rays.per_line[view]
    to_line, to_pixel = rays.places[view, 1], rays.places[view, 2]
    ones, per_place = load(_ONES, 0), 1 / per_line
    ruler, sixteen = load(_COUNT, 0) * np.float32(per_line), ones * np.float32(LANES * per_line)
    # Places count from the pixel before the tile, so that they are small and their integer part is the floor.
    corner = rays.places[view, 0] + first * to_line + (low - 1) * to_pixel
    # Rays that can meet the tile: those at its corners, and one more on either side for rounding.
    one = (low - (last - 1) * per_line - start) / per_column
    other = (high - first * per_line - start) / per_column
    for c in range(max(0, floor(min(one, other))), min(columns, ceil(max(one, other)) + 1)):
        at_zero = start + c * per_column
        begin = max(first, ceil((low - at_zero) * per_place))
        count = min(last, ceil((high - at_zero) * per_place)) - begin
        if count > 0:
            begins = ones * np.float32(at_zero + begin * per_line - low + 1)
            for block in range(0, count, LANES):
                place = ruler + begins
                pixel = whole(place)
                store_whole(steps, block, pixel)
                store(right, block, place - pixel)
                store(left, block, pixel + ones - place)
                begins = begins + sixteen
            o, at = (view * columns + c) * LANES, corner + (begin - first) * to_line
            # Four sums, which need not wait for one another.
            total = load(views, o)
            second = total * _ZERO
            third, fourth = second, second
            for pair in range(count // 2):
                q = 2 * pair
                p = at + steps[q] * to_pixel
                total = total + load(pixels, p) * every(left, q)
                second = second + load(pixels, p + to_pixel) * every(right, q)
                p = at + to_line + steps[q + 1] * to_pixel
                third = third + load(pixels, p) * every(left, q + 1)
                fourth = fourth + load(pixels, p + to_pixel) * every(right, q + 1)
                at += 2 * to_line
            if count % 2:
                p = at + steps[count - 1] * to_pixel
                total = total + load(pixels, p) * every(left, count - 1)
                second = second + load(pixels, p + to_pixel) * every(right, count - 1)
            store(views, o, (total + second) + (third + fourth))


@njit(cache=True, nogil=True)
def views_to_pixels(
    start: int,
    stop: int,
    views: FloatArray,
    shadows: Shadows,
    factor: Any,
    slab: Any,
    scratch: Scratch,
) -> None:
    """Sum over all views what pixels take from them, for some tiles of a slab (y, x, slice), times a factor."""
    width = slab.shape[0]
    across = -(-width // PIXEL_TILE)
    for index in range(start, stop):
        top, left = index // across * PIXEL_TILE, index % across * PIXEL_TILE
        bottom, right = min(top + PIXEL_TILE, width), min(left + PIXEL_TILE, width)
        pitch = (right - left) * LANES
        for i in range((bottom - top) * pitch):
            scratch.tile[i] = 0
        for view in range(0, shadows.start.size, TOGETHER):
            for y in range(top, bottom):
                _add_views(view, y, left, right, views, shadows, (y - top) * pitch, scratch)
        for y in range(top, bottom):
            _give(slab[y, left:right], scratch.tile, (y - top) * pitch, factor)


@njit(cache=True, nogil=True)
def _look(view: int, y: int, left: int, part: int, shadows: Shadows, scratch: Scratch) -> int:
    """Note where the pixels of a tile's row look in a view and with which weights; return the view's first place."""
    most, fall = shadows.most[view], shadows.fall[view]
    per_x = shadows.per_x[view]
    at = shadows.start[view] + y * shadows.per_y[view] + left * per_x
    # Places count from the leftmost column met, so that they are small and exact enough in single precision.
    column = floor(min(at, at + PIXEL_TILE * per_x))
    ones, step = load(_ONES, 0), np.float32(per_x)
    begins, sixteen = ones * np.float32(at - column), ones * np.float32(LANES * per_x)
    for q in range(part, part + PIXEL_TILE, LANES):
        place = load(_COUNT, 0) * step + begins
        first = whole(place)
        share = place - first
        store_whole(scratch.steps, q, first)
        store(scratch.left, q, positive(ones * most - share * fall))
        store(scratch.right, q, positive(ones * most - (ones - share) * fall))
        begins = begins + sixteen
    origin: int = shadows.origin[view] + column * LANES
    return origin


@njit(cache=True, nogil=True)
def _add_views(
    view: int,
    y: int,
    left: int,
    right: int,
    views: FloatArray,
    shadows: Shadows,
    o: int,
    scratch: Scratch,
) -> None:
    """Add `TOGETHER` views to the pixels left to right - 1 of row y, which lie in the tile from ``o`` on."""
    one = _look(view, y, left, 0, shadows, scratch)
    two = _look(view + 1, y, left, PIXEL_TILE, shadows, scratch)
    three = _look(view + 2, y, left, 2 * PIXEL_TILE, shadows, scratch)
    four = _look(view + 3, y, left, 3 * PIXEL_TILE, shadows, scratch)
    for q in range(right - left):
        total = load(scratch.tile, o + q * LANES)
        total = _add_columns(total, views, one, q, scratch)
        total = _add_columns(total, views, two, PIXEL_TILE + q, scratch)
        total = _add_columns(total, views, three, 2 * PIXEL_TILE + q, scratch)
        total = _add_columns(total, views, four, 3 * PIXEL_TILE + q, scratch)
        store(scratch.tile, o + q * LANES, total)


@njit(cache=True, nogil=True)
def _add_columns(total: Any, views: FloatArray, origin: int, q: int, scratch: Scratch) -> Any:
    """Return a sum with what step q meets in two neighbouring columns added."""
    o = origin + scratch.steps[q] * LANES
    return total + load(views, o) * every(scratch.left, q) + load(views, o + LANES) * every(scratch.right, q)
