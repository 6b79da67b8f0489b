"""The passes of the Fourier projector over sixteen slices; every pass is a loop that threads share out freely.

Forward: `rows_to_grid`, `columns_to_frequency`, `frequency_to_spectra`, `spectra_to_views`. Adjoint, the transposed
steps in reverse: `views_to_spectra`, `spectra_to_frequency`, `frequency_to_columns`, `grid_to_rows`. The model is in
`npsi_twin.projectors.fourier`; arrays here are flat float32 with the innermost axes (real or imaginary, slice).

A real slice needs half of its spectrum only. Two rows of a slice, or two views of a sinogram, ride as the real and
imaginary part of one transform and are told apart by symmetry, so that a slice shares no arithmetic with another one.
The grid holds ky from -size / 2 - halo to size / 2 + halo in rows and kx from -halo to size / 2 + halo within them; the
halo's cells repeat others by symmetry, so that a window is read and written without a question. Of a large grid only a
band of kx exists at a time, with as much halo; the rows are then transformed once for every band.
"""

from math import floor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.projectors.lane_fft import PAIR, FourierPlan, transform
from npsi_twin.projectors.lane_lines import (
    add,
    clear,
    copy,
    copy_conjugate,
    give,
    give_more,
    join,
    parted,
    take,
    wrapped,
)
from npsi_twin.projectors.lanes import LANES, load, store
from npsi_twin.volumes import FloatArray

#: Widest window in cells: the weights of both directions share one register.
WIDEST = LANES // 2

_HALF, _ONE = np.float32(0.5), np.float32(1)


class Grid(NamedTuple):
    """The frequency plane of sixteen slices, or a band of it.

    Attributes
    ----------
    cells
        (ky, kx, real or imaginary, slice), flat.
    size
        Even number of cells of a period.
    first, columns
        The kx at which the band begins, and how many it has; 0 and size / 2 + 1 for the whole half-plane.
    halo
        Cells beyond the band and the rows on every side.
    lowest, beyond
        The kx that are transformed, halo included; the rest of the halo repeats them by symmetry.
    span
        Cells of a window in one direction.
    window
        Rows of `LANES`: ones for x (its places are 0 to `WIDEST` - 1), ones for y (the others), then the coefficients
        of the window's polynomials, highest first.
    deapodise
        What every voxel along a side is multiplied by.
    """

    cells: FloatArray
    size: int
    first: int
    columns: int
    halo: int
    lowest: int
    beyond: int
    span: int
    window: FloatArray
    deapodise: FloatArray


class Views(NamedTuple):
    """Where views sample the plane.

    Attributes
    ----------
    steps
        Cells (kx, ky) from one sample of a view to the next, kx not negative; (views, 2).
    flips
        -1 where the samples' complex conjugates are meant, else 1; (views,).
    phases
        What moves each sample to the rotation axis, and all constants; (views, samples, 2).
    """

    steps: NDArray[np.float64]
    flips: FloatArray
    phases: FloatArray


class Filter(NamedTuple):
    """A convolution along columns.

    Attributes
    ----------
    spectra
        (1 or views, plan.length // 2 + 1, 2); size 0 for no filter.
    plan
        A transform long enough for no wrapped product to touch a kept column.
    before, after
        Columns kept beyond the two ends of the detector.
    """

    spectra: FloatArray
    plan: FourierPlan
    before: int
    after: int


class Scratch(NamedTuple):
    """What one thread writes meanwhile: two buffers of the longest transform, and the weights of a window."""

    first: FloatArray
    second: FloatArray
    weights: FloatArray


