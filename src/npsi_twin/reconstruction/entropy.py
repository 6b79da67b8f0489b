"""The rotation axis at which the slice is sharpest: the least entropy of its histogram.

Takes line integrals (row, view, column), gives a `RotationAxis`. A wrong axis doubles every edge and fills the gaps
between grey values; with h_b the share of voxels in bin b of the slice's histogram, the entropy

    S(c) = -sum over b of h_b ln h_b

is least at the right axis c (Donath et al. 2006). Trial axes ride as the slices of one filtered backprojection, the
sinogram being shifted for each. Holds for any angles, also for a missing wedge, and costs a few hundred slices; S has
other minima, so the search begins on a coarse grid of binned columns.
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from npsi_twin.errors import NotConvergedError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.rotation import AxisSearch, RotationAxis
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

_BINS = 64
#: The histogram's range holds all but this share of the voxels at either end: streaks must not set its bins.
_LEFT_OUT = 0.01
#: Slices are blurred by a Gaussian of this many pixels: edges show the axis, noise from voxel to voxel does not.
_BLUR_PX = 1.0
#: Trials ride together, as many as the projector takes at once, and reach two steps beyond the neighbours of the best.
_TRIALS, _NARROWER = 16, 4
#: Columns of the coarsest search at least, and the finest spacing of trials, pixels.
_LEAST_COLUMNS, _FINEST_PX = 64, 1 / 16


def axis_of_least_entropy(line_integrals: FloatArray, beam: ParallelBeam) -> RotationAxis:
    """Find the rotation axis by the sharpness of slices.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless; entropies of rows are added.
    beam
        Geometry; its ``rotation_axis_px`` is not looked at.

    Returns
    -------
    RotationAxis
        The axis in the middle half of the detector; its uncertainty is the spacing of the last trials.

    Raises
    ------
    NotConvergedError
        The entropy is the same for every trial: an empty field.

    References
    ----------
    T. Donath, F. Beckmann, A. Schreyer, "Automated determination of the center of rotation in tomography data",
    J. Opt. Soc. Am. A 23, 1048 (2006), doi:10.1364/JOSAA.23.001048.

    Examples
    --------
    >>> beam = ParallelBeam(np.pi * np.arange(60) / 60, columns=64, pixel_nm=50.0)
    >>> place = 30.3 + 12 * np.cos(beam.angles_rad[:, None])
    >>> blob = np.exp(-(((np.arange(64) - place) / 2) ** 2)).astype(np.float32)
    >>> round(axis_of_least_entropy(blob[None], beam).px, 1)
    30.3
    """
    factor = 1 << max(0, (beam.columns // _LEAST_COLUMNS).bit_length() - 1)
    middle, reach = beam.centre_px, beam.columns / 4
    step = 2 * reach / (4 * _TRIALS)
    trials = np.asarray(middle + step * (np.arange(4 * _TRIALS) - 2 * _TRIALS), np.float64)
    search = None
    while True:
        entropy = _entropies(line_integrals, beam, trials, factor)
        if np.ptp(entropy) == 0:
            raise NotConvergedError(
                "rotation axis: slices look the same at every trial axis, so these rows hold no sample. Take other "
                "rows, or give rotation_axis_px."
            )
        best = int(entropy.argmin())
        search = search or AxisSearch(trials, entropy)
        if step <= _FINEST_PX:
            return RotationAxis(_lowest(trials, entropy, best), step, "entropy", search)
        step /= _NARROWER
        factor = max(1, factor // 2)
        trials = np.asarray(trials[best] + step * (np.arange(_TRIALS) - (_TRIALS - 1) / 2), np.float64)


def _entropies(
    line_integrals: FloatArray, beam: ParallelBeam, trials: NDArray[np.float64], factor: int
) -> NDArray[np.float64]:
    """Return the entropy of the slice at every trial axis, columns binned by a factor."""
    columns = beam.columns // factor
    binned = line_integrals[:, :, : columns * factor].reshape(len(line_integrals), beam.views, columns, factor).mean(3)
    shift = np.asarray(beam.column_shift_px) / factor
    centred = ParallelBeam(beam.angles_rad, columns, beam.pixel_nm * factor, (columns - 1) / 2, shift)
    projector = choose_projector("fourier", centred, columns)
    moves = (columns - 1) / 2 - ((trials + 0.5) / factor - 0.5)
    padded = scipy.fft.next_fast_len(2 * columns, real=True)
    phase = np.exp(-2j * np.pi * scipy.fft.rfftfreq(padded) * moves[:, None])
    place = np.arange(columns) - (columns - 1) / 2
    inside = np.hypot(*np.meshgrid(place, place)) < 0.45 * columns
    total = np.zeros(trials.size)
    for row in binned:
        spectrum = scipy.fft.rfft(row, padded, axis=1)
        for start in range(0, trials.size, _TRIALS):
            part = phase[start : start + _TRIALS, None]
            moved = scipy.fft.irfft(spectrum * part, padded, axis=2)[:, :, :columns]
            slices = gaussian_filter(fbp(np.ascontiguousarray(moved, np.float32), projector), (0, _BLUR_PX, _BLUR_PX))
            total[start : start + _TRIALS] += _histogram_entropies(slices[:, inside])
    return total


def _histogram_entropies(slices: FloatArray) -> NDArray[np.float64]:
    """Return the entropy of every slice (slice, voxel), all in the bins of the whole."""
    low, high = (float(value) for value in np.quantile(slices, (_LEFT_OUT, 1 - _LEFT_OUT)))
    entropies = np.zeros(len(slices))
    if high > low:
        for index, values in enumerate(slices):
            share = np.histogram(np.clip(values, low, high), _BINS, (low, high))[0] / values.size
            share = share[share > 0]
            entropies[index] = -(share * np.log(share)).sum()
    return entropies


def _lowest(trials: NDArray[np.float64], entropy: NDArray[np.float64], best: int) -> float:
    """Return the vertex of the parabola through the best trial and its neighbours, or the best at an end."""
    if not 0 < best < trials.size - 1:
        return float(trials[best])
    left, middle, right = entropy[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(trials[best] + (trials[1] - trials[0]) * (left - right) / (2 * bend if bend > 0 else np.inf))
