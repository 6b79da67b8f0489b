"""The combined wavelet-Fourier filter as a short sum of products: TomoPy's result at a part of its cost.

Takes a sinogram (view, column), gives what the filter of Muench et al. (2009) removes from it, as TomoPy's
`remove_stripe_fw` computes it: the sinogram framed in zeros, a sixteenth of its height at either end, and frequencies k
counted from the middle of an even number, so that k and -k are damped as k + 1/2 and k - 1/2 and the mean of both
counts.

The model. The filter is linear and works on views and columns apart: what it takes at level l is

    removed = sum over l, m of  G_lm(view) * S_l[ A_l[ sum over v of F_lm(v) sinogram(v, .) ] ](column),

A_l and S_l being analysis and synthesis by wavelets of one line along the columns (l times smooth, once detail), F_lm
and G_lm the damped modes m, analysed and synthesised along the views (always smooth). Modes that keep all but 1e-7 of
themselves are left out, and the F and G of all levels together span only a few dozen functions of the view, found once
by singular values: a sinogram is read twice, and no wavelet of the whole is ever made. Sums run in a fixed order.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.volumes import FloatArray

#: Damping below this, and singular values below this share of the largest, are rounding.
_NOTHING = 1e-7


class _Modes(NamedTuple):
    """Functions of the view that are projected on and given back, and what of them belongs to each level."""

    read: FloatArray
    mixed: tuple[FloatArray, ...]
    unmixed: tuple[FloatArray, ...]
    written: FloatArray


def removed_by_muench(sinogram: FloatArray, sigma_cycles: float, levels: int, wavelet: str) -> FloatArray:
    """Return what the filter takes from a sinogram.

    Parameters
    ----------
    sinogram
        (view, column), float32.
    sigma_cycles
        Width of the damping along the views, cycles per framed scan.
    levels
        Wavelet levels.
    wavelet
        PyWavelets' name.

    Returns
    -------
    FloatArray
        (view, column).

    References
    ----------
    B. Muench, P. Trtik, F. Marone, M. Stampanoni, "Stripe and ring artifact removal with combined wavelet-Fourier
    filtering", Opt. Express 17, 8567 (2009), doi:10.1364/OE.17.008567.

    Examples
    --------
    >>> striped = np.zeros((64, 512), np.float32)
    >>> striped[:, 20] = 1.0
    >>> bool(np.abs(striped - removed_by_muench(striped, 2.0, 5, "db5"))[16:48].max() < 0.2)
    True
    """
    modes = _modes_of(sinogram.shape[0], sigma_cycles, levels, wavelet)
    lines = _project(modes.read, sinogram)
    made = np.zeros((len(modes.written), sinogram.shape[1]), np.float32)
    for level, (mixed, unmixed) in enumerate(zip(modes.mixed, modes.unmixed, strict=True)):
        made += _project(unmixed, _stripes_of_level(_project(mixed, lines), level, wavelet))
    return np.asarray(_project(np.ascontiguousarray(modes.written.T), made), np.float32)


def _stripes_of_level(lines: FloatArray, level: int, wavelet: str) -> FloatArray:
    """Return what of lines (line, column) is narrow detail of a level: analysis and synthesis along the columns."""
    import pywt

    sizes = [lines.shape[1]]
    for _ in range(level):
        lines = pywt.dwt(lines, wavelet, axis=1)[0]
        sizes.append(lines.shape[1])
    made = pywt.idwt(None, pywt.dwt(lines, wavelet, axis=1)[1], wavelet, axis=1)
    for size in reversed(sizes[1:]):
        made = pywt.idwt(made[:, :size], None, wavelet, axis=1)
    return np.ascontiguousarray(made[:, : sizes[0]], np.float32)


@lru_cache(maxsize=8)
def _modes_of(views: int, sigma_cycles: float, levels: int, wavelet: str) -> _Modes:
    import pywt

    framed, first = views + views // 8, views // 8 // 2
    smooth = np.eye(framed)[:, first : first + views]
    sizes, analysed, synthesised = [framed], [], []
    for _ in range(levels):
        smooth = pywt.dwt(smooth, wavelet, axis=0)[0]
        shares, modes = _damped_modes(len(smooth), sigma_cycles)
        weights = np.sqrt(shares)[:, None]
        analysed.append(weights * (modes @ smooth))
        given = weights * modes
        for size in reversed(sizes[1:]):
            given = pywt.idwt(given, None, wavelet, axis=1)[:, :size]
        synthesised.append(pywt.idwt(given, None, wavelet, axis=1)[:, first : first + views])
        sizes.append(len(smooth))
    read, mixed = _spanned(analysed)
    written, back = _spanned(synthesised)
    unmixed = tuple(np.ascontiguousarray(part.T) for part in back)
    return _Modes(read, mixed, unmixed, written)


def _damped_modes(length: int, sigma_cycles: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the damping takes of every cosine and sine of a band's height, and these, (mode, place)."""
    highest = min(int(np.ceil(sigma_cycles * np.sqrt(-2 * np.log(_NOTHING)))) + 1, length // 2)
    k = np.arange(-highest, highest + 1)
    taken = np.exp(-((k + (0.5 if length % 2 == 0 else 0.0)) ** 2) / (2 * sigma_cycles**2))
    if 2 * highest == length:
        # The highest of an even number is counted once, at the lower end.
        taken[-1] = 0.0
    share = (taken + taken[::-1])[highest:] / length
    share[0] /= 2
    turns = 2 * np.pi * np.outer(k[highest:], np.arange(length)) / length
    return np.concatenate([share, share[1:]]), np.concatenate([np.cos(turns), np.sin(turns[1:])])


def _spanned(parts: list[NDArray[np.float64]]) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Return few functions that span the rows of all parts, and what of each makes up every row."""
    left, values, functions = np.linalg.svd(np.concatenate(parts), full_matrices=False)
    kept = values > _NOTHING * values[0]
    weights = (left * values)[:, kept].astype(np.float32)
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    shares = tuple(np.ascontiguousarray(part) for part in np.split(weights, cuts))
    return np.ascontiguousarray(functions[kept], np.float32), shares


@njit(cache=True, nogil=True)
def _project(weights: FloatArray, lines: FloatArray) -> FloatArray:
    """Return weights (i, j) times lines (j, column), four j at a time, in a fixed order."""
    made = np.zeros((weights.shape[0], lines.shape[1]), np.float32)
    fours = lines.shape[0] // 4 * 4
    for j in range(0, fours, 4):
        for i in range(weights.shape[0]):
            a, b, c, d = weights[i, j], weights[i, j + 1], weights[i, j + 2], weights[i, j + 3]
            for x in range(lines.shape[1]):
                made[i, x] += (a * lines[j, x] + b * lines[j + 1, x]) + (c * lines[j + 2, x] + d * lines[j + 3, x])
    for j in range(fours, lines.shape[0]):
        for i in range(weights.shape[0]):
            for x in range(lines.shape[1]):
                made[i, x] += weights[i, j] * lines[j, x]
    return made
