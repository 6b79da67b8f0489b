"""Line integrals -> attenuation: filtered backprojection and SIRT-FBP.

Takes sinograms (row, view, column), dimensionless, and a `Projector` of their geometry; gives slices (row, y, x) in
``attenuation_per_um``. Both are one filtered backprojection, W' being the projector's transpose (in um):

    FBP:       f = W' (w_v  ramp * p)       w_v the share of 180 degrees that view v stands for, radians
    SIRT-FBP:  f = W' (filter_v * p)        the filters of `filters.sirt_fbp_taps`

Holds for a sample inside the field; `extend` continues the sinograms of one that is not.
"""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.projectors.contract import Projector
from npsi_twin.reconstruction.filters import ramp_taps
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray


def angular_weights_rad(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of half a turn that each view stands for.

    Views half a turn apart see the same lines, so angles are taken modulo pi; each view gets half the distance to its
    two neighbours. Views at the same place share it: an end point recorded twice counts half each. A gap of more than
    three median steps is a missing wedge, which nobody saw: the views at its edges count as if another view stood a
    median step further on, so that they draw no streaks of their own.

    Parameters
    ----------
    angles_rad
        Angles in any order, radians, shape (views,).

    Returns
    -------
    NDArray[numpy.float64]
        Weights in radians, shape (views,); their sum is pi less what wedges lack.

    Warns
    -----
    OutOfRangeWarning
        A gap between views is more than three times the median step: a missing wedge.

    Examples
    --------
    >>> import numpy as np
    >>> (angular_weights_rad(np.deg2rad([0, 60, 120, 180])) / np.pi * 6).round(12)
    array([1., 2., 2., 1.])
    """
    # Rounding must not tell 180 degrees from 0: angles that close to pi are folded onto 0.
    folded = np.mod(angles_rad, np.pi)
    folded[folded > np.pi - 1e-9] = 0.0
    order = np.argsort(folded, kind="stable")
    steps = np.diff(np.append(folded[order], folded[order[0]] + np.pi))
    apart = steps[steps > 1e-9]
    usual = float(np.median(apart))
    if apart.max() > 3 * usual:
        warnings.warn(
            f"reconstruction: the views leave a gap of {np.rad2deg(apart.max()):.2f} degrees at a median step of "
            f"{np.rad2deg(usual):.3f}; expect streaks along the missing directions.",
            OutOfRangeWarning,
            stacklevel=2,
        )
        steps = np.where(steps > 3 * usual, usual, steps)
    weights = np.empty_like(folded)
    weights[order] = (steps + np.roll(steps, 1)) / 2
    return np.asarray(weights, np.float64)


def fbp(line_integrals: FloatArray, projector: Projector) -> FloatArray:
    """Reconstruct by filtered backprojection with the band-limited ramp.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the projector's geometry.
    projector
        Its ``beam`` and ``width`` say what is reconstructed.

    Returns
    -------
    FloatArray
        ``attenuation_per_um``, (row, width, width), the rotation axis at the centre.

    References
    ----------
    A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging" (1988), chapter 3.

    Examples
    --------
    A disk of 0.05 / um and 0.6 um radius:

    >>> import numpy as np
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> beam = ParallelBeam(np.pi * np.arange(60) / 60, columns=33, pixel_nm=50.0, rotation_axis_px=16.0)
    >>> offset_um = (np.arange(33) - 16) * 0.05
    >>> chord = 2 * 0.05 * np.sqrt(np.clip(0.6**2 - offset_um**2, 0, None))
    >>> sinogram = np.broadcast_to(chord, (1, 60, 33)).astype(np.float32)
    >>> slices = fbp(sinogram, choose_projector("nufft", beam, 33))
    >>> round(float(slices[0, 12:21, 12:21].mean()), 3)
    0.05
    """
    beam = projector.beam
    weighted = line_integrals * angular_weights_rad(beam.angles_rad).astype(np.float32)[:, None]
    return projector.filtered_adjoint(weighted, ramp_taps(beam.columns, beam.pixel_nm))


def sirt_fbp(line_integrals: FloatArray, projector: Projector, taps: FloatArray) -> FloatArray:
    """Reconstruct by filtered backprojection with SIRT-FBP filters.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the projector's geometry.
    projector
        Its ``beam`` and ``width`` say what is reconstructed.
    taps
        Filters from `npsi_twin.reconstruction.filters.sirt_fbp_taps`, (views, taps), 1/um**2.

    Returns
    -------
    FloatArray
        ``attenuation_per_um``, (row, width, width).

    Notes
    -----
    n iterations do not reach the fine frequencies of a wide detector: a thin layer on a strongly absorbing foil reads
    too little. ``validation/05_reconstruction`` has the numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> from npsi_twin.reconstruction.filters import sirt_fbp_taps
    >>> beam = ParallelBeam(np.pi * np.arange(24) / 24, columns=17, pixel_nm=50.0, rotation_axis_px=8.0)
    >>> projector = choose_projector("nufft", beam, 17)
    >>> sirt_fbp(np.ones((2, 24, 17), np.float32), projector, sirt_fbp_taps(beam, 5)).shape
    (2, 17, 17)
    """
    return projector.filtered_adjoint(line_integrals, taps)


def extend(line_integrals: FloatArray, beam: ParallelBeam, columns: int) -> tuple[FloatArray, ParallelBeam]:
    """Continue every view with its outermost values, so that a cut sample does not end in a step.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless.
    beam
        Their geometry.
    columns
        Columns to add at either end; 0 gives back what came in.

    Returns
    -------
    line_integrals : FloatArray
        (row, view, column + 2 columns).
    beam : ParallelBeam
        The geometry of the wider detector.

    Examples
    --------
    >>> import numpy as np
    >>> beam = ParallelBeam(np.zeros(1), columns=2, pixel_nm=50.0, rotation_axis_px=0.5)
    >>> wide, wide_beam = extend(np.array([[[1.0, 2.0]]], np.float32), beam, 2)
    >>> wide.tolist(), wide_beam.rotation_axis_px
    ([[[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]]], 2.5)
    """
    if columns == 0:
        return line_integrals, beam
    wide = np.pad(line_integrals, ((0, 0), (0, 0), (columns, columns)), mode="edge")
    wide_beam = replace(beam, columns=beam.columns + 2 * columns, rotation_axis_px=beam.known_axis_px() + columns)
    return wide, wide_beam
