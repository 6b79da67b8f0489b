"""Counts -> line integrals: dark and flat correction, dead and hot pixels, the negative logarithm.

Takes a `Scan` (any rows of it), gives `Corrected` sinograms (row, view, column) of the line integral

    line_integral = -ln((projection - dark) / (flat - dark)),

dark and flat being means over their frames. A transmission below one count (1 / (flat - dark)) carries no information
and is set to one count. Everything here works within a detector row, so the result does not depend on how a scan is cut
into slabs. Holds for a beam that is as bright during the projections as during the flats. `rings` takes over what the
flats could not remove.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from npsi_twin.errors import DataError
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.volumes import FloatArray

#: A median absolute deviation times this is the standard deviation of a normal distribution.
_MAD_TO_SIGMA = 1.4826


class CorrectionRecipe(Recipe):
    """How counts become line integrals."""

    outlier_sigmas: float = parameter(
        8.0,
        "a pixel is bad when its gain, or its dark count, departs from its neighbours' by more robust sigmas than this",
        source="assumed: far outside photon noise, near enough to find a hot pixel",
        gt=0,
        le=1000,
    )
    gain_tolerance: float = parameter(
        0.5,
        "relative departure of a pixel's gain from its neighbours' that flat correction can still remove",
        source="assumed: a pixel that keeps half of its light is noisy, not dead",
        gt=0,
        lt=1,
    )
    neighbourhood_px: int = parameter(
        9, "columns over which the neighbours' median is taken", unit="pixels", source="assumed", ge=3, le=101
    )
    bad_fraction_limit: float = parameter(
        0.01, "share of bad pixels beyond which the flats or darks are refused", source="assumed", gt=0, lt=1
    )
    saturation_counts: float | None = parameter(
        None,
        "count at which the detector saturates; none takes the largest value of an integer file",
        unit="counts",
        source="inferred from the file's type when absent",
        gt=0,
    )
    assume_no_darks: bool = parameter(
        False, "take the dark level as zero where a scan has no dark frames", source="assumed: refuse unless told"
    )
    normalised_floor: float = parameter(
        1e-4,
        "smallest transmission of a scan that arrives already normalised, where one count is not known",
        source="assumed: one count of a flat of 10 000",
        gt=0,
        lt=1,
    )


@dataclass(frozen=True)
class CorrectionCounts:
    """What the corrections met, summed over the rows given.

    Attributes
    ----------
    bad_pixels
        Dead or hot detector pixels replaced in every view.
    clipped
        Transmissions that lay below one count and were set to it, bad pixels left out.
    saturated
        Projection values at or above the saturation count; 0 where that count is not known.
    darks_assumed_zero
        True where a scan without dark frames was corrected all the same.
    """

    bad_pixels: int
    clipped: int
    saturated: int
    darks_assumed_zero: bool = False


@dataclass(frozen=True)
class Corrected:
    """Line integrals of some detector rows.

    Attributes
    ----------
    line_integrals
        (row, view, column), dimensionless, read-only.
    beam
        Geometry, as in the scan.
    first_row
        Detector row of ``line_integrals[0]``.
    bad
        (row, column), True where a pixel was replaced.
    counts
        What was met on the way.
    made_by
        Provenance.
    """

    line_integrals: FloatArray
    beam: ParallelBeam
    first_row: int
    bad: NDArray[np.bool_]
    counts: CorrectionCounts
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("line_integrals", "bad"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


def correct(scan: Scan, recipe: CorrectionRecipe) -> Corrected:
    """Turn counts into line integrals.

    Parameters
    ----------
    scan
        Any rows of a scan; projections (view, row, column) in counts, or transmissions where ``scan.normalised``.
    recipe
        Thresholds and assumptions.

    Returns
    -------
    Corrected
        Line integrals (row, view, column), float32, and what was met on the way.

    Raises
    ------
    DataError
        Values that are not finite or not real numbers, missing flats, missing darks (unless
        ``recipe.assume_no_darks``), or more bad pixels than ``recipe.bad_fraction_limit``.

    Examples
    --------
    >>> import numpy as np
    >>> from npsi_twin.scan import ParallelBeam, Scan
    >>> beam = ParallelBeam(np.array([0.0]), columns=4, pixel_nm=50.0)
    >>> flat, dark = np.full((1, 1, 4), 1100.0), np.full((1, 1, 4), 100.0)
    >>> scan = Scan(np.array([[[1100.0, 600.0, 350.0, 1100.0]]]), flat, dark, beam)
    >>> correct(scan, CorrectionRecipe()).line_integrals.round(4) + 0.0
    array([[[0.    , 0.6931, 1.3863, 0.    ]]], dtype=float32)
    """
    for name in ("projections", "flats", "darks"):
        _refuse_unusable(getattr(scan, name), name, scan.first_row)
    rows, columns = scan.projections.shape[1:]
    if scan.normalised:
        dark, gain = np.zeros((rows, columns)), np.ones((rows, columns))
        floor = np.full((rows, columns), recipe.normalised_floor)
        bad = np.zeros((rows, columns), bool)
    else:
        dark, gain = _dark_and_gain(scan, recipe)
        bad = find_bad_pixels(gain, dark, recipe)
        if bad.mean() > recipe.bad_fraction_limit:
            row, column = np.argwhere(bad)[0]
            raise DataError(
                f"flats and darks: {int(bad.sum())} of {bad.size} pixels are dead or hot (the first: row "
                f"{scan.first_row + row}, column {column}); at most {recipe.bad_fraction_limit:.2%} are allowed. So "
                "many mean that flats or darks do not belong to this scan, or that the shutter was closed. "
                "Check exchange/data_white and data_dark, or raise bad_fraction_limit."
            )
        floor = 1.0 / np.where(bad, 1.0, gain)
    integrals, clipped = _line_integrals(scan.projections, dark, np.where(bad, 1.0, gain), floor, bad)
    _replace_bad(integrals, bad)
    level = _saturation(scan.projections, recipe)
    saturated = 0 if level is None else int(np.count_nonzero(np.greater_equal(scan.projections, level)))
    no_darks = not scan.normalised and scan.darks.shape[0] == 0
    return Corrected(
        integrals,
        scan.beam,
        scan.first_row,
        bad,
        CorrectionCounts(int(bad.sum()), clipped, saturated, no_darks),
        MadeBy("correct", recipe.digest()),
    )


def find_bad_pixels(
    gain: NDArray[np.float64], dark: NDArray[np.float64], recipe: CorrectionRecipe
) -> NDArray[np.bool_]:
    """Find dead and hot pixels from the mean flat and dark.

    A pixel is bad when its gain is not positive; when its gain, relative to the median of its neighbours in the row,
    departs from 1 by more than ``gain_tolerance`` and by more than ``outlier_sigmas`` robust sigmas of the row; or when
    its dark count exceeds its neighbours' by more than ``outlier_sigmas`` robust sigmas and by more than a tenth of the
    row's median gain.

    Parameters
    ----------
    gain
        Mean flat minus mean dark, counts, (row, column).
    dark
        Mean dark, counts, (row, column).
    recipe
        Thresholds.

    Returns
    -------
    NDArray[numpy.bool_]
        (row, column), True where bad.

    Examples
    --------
    >>> import numpy as np
    >>> gain = np.full((1, 32), 1000.0)
    >>> gain[0, 7] = 3.0
    >>> np.flatnonzero(find_bad_pixels(gain, np.zeros((1, 32)), CorrectionRecipe()))
    array([7])
    """
    window = (1, recipe.neighbourhood_px)
    alive = gain > 0
    light = np.where(alive, gain, 0.0)
    near = median_filter(light, size=window, mode="nearest")
    relative = np.divide(light, near, out=np.zeros_like(light), where=near > 0)
    departure = np.abs(relative - 1)
    odd_gain = (departure > recipe.gain_tolerance) & (departure > recipe.outlier_sigmas * _row_sigma(relative))
    excess = dark - median_filter(dark, size=window, mode="nearest")
    tenth = 0.1 * np.median(light, axis=1, keepdims=True)
    hot = (excess > recipe.outlier_sigmas * _row_sigma(excess)) & (excess > tenth)
    return np.asarray(~alive | odd_gain | hot, np.bool_)


def _row_sigma(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.median(values, axis=1, keepdims=True)
    return np.asarray(_MAD_TO_SIGMA * np.median(np.abs(values - middle), axis=1, keepdims=True), np.float64)


def _dark_and_gain(scan: Scan, recipe: CorrectionRecipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean dark and the mean flat above it, counts, (row, column)."""
    if scan.flats.shape[0] == 0:
        raise DataError(
            "flats: got none; at least one frame with the beam on and the sample out is needed, because a count "
            "alone does not say how much of the beam the sample took. Add exchange/data_white, or mark the scan as "
            "normalised."
        )
    if scan.darks.shape[0] == 0:
        if not recipe.assume_no_darks:
            raise DataError(
                "darks: got none; at least one frame with the beam off is needed, because the camera's offset would "
                "be read as light. Add exchange/data_dark, or set assume_no_darks = true if the offset is known to be "
                "zero."
            )
        dark = np.zeros(scan.flats.shape[1:])
    else:
        dark = scan.darks.mean(axis=0, dtype=np.float64)
    return dark, scan.flats.mean(axis=0, dtype=np.float64) - dark


