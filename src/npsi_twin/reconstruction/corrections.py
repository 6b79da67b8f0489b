"""Counts -> line integrals: dark and flat correction, dead and hot pixels, the negative logarithm.

Takes a `Scan` (any rows of it), gives `Corrected` sinograms (row, view, column) of the line integral

    line_integral = -ln((projection - dark) / (flat - dark)),

dark and flat being means over their frames; `illumination` follows a beam that changed, `outliers` replaces values that
the sample did not make, where the recipe asks for it. A transmission below one count (1 / (flat - dark)) carries no
information and is set to one count; one above 1 is kept, for refraction and noise make such, and counted where it is
above what they make. Everything here works within a detector row, so the result does not depend on how a
scan is cut into slabs; what all rows share is an `Illumination`, found once. Holds, by default, for a beam that is as
bright during the projections as during the flats. `rings` takes over what the flats could not remove.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.air_flats import with_flats_from_air
from npsi_twin.reconstruction.bad_pixels import find_bad_pixels, refuse_unusable, replace_pixels
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.illumination import Illumination, find_illumination
from npsi_twin.reconstruction.outliers import find_zingers, replace_values
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.volumes import FloatArray

#: Transmission that neither noise nor refraction makes.
TOO_BRIGHT = 1.1


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
    zingers
        Values replaced as zingers, bad pixels left out.
    not_finite
        Values replaced because they were NaN or infinite, bad pixels left out.
    brighter
        Transmissions above `TOO_BRIGHT`, kept as they are, bad pixels left out.
    """

    bad_pixels: int
    clipped: int
    saturated: int
    darks_assumed_zero: bool = False
    zingers: int = 0
    not_finite: int = 0
    brighter: int = 0


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


def correct(scan: Scan, recipe: CorrectionRecipe, *, illumination: Illumination | None = None) -> Corrected:
    """Turn counts into line integrals.

    Parameters
    ----------
    scan
        Any rows of a scan; projections (view, row, column) in counts, or transmissions where ``scan.normalised``.
    recipe
        Thresholds and assumptions.
    illumination
        The beam of every view, where it was found already (`illumination_of`); found from these rows when None.

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
    scan = _lit(scan, recipe)
    dark, gain, bad = _detector(scan, recipe)
    if illumination is None:
        illumination = find_illumination(scan, recipe, dark, ~bad)
    integrals, met = _line_integrals(scan, dark, gain, bad, illumination, recipe)
    replace_pixels(integrals, bad)
    level = _saturation(scan.projections, recipe)
    saturated = 0
    if level is not None:
        over = np.greater_equal(scan.projections, level)
        saturated = int(np.count_nonzero(over))
        if saturated and recipe.saturated_values == "replace":
            for row in range(scan.rows):
                replace_values(integrals[row], over[:, row])
    no_darks = not scan.normalised and scan.darks.shape[0] == 0
    return Corrected(
        integrals,
        scan.beam,
        scan.first_row,
        bad,
        replace(met, bad_pixels=int(bad.sum()), saturated=saturated, darks_assumed_zero=no_darks),
        MadeBy("correct", recipe.digest()),
    )


def illumination_of(scan: Scan, recipe: CorrectionRecipe) -> Illumination | None:
    """Find the beam of every view from some rows of a scan, for `correct` to use on all of them.

    Parameters
    ----------
    scan
        A few rows from the middle of the scan.
    recipe
        Thresholds and assumptions.

    Returns
    -------
    Illumination or None
        None where the mean flat, as it is, was asked for.

    Raises
    ------
    DataError
        See `correct` and `find_illumination`.

    Examples
    --------
    >>> from npsi_twin.scan import ParallelBeam
    >>> flats = np.array([[[1000.0] * 4], [[2000.0] * 4]])
    >>> beam = ParallelBeam(np.array([0.0, 1.0]), columns=4, pixel_nm=50.0)
    >>> views = np.array([0, 2])
    >>> scan = Scan(np.full((2, 1, 4), 1500.0), flats, np.zeros((1, 1, 4)), beam, flat_views=views)
    >>> found = illumination_of(scan, CorrectionRecipe(flat_field="interpolated"))
    >>> found.shares.tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    scan = _lit(scan, recipe)
    dark, _, bad = _detector(scan, recipe)
    return find_illumination(scan, recipe, dark, ~bad)


def _lit(scan: Scan, recipe: CorrectionRecipe) -> Scan:
    """Return the scan with the flats that the recipe asks for."""
    if recipe.flat_field != "air" or scan.normalised:
        return scan
    return with_flats_from_air(scan, recipe.air_columns_px)


