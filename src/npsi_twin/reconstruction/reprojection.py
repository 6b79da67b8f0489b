"""Where each view really was: jitter and drift of the stage, found by projecting the reconstruction again.

Takes line integrals (row, view, column) of neighbouring rows and their geometry, gives an `Alignment`: the shift of the
sample's image in every view, along the columns and, where asked, along the rows. Views that do not belong together
reconstruct to a slice whose projections differ from them, mostly by the shift itself; so, over and over (Gürsoy et al.
2017),

    slices <- FBP(data taken back by the shifts s),   q <- projections of the slices,   s_v <- s_v + ds_v,
    ds_v = argmin sum over (row, column) (p_v - q_v + ds_v . grad q_v)**2,

both directions at once, p_v being the data as they are taken back so far. What the same detector column adds to all
views (stripes) takes no part. Coarse detail, which many views share, leads; fine detail, which each view alone decides,
would only confirm the view as it is and is blurred away. Where the sample lies inside the field, its centre of mass,
which must move along a sine, gives the start along the columns, and the sum of every row that along the rows. Motion
along the rows that is slow stays with these sums: another, slightly sheared sample explains it nearly as well.

Holds modulo what no data can tell: moving the sample sideways adds a sine to the column shifts, moving it along the
axis a constant to the row shifts. These parts are zero here, as is the mean of the column shifts, which is the rotation
axis's to tell.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from npsi_twin.errors import IncompatibleError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.rotation import is_truncated, taper
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Shifts that change by less than this in an iteration, rms, are found.
_SETTLED_PX = 5e-3
#: Half waves over the scan up to which motion along the axis is slow.
_SLOW_WAVES = 8


class AlignmentRecipe(Recipe):
    """How views are aligned to one another."""

    method: Literal["none", "reprojection"] = parameter(
        "none", "take views where the stage says they are, or find their shifts", source="assumed"
    )
    iterations: int = parameter(40, "rounds of reconstruction and projection at most", source="assumed", ge=1, le=1000)
    blur_px: float = parameter(
        2.0,
        "Gaussian blur under which views are compared: wide for large shifts and much noise",
        unit="pixels",
        source="inferred: validation/05_reconstruction",
        gt=0,
        le=100,
    )
    rows: bool = parameter(
        False, "also find shifts along the rotation axis; needs a block of neighbouring rows", source="assumed"
    )
    tilt: Literal["none", "fit"] = parameter(
        "none", "take the axis as parallel to the columns, or find its tilt from rows far apart", source="assumed"
    )


@dataclass(frozen=True)
class Alignment:
    """Shifts of the sample's image.

    Attributes
    ----------
    column_shift_px
        (view,), for `ParallelBeam.column_shift_px`; on top of what the geometry had.
    row_shift_px
        (view,), positive towards larger rows; zeros where not asked for.
    misfit
        Rms difference of blurred views and reprojections, relative to the views', before every round, (round,).
    made_by
        Provenance.
    """

    column_shift_px: NDArray[np.float64]
    row_shift_px: NDArray[np.float64]
    misfit: NDArray[np.float64]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("column_shift_px", "row_shift_px", "misfit"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


def align_views(
    line_integrals: FloatArray, beam: ParallelBeam, recipe: AlignmentRecipe, *, threads: int | None = None
) -> Alignment:
    """Find the shift of every view.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless; neighbouring rows where ``recipe.rows``, any others.
    beam
        Geometry with a known rotation axis; its ``column_shift_px`` is the start.
    recipe
        How long and how fine.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    Alignment
        Shifts without the parts that no data can tell.

    Raises
    ------
    IncompatibleError
        The array does not belong to the geometry, or row shifts are asked of fewer than 8 rows.

    References
    ----------
    D. Gürsoy, Y. P. Hong, K. He, et al., "Rapid alignment of nanotomography data using joint iterative reconstruction
    and reprojection", Sci. Rep. 7, 11818 (2017), doi:10.1038/s41598-017-12141-9.

    Examples
    --------
    A blob whose image jumps by a pixel in every third view:

    >>> jump = np.where(np.arange(90) % 3 == 0, 1.0, 0.0)
    >>> beam = ParallelBeam(np.pi * np.arange(90) / 90, columns=64, pixel_nm=50.0, rotation_axis_px=31.5)
    >>> place = 31.5 + 12 * np.cos(beam.angles_rad) + jump
    >>> blob = np.exp(-(((np.arange(64) - place[:, None]) / 4) ** 2)).astype(np.float32)
    >>> found = align_views(blob[None], beam, AlignmentRecipe(method="reprojection")).column_shift_px
    >>> [round(float(found[v] - found[v + 1]), 1) for v in (30, 33, 60)]
    [1.0, 1.0, 1.0]
    """
    if line_integrals.ndim != 3 or line_integrals.shape[1:] != (beam.views, beam.columns):
        raise IncompatibleError(
            f"align_views: got shape {line_integrals.shape}; (row, {beam.views} views, {beam.columns} columns) is "
            "needed to match the geometry."
        )
    rows = line_integrals.shape[0]
    if recipe.rows and rows < 8:
        raise IncompatibleError(
            f"align_views: got {rows} rows; at least 8 neighbouring ones are needed to see a shift along them. "
            "Give more rows, or rows = false."
        )
    still = replace(beam, column_shift_px=None)
    projector = choose_projector("fourier", still, beam.columns, threads=threads)
    window = _window(line_integrals, recipe)
    shifts = _Shifts(beam)
    known = np.asarray(beam.column_shift_px)
    across, along = known + _start_across(line_integrals, beam), np.zeros(beam.views)
    sums_say = None
    if recipe.rows:
        along = _start_along(line_integrals)
        sums_say = None if is_truncated(line_integrals) else along
    misfits: list[float] = []
    for _ in range(recipe.iterations):
        taken_back = take_back(line_integrals, across, along)
        again = projector.forward(fbp(taken_back, projector))
        step, misfit = _step(taken_back, again, window, recipe)
        misfits.append(misfit)
        before = np.stack([across, along])
        across, along = shifts.across(across + step[0] - known) + known, shifts.along(along + step[1], sums_say)
        if np.sqrt(np.mean((np.stack([across, along]) - before) ** 2)) < _SETTLED_PX:
            break
    return Alignment(across - known, along, np.array(misfits), MadeBy("align_views", recipe.digest()))


def take_back(
    line_integrals: FloatArray, column_shift_px: NDArray[np.float64], row_shift_px: NDArray[np.float64]
) -> FloatArray:
    """Move every view back by the shift of its image, by Fourier interpolation.

    Parameters
    ----------
    line_integrals
        (row, view, column).
    column_shift_px, row_shift_px
        (view,); edges move in as they are.

    Returns
    -------
    FloatArray
        (row, view, column).

    Examples
    --------
    >>> view = np.zeros((1, 1, 8), np.float32)
    >>> view[0, 0, 5] = 1.0
    >>> np.abs(take_back(view, np.array([2.0]), np.zeros(1))).round(3)[0, 0]
    array([0., 0., 0., 1., 0., 0., 0., 0.], dtype=float32)
    """
    moved = _moved(np.asarray(line_integrals, np.float32), column_shift_px, axis=2)
    if np.any(row_shift_px):
        moved = _moved(moved, row_shift_px, axis=0)
    return moved


def _moved(values: FloatArray, shift_px: NDArray[np.float64], axis: int) -> FloatArray:
    length = values.shape[axis]
    margin = int(np.ceil(np.abs(shift_px).max())) + 8
    padded = scipy.fft.next_fast_len(length + 2 * margin, real=True)
    pad = [(0, 0)] * 3
    pad[axis] = (margin, padded - length - margin)
    turns = np.exp(2j * np.pi * np.outer(shift_px, scipy.fft.rfftfreq(padded))).astype(np.complex64)
    phase = turns[None] if axis == 2 else turns.T[:, :, None]
    wide = np.pad(values, pad, mode="edge")
    spectrum = scipy.fft.rfft(wide, axis=axis)
    spectrum *= phase
    wide = scipy.fft.irfft(spectrum, padded, axis=axis)
    kept = [slice(None)] * 3
    kept[axis] = slice(margin, margin + length)
    return np.ascontiguousarray(wide[tuple(kept)], np.float32)


class _Shifts:
    """The shifts that data can tell: what is left of any others."""

    def __init__(self, beam: ParallelBeam) -> None:
        untold = np.stack([np.ones(beam.views), np.cos(beam.angles_rad), np.sin(beam.angles_rad)], axis=1)
        self._untold = np.linalg.qr(untold)[0]
        waves = np.arange(min(_SLOW_WAVES, beam.views // 4) + 1)
        place = (np.arange(beam.views) + 0.5) / beam.views
        self._slow = np.linalg.qr(np.cos(np.pi * waves * place[:, None]))[0]

    def across(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(shift - self._untold @ (self._untold.T @ shift), np.float64)

    def along(self, shift: NDArray[np.float64], sums_say: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return shifts without a constant; what is slow in them is left to the sums of rows, where these are told."""
        if sums_say is None:
            return np.asarray(shift - shift.mean(), np.float64)
        return np.asarray(shift - self._slow @ (self._slow.T @ (shift - sums_say)), np.float64)