def _refuse_unusable(frames: NDArray[np.generic], name: str, first_row: int) -> None:
    if frames.dtype.kind not in "uif":
        raise DataError(
            f"{name}: got values of type {frames.dtype}; real numbers (unsigned, signed or floating) are needed, "
            "because they are photon counts. Convert the file."
        )
    if frames.dtype.kind != "f":
        return
    unusable = ~np.isfinite(frames)
    if unusable.any():
        frame, row, column = np.argwhere(unusable)[0]
        raise DataError(
            f"{name}: {int(unusable.sum())} of {frames.size} values are NaN or infinite, the first in frame {frame}, "
            f"row {first_row + row}, column {column}; all must be finite, because one such pixel would spread over its "
            "whole slice. Repair or drop these frames."
        )


def _line_integrals(
    projections: NDArray[np.generic],
    dark: NDArray[np.float64],
    gain: NDArray[np.float64],
    floor: NDArray[np.float64],
    bad: NDArray[np.bool_],
) -> tuple[FloatArray, int]:
    """Return -ln of the floored transmission as (row, view, column) float32, and how many values were floored."""
    views, rows, columns = projections.shape
    integrals = np.empty((rows, views, columns), np.float32)
    clipped = 0
    for row in range(rows):
        transmission = (projections[:, row].astype(np.float64) - dark[row]) / gain[row]
        low = transmission < floor[row]
        clipped += int(np.count_nonzero(low & ~bad[row]))
        integrals[row] = -np.log(np.where(low, floor[row], transmission))
    return integrals, clipped


def _replace_bad(integrals: FloatArray, bad: NDArray[np.bool_]) -> None:
    """Fill bad pixels in place by linear interpolation along the columns, in every view."""
    for row in np.flatnonzero(bad.any(axis=1)):
        good = np.flatnonzero(~bad[row])
        if good.size == 0:
            raise DataError(
                f"flats and darks: every pixel of detector row {row} of these rows is dead or hot, so nothing is left "
                "to interpolate from. Leave the row out."
            )
        gaps = np.flatnonzero(bad[row])
        place = np.interp(gaps, good, np.arange(good.size))
        left = np.floor(place).astype(np.intp)
        right = np.minimum(left + 1, good.size - 1)
        share = (place - left).astype(np.float32)
        sinogram = integrals[row]
        sinogram[:, gaps] = (1 - share) * sinogram[:, good[left]] + share * sinogram[:, good[right]]


def _saturation(projections: NDArray[np.generic], recipe: CorrectionRecipe) -> float | None:
    if recipe.saturation_counts is not None:
        return recipe.saturation_counts
    return float(np.iinfo(projections.dtype.name).max) if projections.dtype.kind in "ui" else None