@njit(cache=True, nogil=True)
def rows_to_grid(start: int, stop: int, slab: Any, grid: Grid, plan: FourierPlan, scratch: Scratch) -> None:
    """Transform pairs of rows of a slab (y, x, slice) along x, into the grid's rows of the same place."""
    width, size, scale = slab.shape[0], grid.size, grid.deapodise
    pitch = grid.columns + 2 * grid.halo
    shift = (size - width // 2) % size
    for a in range(2 * start, min(2 * stop, width), 2):
        two = a + 1 < width
        clear(scratch.first, size)
        take(slab[a], scale, _HALF * scale[a], scratch.first, 0, shift, size)
        if two:
            take(slab[a + 1], scale, _HALF * scale[a + 1], scratch.first, LANES, shift, size)
        found, _ = transform(scratch.first, scratch.second, plan, 0, LANES)
        row = ((a - width // 2 + size // 2 + grid.halo) * pitch + grid.halo - grid.first) * PAIR
        for k in range(grid.lowest, grid.beyond):
            ar, ai, br, bi = parted(found, size, k)
            o = row + k * PAIR
            store(grid.cells, o, ar)
            store(grid.cells, o + LANES, ai)
            if two:
                store(grid.cells, o + pitch * PAIR, br)
                store(grid.cells, o + pitch * PAIR + LANES, bi)


@njit(cache=True, nogil=True)
def columns_to_frequency(start: int, stop: int, grid: Grid, plan: FourierPlan, scratch: Scratch) -> None:
    """Transform columns of the grid along y, counted from the lowest, and fill the halo with what symmetry says."""
    cells, size, halo, width = grid.cells, grid.size, grid.halo, grid.deapodise.size
    pitch, middle = grid.columns + 2 * halo, size // 2 + halo
    left, right = halo - grid.first, grid.first + grid.columns + halo
    for kx in range(grid.lowest + start, grid.lowest + stop):
        clear(scratch.first, size)
        for n in range(-(width // 2), width - width // 2):
            copy(cells, ((n + middle) * pitch + left + kx) * PAIR, scratch.first, wrapped(n, size) * PAIR)
        found, _ = transform(scratch.first, scratch.second, plan, 0, LANES)
        for row in range(size + 2 * halo):
            ky, o = row - middle, row * pitch + left
            copy(found, wrapped(ky, size) * PAIR, cells, (o + kx) * PAIR)
            if 1 <= kx <= left:
                copy_conjugate(found, wrapped(-ky, size) * PAIR, cells, (o - kx) * PAIR)
            elif size - right < kx < size // 2:
                copy_conjugate(found, wrapped(-ky, size) * PAIR, cells, (o + size - kx) * PAIR)


@njit(cache=True, nogil=True, inline="always")
def _first_cell(place: float, span: int) -> int:
    """Return the first of the cells that the window about a place meets."""
    return floor(place + 1 - 0.5 * span)


@njit(cache=True, nogil=True, inline="always")
def _window(x: float, y: float, grid: Grid, weights: FloatArray) -> int:
    """Compute the weights of a point in both directions, y's from `WIDEST` on; return the index of the first cell."""
    kx, ky = _first_cell(x, grid.span), _first_cell(y, grid.span)
    # From -1 to 1 while the point moves by one cell.
    in_x, in_y = 2 * (x + 1 - 0.5 * grid.span - kx) - 1, 2 * (y + 1 - 0.5 * grid.span - ky) - 1
    place = load(grid.window, 0) * np.float32(in_x) + load(grid.window, LANES) * np.float32(in_y)
    value = load(grid.window, 2 * LANES)
    for o in range(3 * LANES, grid.window.size, LANES):
        value = value * place + load(grid.window, o)
    store(weights, 0, value)
    row = ky + grid.size // 2 + grid.halo
    return (row * (grid.columns + 2 * grid.halo) + kx - grid.first + grid.halo) * PAIR


@njit(cache=True, nogil=True, inline="always")
def _sample(grid: Grid, views: Views, view: int, k: int, spectra: FloatArray, weights: FloatArray) -> None:
    """Store sample k of a view: the window's sum over the grid, times the phase."""
    o = _window(k * views.steps[view, 0], k * views.steps[view, 1], grid, weights)
    cells, pitch = grid.cells, (grid.columns + 2 * grid.halo) * PAIR
    real = load(weights, 0) * np.float32(0)
    imaginary = real
    for i in range(grid.span):
        in_row, in_row_i = load(cells, o) * weights[0], load(cells, o + LANES) * weights[0]
        for j in range(1, grid.span):
            in_row = in_row + load(cells, o + j * PAIR) * weights[j]
            in_row_i = in_row_i + load(cells, o + j * PAIR + LANES) * weights[j]
        real = real + in_row * weights[WIDEST + i]
        imaginary = imaginary + in_row_i * weights[WIDEST + i]
        o += pitch
    imaginary = imaginary * views.flips[view]
    c, s = views.phases[view, k, 0], views.phases[view, k, 1]
    place = (view * views.phases.shape[1] + k) * PAIR
    store(spectra, place, real * c - imaginary * s)
    store(spectra, place + LANES, real * s + imaginary * c)


@njit(cache=True, nogil=True)
def frequency_to_spectra(
    start: int, stop: int, grid: Grid, views: Views, members: NDArray[np.int64], spectra: FloatArray, scratch: Scratch
) -> None:
    """Interpolate the samples of all views whose windows begin in strips of the grid, while it is in the cache."""
    for strip in range(start, stop):
        for view in range(views.flips.size):
            for k in range(members[view, strip, 0], members[view, strip, 1]):
                _sample(grid, views, view, k, spectra, scratch.weights)


@njit(cache=True, nogil=True)
def spectra_to_views(
    start: int, stop: int, spectra: FloatArray, plan: FourierPlan, sinograms: Any, ones: FloatArray, scratch: Scratch
) -> None:
    """Transform the spectra of pairs of views into sinograms (view, column, slice)."""
    count, length, buffer = sinograms.shape[0], plan.length, scratch.first
    samples = length // 2 + 1
    for a in range(2 * start, min(2 * stop, count), 2):
        b = min(a + 1, count - 1)
        for k in range(samples):
            o, p = (a * samples + k) * PAIR, (b * samples + k) * PAIR
            if k == 0 or 2 * k == length:
                # Its own mirror image: of a real line it is real, and of the sum the real part is taken.
                store(buffer, k * PAIR, load(spectra, o))
                store(buffer, k * PAIR + LANES, load(spectra, p))
            else:
                ar, ai = load(spectra, o), load(spectra, o + LANES)
                join(buffer, length, k, ar, ai, load(spectra, p), load(spectra, p + LANES))
        found, _ = transform(buffer, scratch.second, plan, LANES, 0)
        give(sinograms[a], ones, _ONE, found, 0, 0, length)
        if b > a:
            give(sinograms[b], ones, _ONE, found, LANES, 0, length)


@njit(cache=True, nogil=True)
def _filtered(
    buffer: FloatArray, other: FloatArray, a: int, b: int, convolve: Filter, columns: int, length: int
) -> tuple[FloatArray, FloatArray]:
    """Convolve two views, the real and imaginary part of a buffer, and lay out the kept columns in a new period."""
    long = convolve.plan.length
    found, free = transform(buffer, other, convolve.plan, 0, LANES)
    last = convolve.spectra.shape[0] - 1
    for k in range(long // 2 + 1):
        ar, ai, br, bi = parted(found, long, k)
        c, s = convolve.spectra[min(a, last), k, 0], convolve.spectra[min(a, last), k, 1]
        ar, ai = ar * c - ai * s, ar * s + ai * c
        c, s = convolve.spectra[min(b, last), k, 0], convolve.spectra[min(b, last), k, 1]
        br, bi = br * c - bi * s, br * s + bi * c
        if k == 0 or 2 * k == long:
            store(found, k * PAIR, ar - bi)
            store(found, k * PAIR + LANES, ai + br)
        else:
            join(found, long, k, ar, ai, br, bi)
    found, free = transform(found, free, convolve.plan, LANES, 0)
    clear(free, length)
    for column in range(-convolve.before, columns + convolve.after):
        copy(found, (column % long) * PAIR, free, (column % length) * PAIR)
    return free, found


@njit(cache=True, nogil=True, inline="always")
def _spectrum(spectra: FloatArray, views: Views, view: int, k: int, real: Any, imaginary: Any, once: Any) -> None:
    """Store sample k of a view with the conjugate of its phase, which is the transpose of having multiplied by it."""
    c, s = views.phases[view, k, 0] * once, views.phases[view, k, 1] * once
    o = (view * views.phases.shape[1] + k) * PAIR
    store(spectra, o, real * c + imaginary * s)
    store(spectra, o + LANES, (imaginary * c - real * s) * views.flips[view])


@njit(cache=True, nogil=True)
def views_to_spectra(
    start: int,
    stop: int,
    sinograms: Any,
    ones: FloatArray,
    convolve: Filter,
    views: Views,
    plan: FourierPlan,
    spectra: FloatArray,
    scratch: Scratch,
) -> None:
    """Filter pairs of views of sinograms (view, column, slice), where asked, and transform them to spectra."""
    count, columns = sinograms.shape[0], sinograms.shape[1]
    for a in range(2 * start, min(2 * stop, count), 2):
        b = min(a + 1, count - 1)
        filled, free = scratch.first, scratch.second
        length = convolve.plan.length if convolve.spectra.size else plan.length
        clear(filled, length)
        take(sinograms[a], ones, _ONE, filled, 0, 0, length)
        if b > a:
            take(sinograms[b], ones, _ONE, filled, LANES, 0, length)
        if convolve.spectra.size:
            filled, free = _filtered(filled, free, a, b, convolve, columns, plan.length)
        found, _ = transform(filled, free, plan, 0, LANES)
        for k in range(plan.length // 2 + 1):
            ar, ai, br, bi = parted(found, plan.length, k)
            # A pair comes apart doubled, and k stands for -k too, where that is another one.
            once = _HALF if k == 0 or 2 * k == plan.length else _ONE
            _spectrum(spectra, views, a, k, ar, ai, once)
            if b > a:
                _spectrum(spectra, views, b, k, br, bi, once)


@njit(cache=True, nogil=True)
def samples_of_strips(
    steps: NDArray[np.float64], samples: int, span: int, edges: NDArray[np.int64], first: int, beyond: int
) -> NDArray[np.int64]:
    """Return, for every view and strip of grid rows, the samples (first, one beyond) whose windows begin in it.

    ``edges`` are the rows' ky where strips begin, ascending, and where the last one ends; shape (strips + 1,). Samples
    count whose kx is ``first`` or more and less than ``beyond``.
    """
    strips = edges.size - 1
    found = np.zeros((steps.shape[0], strips, 2), np.int64)
    for view in range(steps.shape[0]):
        step = steps[view, 0]
        if step * samples < first:
            continue
        for k in range(max(0, floor(first / step) - 1) if first else 0, samples):
            if k * step < first:
                continue
            if k * step >= beyond:
                break
            strip = np.searchsorted(edges, _first_cell(k * steps[view, 1], span), side="right") - 1
            if found[view, strip, 1] == 0:
                found[view, strip, 0] = k
            found[view, strip, 1] = k + 1
    return found


@njit(cache=True, nogil=True)
def spectra_to_frequency(
    start: int,
    stop: int,
    first: int,
    edges: NDArray[np.int64],
    spectra: FloatArray,
    views: Views,
    members: NDArray[np.int64],
    grid: Grid,
    scratch: Scratch,
) -> None:
    """Spread samples over the grid: every second strip from ``first``, 0 with its own and the next strip cleared, or 1.

    A strip adds to its own rows and to the lowest of the next one.
    """
    pitch = (grid.columns + 2 * grid.halo) * PAIR
    for strip in range(first + 2 * start, first + 2 * stop, 2):
        if first == 0:
            beyond = edges[min(strip + 2, edges.size - 1)]
            for i in range((edges[strip] - edges[0]) * pitch, (beyond - edges[0]) * pitch):
                grid.cells[i] = 0
        for view in range(views.flips.size):
            for k in range(members[view, strip, 0], members[view, strip, 1]):
                _spread(spectra, views, view, k, grid, scratch.weights)


@njit(cache=True, nogil=True, inline="always")
def _spread(spectra: FloatArray, views: Views, view: int, k: int, grid: Grid, weights: FloatArray) -> None:
    cells, pitch = grid.cells, (grid.columns + 2 * grid.halo) * PAIR
    o = _window(k * views.steps[view, 0], k * views.steps[view, 1], grid, weights)
    sample = (view * views.phases.shape[1] + k) * PAIR
    real, imaginary = load(spectra, sample), load(spectra, sample + LANES)
    for i in range(grid.span):
        in_row, in_row_i = real * weights[WIDEST + i], imaginary * weights[WIDEST + i]
        for j in range(grid.span):
            p = o + j * PAIR
            store(cells, p, load(cells, p) + in_row * weights[j])
            store(cells, p + LANES, load(cells, p + LANES) + in_row_i * weights[j])
        o += pitch


@njit(cache=True, nogil=True)
def frequency_to_columns(start: int, stop: int, grid: Grid, plan: FourierPlan, scratch: Scratch) -> None:
    """Add the halo to the cells it repeats and transform columns of the grid, from the lowest, back along y."""
    cells, size, halo, width = grid.cells, grid.size, grid.halo, grid.deapodise.size
    pitch, middle = grid.columns + 2 * halo, size // 2 + halo
    left, right = halo - grid.first, grid.first + grid.columns + halo
    for kx in range(grid.lowest + start, grid.lowest + stop):
        buffer = scratch.first
        clear(buffer, size)
        for row in range(size + 2 * halo):
            ky, o = row - middle, row * pitch + left
            add(cells, (o + kx) * PAIR, buffer, wrapped(ky, size) * PAIR, _ONE)
            # Of the sum over the plane only the real part counts, and a conjugate at -k has the same.
            if 1 <= kx <= left:
                add(cells, (o - kx) * PAIR, buffer, wrapped(-ky, size) * PAIR, -_ONE)
            elif size - right < kx < size // 2:
                add(cells, (o + size - kx) * PAIR, buffer, wrapped(-ky, size) * PAIR, -_ONE)
        found, _ = transform(buffer, scratch.second, plan, LANES, 0)
        for n in range(-(width // 2), width - width // 2):
            copy(found, wrapped(n, size) * PAIR, cells, ((n + middle) * pitch + left + kx) * PAIR)


@njit(cache=True, nogil=True)
def grid_to_rows(start: int, stop: int, grid: Grid, plan: FourierPlan, slab: Any, scratch: Scratch) -> None:
    """Transform pairs of the grid's rows back along x, into a slab (y, x, slice); what a later band has is added."""
    cells, size, scale, width = grid.cells, grid.size, grid.deapodise, slab.shape[0]
    pitch = (grid.columns + 2 * grid.halo) * PAIR
    shift = (size - width // 2) % size
    for a in range(2 * start, min(2 * stop, width), 2):
        row = (a - width // 2 + size // 2 + grid.halo) * pitch + (grid.halo - grid.first) * PAIR
        other = row + pitch if a + 1 < width else row
        if grid.beyond - grid.lowest <= size // 2:
            clear(scratch.first, size)
        for k in range(grid.lowest, grid.beyond):
            o, p = row + k * PAIR, other + k * PAIR
            if k == 0 or 2 * k == size:
                store(scratch.first, k * PAIR, load(cells, o) + load(cells, o))
                store(scratch.first, k * PAIR + LANES, load(cells, p) + load(cells, p))
            else:
                join(
                    scratch.first,
                    size,
                    k,
                    load(cells, o),
                    load(cells, o + LANES),
                    load(cells, p),
                    load(cells, p + LANES),
                )
        found, _ = transform(scratch.first, scratch.second, plan, LANES, 0)
        for y, part in ((a, 0), (a + 1, LANES)):
            if y < width and grid.first == 0:
                give(slab[y], scale, _HALF * scale[y], found, part, shift, size)
            elif y < width:
                give_more(slab[y], scale, _HALF * scale[y], found, part, shift, size)