def _window(line_integrals: FloatArray, recipe: AlignmentRecipe) -> FloatArray:
    """Return what rows and columns count, (row, 1, column): less where edges move in."""
    rows, _, columns = line_integrals.shape
    across = taper(columns) if is_truncated(line_integrals) else np.ones(columns)
    along = taper(rows) if recipe.rows else np.ones(rows)
    return np.asarray(along[:, None, None] * across, np.float32)


def _start_across(line_integrals: FloatArray, beam: ParallelBeam) -> NDArray[np.float64]:
    """Return the centre of mass's departure from a sine, px, or zeros where the sample reaches out of the field."""
    if is_truncated(line_integrals):
        return np.zeros(beam.views)
    views = line_integrals.sum(axis=0, dtype=np.float64)
    centre = views @ np.arange(beam.columns) / np.maximum(views.sum(axis=1), np.finfo(float).tiny)
    return _Shifts(beam).across(centre - np.asarray(beam.column_shift_px))


def _start_along(line_integrals: FloatArray) -> NDArray[np.float64]:
    """Return how far every view's row sums, which turning does not change, are from the mean ones, by least squares.

    What a view has more in all rows alike, as an error of its brightness has it, takes no part.
    """
    sums = line_integrals.sum(axis=2, dtype=np.float64)
    shift = np.zeros(sums.shape[1])
    weight = taper(sums.shape[0])
    for _ in range(10):
        moved = _moved(sums[:, :, None].astype(np.float32), shift, axis=0)[:, :, 0].astype(np.float64)
        mean = moved.mean(axis=1)
        rise = np.gradient(mean)
        slope = weight * (rise - np.average(rise, weights=weight))
        power = (slope * rise).sum()
        if power <= 0:
            break
        shift -= slope @ (moved - mean[:, None]) / power
        shift -= shift.mean()
    return shift


