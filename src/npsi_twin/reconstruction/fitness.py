"""Whether a scan is fit for reconstruction, judged once from rows in its middle.

Takes a `Scan` and its `Corrected` rows; raises where most of what would come out is made up, and warns where some is:

    share of transmissions below one count > 5 %      refused      share of saturated values > 5 %      refused
    air brighter than the flats by more than 10 %     warned of    share of saturated values > 0.1 %    warned of
    dark level taken as zero                          warned of    fewer views than pi/2 x columns   warned of

It is judged on a few rows, so that the answer does not depend on how a scan is cut into slabs.
"""

import math
import warnings

import numpy as np

from npsi_twin.errors import DataError, OutOfRangeWarning
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import TOO_BRIGHT, Corrected
from npsi_twin.scan import ParallelBeam, Scan

#: Share of transmissions below one count above which a scan says more about the floor than about the sample.
_MOST_CLIPPED = 0.05
#: Shares of saturated values above which a scan is refused, or a warning is due.
_MOST_SATURATED, _MANY_SATURATED = 0.05, 0.001


def judge_counts(scan: Scan, corrected: Corrected, recipe: CorrectionRecipe) -> None:
    """Refuse or warn of what the corrections met.

    Parameters
    ----------
    scan
        Rows from the middle of a scan.
    corrected
        What `correct` made of them.
    recipe
        By which recipe; what it replaces is not warned of.

    Raises
    ------
    DataError
        Too many values lie below one count, or are saturated.

    Warns
    -----
    OutOfRangeWarning
        Some values are saturated, the dark level is assumed, or the air is brighter than the flats.

    Examples
    --------
    >>> from npsi_twin.reconstruction.corrections import correct
    >>> from npsi_twin.scan import ParallelBeam
    >>> ones = np.full((1, 2, 4), 100.0)
    >>> scan = Scan(ones, ones, 0 * ones, ParallelBeam(np.zeros(1), columns=4, pixel_nm=50.0))
    >>> judge_counts(scan, correct(scan, CorrectionRecipe()), CorrectionRecipe())
    """
    clipped, saturated, values = corrected.counts.clipped, corrected.counts.saturated, scan.projections.size
    if clipped > _MOST_CLIPPED * values:
        raise DataError(
            f"projections: {clipped} of {values} transmissions in the middle rows lie below one count; at most "
            f"{_MOST_CLIPPED:.0%} can be raised to it without making up the sample. The shutter was closed, the sample "
            "is opaque, or flats and darks belong to another scan. Check exchange/data, data_white and data_dark."
        )
    if saturated > _MOST_SATURATED * values:
        raise DataError(
            f"projections: {saturated} of {values} values in the middle rows are saturated; at most "
            f"{_MOST_SATURATED:.0%} can be bridged. The exposure was too long: the counts do not tell what the sample "
            "let through."
        )
    if saturated > _MANY_SATURATED * values and recipe.saturated_values == "keep":
        warnings.warn(
            f"projections: {saturated} of {values} values in the middle rows are saturated and read too low; --repair "
            "(saturated_values = 'replace') interpolates them.",
            OutOfRangeWarning,
            stacklevel=3,
        )
    if corrected.counts.darks_assumed_zero:
        warnings.warn(
            "darks: none were taken and the dark level is set to zero as asked; a camera's offset makes the sample "
            "read too transparent.",
            OutOfRangeWarning,
            stacklevel=3,
        )
    margin = max(1, scan.beam.columns // 50)
    edges = [corrected.line_integrals[:, :, part] for part in (slice(0, margin), slice(-margin, None))]
    brightest = float(np.exp(-min(np.median(edge) for edge in edges)))
    if brightest > TOO_BRIGHT and not scan.normalised:
        warnings.warn(
            f"flats: the outermost columns are {brightest:.2f} times as bright as the flats, so that flats and data "
            "differ in flux and every line integral is off by as much. Where these columns show air, --flat-from-air "
            "with their number scales every view.",
            OutOfRangeWarning,
            stacklevel=3,
        )


def judge_views(beam: ParallelBeam, width_px: int | None = None) -> None:
    """Warn of fewer views than what is reconstructed needs to be sampled everywhere.

    Views turned by ``pi / n`` lie ``pi * N / (2 * n)`` pixels apart at the rim of a circle of ``N`` pixels; where that
    is beyond one pixel, details of two pixels fall between them. Directions count, not frames: an even number of views
    over a full turn sees everything twice.

    Parameters
    ----------
    beam
        Angles and columns of the scan.
    width_px
        Side of a slice; all columns when None.

    Warns
    -----
    OutOfRangeWarning
        Naming both numbers, and what the views resolve.

    References
    ----------
    Crowther, DeRosier & Klug (1970), Proc. R. Soc. Lond. A 317, 319-340, doi:10.1098/rspa.1970.0119.

    Examples
    --------
    >>> judge_views(ParallelBeam(np.pi * np.arange(64) / 64, columns=40, pixel_nm=50.0))
    """
    width = min(width_px or beam.columns, beam.columns)
    # A millionth of a half turn: encoders tell no two views apart that closely.
    directions = len(np.unique(np.rint(np.mod(beam.angles_rad / np.pi, 1) * 1e6) % 1e6))
    needed = math.ceil(np.pi / 2 * width)
    if directions < needed:
        warnings.warn(
            f"few views: {directions} directions for slices of {width} pixels, which pi/2 x {width} = {needed} sample "
            f"everywhere. Details of two pixels are resolved within {2 * directions / np.pi:.0f} pixels around the "
            f"axis, at the rim those of {np.pi * width / directions:.1f} pixels; finer ones leave streaks. Take more "
            "views, or a narrower sample.",
            OutOfRangeWarning,
            stacklevel=1,  # said from here, so that a run that is told so before its scan is not told again after it
        )
