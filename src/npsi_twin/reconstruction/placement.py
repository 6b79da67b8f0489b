"""Where the sample really was: rotation axis, its tilt, and the shift of every view, found once for a scan.

Takes corrected line integrals of neighbouring rows from the middle of a scan, and of groups of rows spread over the
detector where the tilt is asked for; gives a `Placement`. The axis comes first; with it views are aligned
(`reprojection`); with their shifts taken out the axis is found again, because a drift along the axis shows each half of
the turn another part of the sample, which reads as a shift of the axis by up to a tenth of a pixel a row. Last comes
the tilt, as a line through the axes of the groups. An axis that is told is not looked for.

Holds modulo what no data can tell (`reprojection`): the axis includes the mean shift of all views.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from npsi_twin.errors import NotConvergedError
from npsi_twin.reconstruction.alignment import AxisMethod, find_rotation_axis
from npsi_twin.reconstruction.corrections import Corrected
from npsi_twin.reconstruction.reprojection import Alignment, AlignmentRecipe, align_views, take_back
from npsi_twin.reconstruction.rotation import RotationAxis
from npsi_twin.reconstruction.tilt import AxisTilt, axis_line, find_axis_tilt


@dataclass(frozen=True)
class Placement:
    """Where the sample was.

    Attributes
    ----------
    axis
        Rotation axis at the middle of the rows looked at.
    alignment
        Shifts of the views; None where they were not asked for.
    tilt
        Lean of the axis; None where it was not asked for.
    """

    axis: RotationAxis
    alignment: Alignment | None = None
    tilt: AxisTilt | None = None


def find_placement(
    middle: Corrected,
    recipe: AlignmentRecipe,
    *,
    told: RotationAxis | float | None = None,
    method: AxisMethod = "auto",
    spread: Sequence[Corrected] = (),
    threads: int | None = None,
) -> Placement:
    """Find the axis, and what else the recipe asks for.

    Parameters
    ----------
    middle
        Neighbouring rows with sample in them.
    recipe
        What to find.
    told
        Rotation axis at the middle of these rows, column, where it is known.
    method
        As for `find_rotation_axis`.
    spread
        Groups of rows for the tilt, far apart; the rows of ``middle`` when empty.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    Placement
        What was found.

    Raises
    ------
    NotConvergedError
        The rows show too little of a sample, or fewer than three groups do.
    DataError, IncompatibleError
        See `find_rotation_axis`, `align_views` and `find_axis_tilt`.

    Examples
    --------
    >>> from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
    >>> from npsi_twin.reconstruction.corrections import correct
    >>> from npsi_twin.scan import ParallelBeam, Scan
    >>> beam = ParallelBeam(np.pi * np.arange(90) / 90, columns=64, pixel_nm=50.0)
    >>> line = np.exp(-(((np.arange(64) - 30.3 - 15 * np.cos(beam.angles_rad[:, None])) / 4) ** 2))[:, None]
    >>> scan = Scan(1000 * np.exp(-line), np.full((1, 1, 64), 1000.0), np.zeros((1, 1, 64)), beam)
    >>> found = find_placement(correct(scan, CorrectionRecipe()), AlignmentRecipe())
    >>> round(found.axis.px, 1), found.alignment, found.tilt
    (30.3, None, None)
    """
    lines, beam = middle.line_integrals, middle.beam
    if told is None:
        axis = find_rotation_axis(lines, beam, method)
    else:
        axis = told if isinstance(told, RotationAxis) else RotationAxis(float(told), 0.0, "given")
    aligned = None
    if recipe.method == "reprojection":
        aligned = align_views(lines, beam.with_axis(axis.px), recipe, threads=threads)
        beam = replace(beam, column_shift_px=np.asarray(beam.column_shift_px) + aligned.column_shift_px)
        if told is None:
            still = take_back(lines, np.zeros(beam.views), aligned.row_shift_px)
            axis = find_rotation_axis(still, beam, method)
    if recipe.tilt == "none":
        return Placement(axis, aligned)
    if spread:
        line = _line_through([replace(group, beam=beam) for group in spread], method)
    else:
        line = find_axis_tilt(lines, beam, first_row=middle.first_row, method=method)
    reference = middle.first_row + (len(lines) - 1) / 2
    return Placement(axis, aligned, replace(line, px=axis.px, reference_row=reference))


def _line_through(groups: Sequence[Corrected], method: AxisMethod) -> AxisTilt:
    """Lay a line through the axes of the groups that show a sample."""
    rows, axes = [], []
    for group in groups:
        try:
            axes.append(find_rotation_axis(group.line_integrals, group.beam, method))
        except NotConvergedError:
            continue
        rows.append(group.first_row + (len(group.line_integrals) - 1) / 2)
    if len(axes) < 3:
        raise NotConvergedError(
            f"axis tilt: {len(axes)} of {len(groups)} groups of rows show an axis; at least 3 are needed for a line "
            "and its scatter. The sample is too low for it: give tilt = 'none'."
        )
    return axis_line(np.array(rows), axes)
