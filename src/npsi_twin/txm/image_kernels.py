"""The image of sixteen views at once: line integrals -> transmission of detector pixels, view axis last meanwhile.

Takes line integrals of a slab on the fine grid and a `Blur` (what every frequency is multiplied by) -> gives the mean
transmission of every pixel. The model is `npsi_twin.txm.optics`'s; here it becomes five passes over `LANES` views:

    attenuate and pad two rows -> [lean along the rows] -> transform them, as real and imaginary part of one line
    -> for every frequency across: transform, multiply, keep every n-th row by folding, transform back
    -> for every two rows: keep every n-th column by folding, transform back.

Frequencies across that the optics stop are never transformed along the rows. A lane never meets another one, so that a
view's image depends neither on the views beside it nor on threads. Transforms are those of
`npsi_twin.projectors.lane_fft`, unnormalised; the factors of a `Blur` hold what is missing. Nothing checks bounds;
`npsi_twin.txm.optics.form_image` answers for them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from npsi_twin.projectors.lane_fft import PAIR, FourierPlan, transform
from npsi_twin.projectors.lane_lines import add, clear, give, join, parted, take
from npsi_twin.projectors.lanes import LANES, aligned, load, positive, store
from npsi_twin.volumes import FloatArray

_HALF, _ONE, _MINUS = np.float32(0.5), np.float32(1), np.float32(-1)
_LOG2_E = np.float32(1 / np.log(2))
#: ln 2 in two parts, of which the first has few bits, so that a whole number of it is exact.
_LN_2, _LN_2_REST = np.float32(0.693359375), np.float32(np.log(2) - 0.693359375)
#: Where single precision ends on either side.
_LOWEST, _HIGHEST = np.float32(-87), np.float32(88)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / value) for value in (2, 6, 24, 120, 720, 5040))


class Blur(NamedTuple):
    """What a slab's image is made with; a tuple, which numba knows.

    Attributes
    ----------
    samples
        Fine samples along a pixel's edge, n.
    left
        Fine columns of padding before the first.
    halo
        Pixel rows before the first recorded one.
    along, across
        Transforms along the padded rows and columns, both even.
    along_pixels, across_pixels
        Transforms of every n-th of them, even as well.
    transfer
        What frequencies are multiplied by, for those across that pass and all along the rows;
        (frequency across, frequency along, 2).
    lean_rows
        What moves columns along the rows, (column, frequency along // 2 + 1, 2); no column where the axis stands.
    lean_columns
        What moves rows along the columns, (row, frequency across // 2 + 1, 2); no row where the axis stands.
    """

    samples: int
    left: int
    halo: int
    along: FourierPlan
    across: FourierPlan
    along_pixels: FourierPlan
    across_pixels: FourierPlan
    transfer: FloatArray
    lean_rows: FloatArray
    lean_columns: FloatArray


class Scratch(NamedTuple):
    """What one thread writes meanwhile, flat: lines of complex numbers of `LANES` views.

    Attributes
    ----------
    fine
        Transmission on the padded fine grid, two rows a line; one line only where the axis stands.
    first, second
        The longest transform.
    spectrum
        (frequency across, fine row and one more): a power of two between lines would crowd them into few cache sets.
    pixels
        (recorded row, frequency across).
    narrow
        Two half spectra of pixel rows.
    """

    fine: FloatArray
    first: FloatArray
    second: FloatArray
    spectrum: FloatArray
    pixels: FloatArray
    narrow: FloatArray


def scratch_sizes(blur: Blur, rows: int) -> tuple[int, ...]:
    """Return the complex numbers of `LANES` views in each array of a `Scratch`, for so many recorded rows."""
    along, across, passed = blur.along.length, blur.across.length, len(blur.transfer)
    fine = across * (along // 2 if len(blur.lean_rows) else 1)
    longest = max(along, across)
    return fine, longest, longest, passed * (along + 1), rows * passed, 2 * (blur.across_pixels.length // 2 + 1)


def scratch_for(blur: Blur, rows: int) -> Scratch:
    """Return buffers for one thread that images so many recorded rows."""
    return Scratch(*(aligned(size * PAIR) for size in scratch_sizes(blur, rows)))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def exponential(buffer: FloatArray, size: int) -> None:
    """Replace x by e^x, right to 1e-7 of it, down to where single precision ends; a loop that becomes SIMD."""
    for i in range(size):
        x = buffer[i]
        x = x if x > _LOWEST else _LOWEST
        x = x if x < _HIGHEST else _HIGHEST
        whole = np.floor(x * _LOG2_E + _HALF)
        f = (x - whole * _LN_2) - whole * _LN_2_REST
        # Taylor's series on |f| < ln 2 / 2, whose next term is below 6e-9.
        series = _ONE + f * (_ONE + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * (_C6 + f * _C7))))))
        exponent = np.int32((np.int32(whole) + 127) << 23)
        buffer[i] = series * exponent.view(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _attenuate(lines: Any, pair: int, start: int, stop: int, blur: Blur, ones: FloatArray, buffer: FloatArray) -> None:
    """Put the transmission of two fine rows into the parts of a padded line; what lies beyond repeats the edge."""
    rows, columns, left = lines.shape[0], lines.shape[2], blur.left
    for part in range(2):
        row = min(2 * pair + part, rows - 1)
        take(lines[row, start:stop].T, ones, _MINUS, buffer, part * LANES, left, blur.across.length)
    exponential(buffer[left * PAIR :], columns * PAIR)
    for part in (0, LANES):
        edge = load(buffer, left * PAIR + part)
        for c in range(left):
            store(buffer, c * PAIR + part, edge)
        edge = load(buffer, (left + columns - 1) * PAIR + part)
        for c in range(left + columns, blur.across.length):
            store(buffer, c * PAIR + part, edge)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _times(real: Any, imaginary: Any, factors: FloatArray, i: int, k: int) -> tuple[Any, Any]:
    """Return a complex number times factors[i, k]."""
    c, s = factors[i, k, 0], factors[i, k, 1]
    return real * c - imaginary * s, real * s + imaginary * c


@njit(cache=True, nogil=True, error_model="numpy")
def _lean(blur: Blur, work: Scratch) -> None:
    """Move every column of the fine grid along the rows by its own distance, two columns at a time."""
    rows, columns = blur.along.length, blur.across.length
    for c in range(0, columns, 2):
        for r in range(rows):
            o = (r // 2 * columns + c) * PAIR + r % 2 * LANES
            store(work.first, r * PAIR, load(work.fine, o))
            store(work.first, r * PAIR + LANES, load(work.fine, o + PAIR))
        got, free = transform(work.first, work.second, blur.along, 0, LANES)
        for k in range(rows // 2 + 1):
            ar, ai, br, bi = parted(got, rows, k)
            ar, ai = _times(ar, ai, blur.lean_rows, c, k)
            br, bi = _times(br, bi, blur.lean_rows, c + 1, k)
            if k == 0 or 2 * k == rows:
                store(got, k * PAIR, ar - bi)
                store(got, k * PAIR + LANES, ai + br)
            else:
                join(got, rows, k, ar, ai, br, bi)
        got, free = transform(got, free, blur.along, LANES, 0)
        for r in range(rows):
            o = (r // 2 * columns + c) * PAIR + r % 2 * LANES
            store(work.fine, o, load(got, r * PAIR))
            store(work.fine, o + PAIR, load(got, r * PAIR + LANES))


@njit(cache=True, nogil=True, error_model="numpy")
def _to_frequency(line: FloatArray, pair: int, blur: Blur, work: Scratch) -> None:
    """Transform two fine rows along the columns, which spoils them, and keep the frequencies that pass."""
    pitch = (blur.along.length + 1) * PAIR
    got, _ = transform(line, work.second, blur.across, 0, LANES)
    for k in range(blur.transfer.shape[0]):
        ar, ai, br, bi = parted(got, blur.across.length, k)
        if blur.lean_columns.shape[0] > 0:
            ar, ai = _times(ar, ai, blur.lean_columns, 2 * pair, k)
            br, bi = _times(br, bi, blur.lean_columns, 2 * pair + 1, k)
        o = k * pitch + 2 * pair * PAIR
        store(work.spectrum, o, ar)
        store(work.spectrum, o + LANES, ai)
        store(work.spectrum, o + PAIR, br)
        store(work.spectrum, o + PAIR + LANES, bi)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _passed(got: FloatArray, phases: FloatArray, transfer: FloatArray, k: int, row: int) -> tuple[Any, Any]:
    """Return one frequency times its transfer and every view's own phase."""
    real, imaginary = _times(load(got, row * PAIR), load(got, row * PAIR + LANES), transfer, k, row)
    c, s = load(phases, row * PAIR), load(phases, row * PAIR + LANES)
    return real * c - imaginary * s, real * s + imaginary * c


@njit(cache=True, nogil=True, error_model="numpy")
def _through(phases: FloatArray, rows: int, blur: Blur, work: Scratch) -> None:
    """Let every frequency across pass the optics, and keep every n-th row, the recorded ones."""
    length, kept, passed = blur.along.length, blur.along_pixels.length, blur.transfer.shape[0]
    for k in range(passed):
        o = k * (length + 1) * PAIR
        got, free = transform(work.spectrum[o : o + length * PAIR], work.first, blur.along, 0, LANES)
        for row in range(kept):
            real, imaginary = _passed(got, phases, blur.transfer, k, row)
            for fold in range(1, blur.samples):
                more, further = _passed(got, phases, blur.transfer, k, row + fold * kept)
                real, imaginary = real + more, imaginary + further
            store(free, row * PAIR, real)
            store(free, row * PAIR + LANES, imaginary)
        back, _ = transform(free, got, blur.along_pixels, LANES, 0)
        for row in range(rows):
            o, place = (blur.halo + row) * PAIR, (row * passed + k) * PAIR
            store(work.pixels, place, load(back, o))
            store(work.pixels, place + LANES, load(back, o + LANES))


@njit(cache=True, nogil=True, error_model="numpy")
def _fold(row: int, blur: Blur, work: Scratch, narrow: FloatArray) -> None:
    """Fold the half spectrum of a recorded row into that of every n-th column."""
    length, passed, half = blur.across_pixels.length, blur.transfer.shape[0], blur.across_pixels.length // 2
    clear(narrow, half + 1)
    for k in range(passed):
        o = (row * passed + k) * PAIR
        if k % length <= half:
            add(work.pixels, o, narrow, k % length * PAIR, _ONE)
        if 0 < 2 * k < blur.across.length and -k % length <= half:  # the negative frequency, its conjugate
            add(work.pixels, o, narrow, -k % length * PAIR, _MINUS)


@njit(cache=True, nogil=True, error_model="numpy")
def _to_columns(
    rows: int, start: int, stop: int, blur: Blur, ones: FloatArray, work: Scratch, image: FloatArray
) -> None:
    """Transform recorded rows back, two at a time, and write them; below 0 are rounding and a linear model's phase."""
    length, half = blur.across_pixels.length, blur.across_pixels.length // 2
    one, other = work.narrow[: (half + 1) * PAIR], work.narrow[(half + 1) * PAIR :]
    for row in range(0, rows, 2):
        last = min(row + 1, rows - 1)
        _fold(row, blur, work, one)
        _fold(last, blur, work, other)
        for k in range(half + 1):
            o = k * PAIR
            ar, ai = load(one, o), load(one, o + LANES)
            br, bi = load(other, o), load(other, o + LANES)
            if k == 0 or k == half:  # real numbers of a real row
                store(work.first, o, ar)
                store(work.first, o + LANES, br)
            else:
                join(work.first, length, k, ar, ai, br, bi)
        got, _ = transform(work.first, work.second, blur.across_pixels, LANES, 0)
        for o in range(0, length * PAIR, LANES):
            store(got, o, positive(load(got, o)))
        for part in range(last - row + 1):
            place = blur.left // blur.samples
            give(image[start:stop, row + part].T, ones, _ONE, got, part * LANES, place, length)


@njit(cache=True, nogil=True, error_model="numpy")
def image_views(
    first: int,
    step: int,
    lines: FloatArray,
    phases: FloatArray,
    blur: Blur,
    ones: FloatArray,
    work: Scratch,
    image: FloatArray,
) -> None:
    """Image every ``step``-th batch of `LANES` views.

    Parameters
    ----------
    first, step
        Which batches.
    lines
        Line integrals, (fine row, view, fine column).
    phases
        What moves each view along the rows, (batch, flat: frequency along, real or imaginary, view).
    blur
        See there.
    ones
        As many ones as there are fine columns.
    work
        Buffers of this thread.
    image
        Where the transmission goes, (view, row, column).
    """
    views, rows = image.shape[0], image.shape[1]
    leans = blur.lean_rows.shape[0] > 0
    clear(work.fine, work.fine.size // PAIR)  # lanes without a view hold numbers too
    for batch in range(first, phases.shape[0], step):
        start, stop = batch * LANES, min((batch + 1) * LANES, views)
        line = blur.across.length * PAIR
        for pair in range(blur.along.length // 2):
            o = pair * line if leans else 0
            _attenuate(lines, pair, start, stop, blur, ones, work.fine[o : o + line])
            if not leans:
                _to_frequency(work.fine, pair, blur, work)
        if leans:
            _lean(blur, work)
            for pair in range(blur.along.length // 2):
                _to_frequency(work.fine[pair * line : (pair + 1) * line], pair, blur, work)
        _through(phases[batch], rows, blur, work)
        _to_columns(rows, start, stop, blur, ones, work, image)