def _step(
    measured: FloatArray, again: FloatArray, window: FloatArray, recipe: AlignmentRecipe
) -> tuple[NDArray[np.float64], float]:
    """Return the shifts, (2, view), that bring views nearer to their reprojections, and the relative misfit."""
    off = measured - again
    off -= off.mean(axis=1, keepdims=True)
    off, guide = (_blurred(array, recipe) for array in (off, again))
    across = np.gradient(guide, axis=2)
    along = np.gradient(guide, axis=0) if recipe.rows else np.zeros_like(guide)

    def over(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
        return np.asarray(np.einsum("rvc,rvc->v", first * window, second, dtype=np.float64), np.float64)

    xx, yy, xy = over(across, across), over(along, along), over(across, along)
    bx, by = -over(across, off), -over(along, off)
    if not recipe.rows:
        yy = np.ones_like(xx)
    determinant = np.maximum(xx * yy - xy**2, 1e-6 * xx.mean() * yy.mean() + np.finfo(float).tiny)
    step = np.stack([bx * yy - by * xy, by * xx - bx * xy]) / determinant
    misfit = float(np.sqrt(over(off, off).sum() / max(over(guide, guide).sum(), np.finfo(float).tiny)))
    return np.clip(step, -recipe.blur_px, recipe.blur_px), misfit


def _blurred(values: FloatArray, recipe: AlignmentRecipe) -> FloatArray:
    blurred = gaussian_filter1d(values, recipe.blur_px, axis=2, mode="nearest")
    return gaussian_filter1d(blurred, recipe.blur_px, axis=0, mode="nearest") if recipe.rows else blurred