def _detector(
    scan: Scan, recipe: CorrectionRecipe
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return mean dark, mean flat above it, and where a pixel is dead or hot, (row, column)."""
    for name in ("projections", "flats", "darks"):
        refuse_unusable(getattr(scan, name), name, scan.first_row, finite=recipe.not_finite == "refuse")
    rows, columns = scan.projections.shape[1:]
    if scan.normalised:
        return np.zeros((rows, columns)), np.ones((rows, columns)), np.zeros((rows, columns), bool)
    dark, gain = _dark_and_gain(scan, recipe)
    # A pixel whose flats or darks hold what is no number has no gain, and counts as dead.
    known = np.isfinite(gain) & np.isfinite(dark)
    dark, gain = np.where(known, dark, 0.0), np.where(known, gain, 0.0)
    bad = find_bad_pixels(gain, dark, recipe)
    if bad.mean() > recipe.bad_fraction_limit:
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"flats and darks: {int(bad.sum())} of {bad.size} pixels are dead or hot (the first: row "
            f"{scan.first_row + row}, column {column}); at most {recipe.bad_fraction_limit:.2%} are allowed. So "
            "many mean that flats or darks do not belong to this scan, or that the shutter was closed. "
            "Check exchange/data_white and data_dark, or raise bad_fraction_limit."
        )
    return dark, gain, bad


def _dark_and_gain(scan: Scan, recipe: CorrectionRecipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean dark and the mean flat above it, counts, (row, column)."""
    if scan.flats.shape[0] == 0:
        raise DataError(
            "flats: got none; at least one frame with the beam on and the sample out is needed, because a count "
            "alone does not say how much of the beam the sample took. Add exchange/data_white, or mark the scan as "
            "normalised; --flat-from-air takes the air beside the sample instead."
        )
    if scan.darks.shape[0] == 0:
        if not recipe.assume_no_darks:
            raise DataError(
                "darks: got none; at least one frame with the beam off is needed, because the camera's offset would "
                "be read as light. Add exchange/data_dark, or say --no-darks (assume_no_darks = true) if the offset "
                "is known to be zero."
            )
        dark = np.zeros(scan.flats.shape[1:])
    else:
        dark = scan.darks.mean(axis=0, dtype=np.float64)
    return dark, scan.flats.mean(axis=0, dtype=np.float64) - dark


def _line_integrals(
    scan: Scan,
    dark: NDArray[np.float64],
    gain: NDArray[np.float64],
    bad: NDArray[np.bool_],
    illumination: Illumination | None,
    recipe: CorrectionRecipe,
) -> tuple[FloatArray, CorrectionCounts]:
    """Return -ln of the floored transmission, (row, view, column) float32, and what was met on the way to it."""
    views, rows, columns = scan.projections.shape
    integrals = np.empty((rows, views, columns), np.float32)
    clipped = zingers = not_finite = brighter = 0
    for row in range(rows):
        light = np.where(bad[row], 1.0, gain[row])[None]
        if illumination is not None:
            light = _light_of_views(scan, row, dark[row], illumination)
            light[:, bad[row]] = 1.0
            _refuse_dark_views(light, scan.first_row + row)
        transmission = (scan.projections[:, row].astype(np.float64) - dark[row]) / light
        if recipe.not_finite == "replace":
            odd = ~np.isfinite(transmission) & ~bad[row]
            not_finite += int(np.count_nonzero(odd))
            transmission[:, bad[row]] = 1.0
            replace_values(transmission, odd)
        if recipe.zinger_excess is not None:
            odd = find_zingers(transmission, recipe.zinger_excess) & ~bad[row]
            zingers += int(np.count_nonzero(odd))
            replace_values(transmission, odd | bad[row])
        floor = np.full_like(light, recipe.normalised_floor) if scan.normalised else 1.0 / light
        low = transmission < floor
        clipped += int(np.count_nonzero(low & ~bad[row]))
        brighter += int(np.count_nonzero((transmission > TOO_BRIGHT) & ~bad[row]))
        integrals[row] = -np.log(np.where(low, floor, transmission))
    return integrals, CorrectionCounts(0, clipped, 0, zingers=zingers, not_finite=not_finite, brighter=brighter)


def _light_of_views(scan: Scan, row: int, dark: NDArray[np.float64], illumination: Illumination) -> NDArray[np.float64]:
    """Return the beam of every view in one row, counts, (view, column)."""
    if scan.normalised:
        return np.repeat(illumination.brightness[:, None], scan.beam.columns, axis=1)
    return illumination.of_row(scan.flats[:, row].astype(np.float64) - dark)


def _refuse_dark_views(light: NDArray[np.float64], row: int) -> None:
    if not np.all(light > 0):
        view, column = np.argwhere(~(light > 0))[0]
        raise DataError(
            f"flats: the beam made up for view {view} is {light[view, column]:.3g} counts at row {row}, column "
            f"{column}; it must be positive. The flats differ too much for flat_field = 'components': use 'mean' or "
            "'interpolated'."
        )


def _saturation(projections: NDArray[np.generic], recipe: CorrectionRecipe) -> float | None:
    if recipe.saturation_counts is not None:
        return recipe.saturation_counts
    return float(np.iinfo(projections.dtype.name).max) if projections.dtype.kind in "ui" else None
