"""The counts of a slab -> line integrals without stripes, every row where it would be on a perfect stage.

Takes the rows of a slab and the neighbours that it needs, gives `StraightLines`: corrected (`corrections`), without
stripes (`rings`), which belong to detector rows and so come first, then straightened: the lean of the axis (`tilt`)
and the shifts of the views along it (`row_shifts`) undone. What was found once for the scan is handed in, so that every
row is a pure function of itself and its neighbours, and no cut into slabs shows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import CorrectionCounts, correct
from npsi_twin.reconstruction.illumination import Illumination
from npsi_twin.reconstruction.rings import RingRecipe, remove_stripes
from npsi_twin.reconstruction.row_shifts import halo_rows, take_rows_back
from npsi_twin.reconstruction.tilt import AxisTilt, take_tilt_out
from npsi_twin.scan import Scan
from npsi_twin.volumes import FloatArray


class StraightLines(NamedTuple):
    """Line integrals of the rows kept, ready for reconstruction.

    Attributes
    ----------
    line_integrals
        (row, view, column).
    counts
        What the corrections met in these rows, their neighbours left out.
    removed_rms
        See `remove_stripes`, (row,).
    removed_mean
        What stripe removal took, mean over the views, (row, column).
    """

    line_integrals: FloatArray
    counts: CorrectionCounts
    removed_rms: NDArray[np.float64]
    removed_mean: FloatArray


def judged_already(corrections: CorrectionRecipe) -> CorrectionRecipe:
    """Return the recipe for rows whose detector was judged once for the scan, so that no answer depends on the cut.

    Examples
    --------
    >>> judged_already(CorrectionRecipe()).bad_fraction_limit
    1.0
    """
    return corrections.model_copy(update={"bad_fraction_limit": 1.0})


def straight_lines(
    scan: Scan,
    rows: range,
    corrections: CorrectionRecipe,
    rings: RingRecipe,
    *,
    illumination: Illumination | None = None,
    tilt: AxisTilt | None = None,
    row_shift_px: NDArray[np.float64] | None = None,
    threads: int | None = None,
) -> StraightLines:
    """Correct counts, remove stripes and straighten.

    Parameters
    ----------
    scan
        The rows, and `halo_rows` of neighbours on either side, as far as the detector has them.
    rows
        Detector rows to return.
    corrections, rings
        How.
    illumination
        The beam of every view, where it is not the mean flat.
    tilt
        Lean of the axis; none when None.
    row_shift_px
        Shift of every view along the axis, (view,); none when None.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    StraightLines
        Of ``rows``.

    Raises
    ------
    IncompatibleError
        The scan lacks the rows.
    DataError
        See `correct`.

    Examples
    --------
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.zeros(1), columns=2, pixel_nm=50.0)
    >>> scan = Scan(np.full((1, 3, 2), 500.0), np.full((1, 3, 2), 1000.0), np.zeros((1, 3, 2)), beam)
    >>> made = straight_lines(scan, range(1, 2), CorrectionRecipe(), RingRecipe(method="none"))
    >>> made.line_integrals.round(3)
    array([[[0.693, 0.693]]], dtype=float32)
    """
    judged = judged_already(corrections)
    halo = 0 if row_shift_px is None else halo_rows(row_shift_px)
    above = range(max(scan.first_row, rows.start - halo), rows.start)
    below = range(rows.stop, min(scan.first_row + scan.rows, rows.stop + halo))
    # What is met among the neighbours is counted in their own slabs.
    corrected = correct(scan.only(rows), judged, illumination=illumination)
    lines = corrected.line_integrals
    if above or below:
        beside = [correct(scan.only(part), judged, illumination=illumination) for part in (above, below) if part]
        stacked = [part.line_integrals for part in beside]
        stacked.insert(1 if above else 0, lines)
        lines = np.concatenate(stacked)
    cleaned, removed_rms = remove_stripes(lines, rings, threads=threads)
    kept = slice(len(above), len(above) + len(rows))
    removed_mean = (lines[kept] - cleaned[kept]).mean(axis=1)
    if tilt is not None:
        cleaned = take_tilt_out(cleaned, tilt, first_row=rows.start - len(above))
    straight = (
        take_rows_back(cleaned, row_shift_px, kept, threads=threads) if halo and row_shift_px is not None else cleaned
    )
    return StraightLines(straight, corrected.counts, removed_rms[kept], removed_mean)
