"""Reconstruction by iteration: SIRT, Landweber, conjugate gradients.

Takes line integrals (row, view, column) and a `Projector` or its `NormalEquations`; gives `Iterated`: slices in
``attenuation_per_um`` and how well they explained the data at every step. With p the data and W the projector,

    SIRT:       x <- x + C W' R (p - W x),    R = 1 / (W 1), C = 1 / (W' 1)     one weight a ray, one a voxel
    Landweber:  x <- x + W' H (p - W x) / bound                                 one weight a frequency
    CGLS:       conjugate gradients on W' H W x = W' H p

SIRT's sums must be positive, so it takes a projector that meets voxels by rays. Landweber and CGLS take any, and where
the projector is band-limited the operator is a convolution (`npsi_twin.reconstruction.toeplitz`). H = ramp is the
preconditioned variant of both (`npsi_twin.reconstruction.normal_equations`).

Early steps fit what is coarse, late ones the noise; so an iteration may end when a slice's misfit reaches what the
noise explains, or no longer falls. Slices end one by one, which keeps them independent of the slab they came in. A
sample that reaches out of the field needs slices wider than the detector, to hold what the data saw of the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.projectors.choice import BAND_LIMITED
from npsi_twin.projectors.contract import Projector, accepted_sinograms, accepted_threads
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.reconstruction.normal_equations import NormalEquations, data_norms
from npsi_twin.reconstruction.slices import slice_dots, slices_first, slices_last, step, weighted_misfit
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Sums of a ray or a voxel below this share of the largest are met by rounding only; such rays and voxels rest.
_SMALLEST_SUM = 1e-4


class IterationRecipe(Recipe):
    """How an iterative reconstruction runs."""

    iterations: int = parameter(100, "steps at most", source="assumed", ge=1, le=100_000)
    non_negative: bool = parameter(
        False, "attenuation below zero is raised to zero after every step (not by cgls)", source="assumed"
    )
    support: Literal["square", "disk"] = parameter(
        "square",
        "voxels that may differ from zero: all, or the disk that every view sees whole",
        source="assumed: square, as ASTRA's SIRT",
    )
    weighting: Literal["uniform", "ramp"] = parameter(
        "uniform",
        "norm of the misfit for landweber, cgls and tv: least squares, or the ramp, which preconditions",
        source="assumed: noise that is the same everywhere",
    )
    stop_misfit: float = parameter(
        0.0,
        "a slice is finished when the rms of its misfit is below this share of the data's; 0 never",
        source="assumed: the noise's share is not known beforehand",
        ge=0,
        lt=1,
    )
    stop_gain: float = parameter(
        0.0,
        "a slice is finished when a step lowers its misfit by less than this share of it; 0 never",
        source="assumed",
        ge=0,
        lt=1,
    )


@dataclass(frozen=True)
class Iterated:
    """Slices and how they came about.

    Attributes
    ----------
    values
        ``attenuation_per_um``, (row, y, x), read-only.
    misfit
        sqrt(<p - W x, H (p - W x)> / <p, H p>) before every step, (step, row); where a slice is finished its last
        number repeats. SIRT's H is 1.
    steps
        Steps each slice took, (row,).
    made_by
        Provenance; the backend is the projector's name.
    """

    values: FloatArray
    misfit: NDArray[np.float64]
    steps: NDArray[np.int64]
    made_by: MadeBy

    def __post_init__(self) -> None:
        for name in ("values", "misfit", "steps"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


class Progress:
    """Which slices go on, and their residual curve so far."""

    def __init__(self, recipe: IterationRecipe, slices: int) -> None:
        self._recipe = recipe
        self._curve: list[NDArray[np.float64]] = []
        self.steps = np.zeros(slices, np.int64)
        self.going = np.ones(slices, np.float32)

    def goes_on(self, misfit: NDArray[np.float64]) -> bool:
        """Note the misfit before a step, finish the slices that are done, and tell whether any is left to step."""
        going = self.going > 0
        if self._curve:
            last = self._curve[-1]
            misfit = np.where(going, misfit, last)
            if self._recipe.stop_gain > 0:
                going &= misfit < (1 - self._recipe.stop_gain) * last
        if self._recipe.stop_misfit > 0:
            going &= misfit > self._recipe.stop_misfit
        self._curve.append(misfit)
        self.going = going.astype(np.float32)
        self.steps += going
        return bool(going.any())

    def result(self, slab: FloatArray, made_by: MadeBy) -> Iterated:
        """Return slices (y, x, z) as a product."""
        return Iterated(slices_first(slab), np.array(self._curve), self.steps, made_by)


def sirt(
    line_integrals: FloatArray,
    projector: Projector,
    recipe: IterationRecipe,
    *,
    start: FloatArray | None = None,
    threads: int | None = None,
) -> Iterated:
    """Reconstruct by simultaneous iterations, every ray and every voxel weighed by its sum.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the projector's geometry.
    projector
        One whose rays have positive sums: ``"rays"``, ``"astra-cpu"`` or ``"astra-cuda"``.
    recipe
        Steps, constraints and when to end; ``weighting`` is not used.
    start
        Slices (row, y, x) to begin from; zeros when None.
    threads
        Threads between projections; all when None. The result does not depend on them.

    Returns
    -------
    Iterated
        Slices (row, width, width) in ``attenuation_per_um``.

    Raises
    ------
    ParameterError
        The projector is band-limited: its sums ring around zero. Use `landweber`.
    IncompatibleError
        ``start`` has another shape.

    References
    ----------
    J. Gregor, T. Benson, "Computational analysis and improvement of SIRT", IEEE Trans. Med. Imaging 27, 918 (2008),
    doi:10.1109/TMI.2008.923696, eq. 4.

    Examples
    --------
    A block of 0.05 / um comes back ever better:

    >>> from npsi_twin.projectors.choice import choose_projector
    >>> beam = ParallelBeam(np.pi * np.arange(30) / 30, columns=24, pixel_nm=100.0, rotation_axis_px=11.5)
    >>> projector = choose_projector("astra-cpu", beam, 24)
    >>> block = np.zeros((1, 24, 24), np.float32)
    >>> block[0, 8:14, 10:16] = 0.05
    >>> made = sirt(projector.forward(block), projector, IterationRecipe(iterations=50))
    >>> round(float(made.values[0, 9:13, 11:15].mean()), 2), bool(np.all(np.diff(made.misfit[:, 0]) < 0))
    (0.05, True)
    """
    if projector.name in BAND_LIMITED:
        raise ParameterError(
            f"SIRT: got projector {projector.name!r}; its sums over a ray ring around zero at the field's edge, "
            "and SIRT divides by them. Take 'rays' or 'astra-cpu', or Landweber steps, which weigh all rays alike."
        )
    where, workers = "SIRT", accepted_threads("SIRT", threads)
    measured = slices_last(accepted_sinograms(where, line_integrals, projector.beam))
    forward, adjoint = _slices_last_pair(projector)
    allowed = support(projector.beam, projector.width, recipe)
    rays = _inverse(forward(np.ascontiguousarray(allowed[:, :, None]))[:, :, 0])
    voxels = _inverse(adjoint(np.ones((*rays.shape, 1), np.float32))[:, :, 0]) * allowed
    slab = begin(start, projector.width, measured.shape[2], allowed)
    norms = np.maximum(slice_dots(measured, measured), np.finfo(float).tiny)
    progress, floor = Progress(recipe, measured.shape[2]), floor_of(recipe)
    for _ in range(recipe.iterations):
        projected = forward(slab)
        squares = weighted_misfit(measured, projected, rays, workers)
        if not progress.goes_on(np.sqrt(squares / norms)):
            break
        step(slab, adjoint(projected), voxels, progress.going, floor)
    return progress.result(slab, MadeBy("sirt", recipe.digest(), backend=projector.name))


def landweber(
    line_integrals: FloatArray, equations: NormalEquations, recipe: IterationRecipe, *, start: FloatArray | None = None
) -> Iterated:
    """Reconstruct by steepest descent with one step for all: x <- x + W' H (p - W x) / bound.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the geometry of the equations' projector.
    equations
        `ToeplitzEquations` or `ProjectedEquations`; their weighting is used, not the recipe's.
    recipe
        Steps, constraints and when to end.
    start
        Slices (row, y, x) to begin from; zeros when None.

    Returns
    -------
    Iterated
        Slices (row, width, width) in ``attenuation_per_um``.

    Raises
    ------
    IncompatibleError
        ``start`` has another shape.

    References
    ----------
    L. Landweber, "An iteration formula for Fredholm integral equations of the first kind", Am. J. Math. 73, 615 (1951),
    doi:10.2307/2372313.

    Examples
    --------
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
    >>> beam = ParallelBeam(np.pi * np.arange(40) / 40, columns=32, pixel_nm=100.0, rotation_axis_px=15.5)
    >>> projector = choose_projector("fourier", beam, 24)
    >>> block = np.zeros((1, 24, 24), np.float32)
    >>> block[0, 8:14, 10:16] = 0.05
    >>> sinograms = projector.forward(block)
    >>> made = landweber(sinograms, ToeplitzEquations(projector, "ramp"), IterationRecipe(iterations=20))
    >>> round(float(made.values[0, 9:13, 11:15].mean()), 3)
    0.05
    """
    projector = equations.projector
    right = equations.right_side(line_integrals)
    allowed = support(projector.beam, projector.width, recipe)
    slab = begin(start, projector.width, right.shape[2], allowed)
    sizes = allowed * np.float32(1 / equations.bound)
    misfit = misfit_of(line_integrals, equations, right)
    progress, floor = Progress(recipe, right.shape[2]), floor_of(recipe)
    for _ in range(recipe.iterations):
        applied = equations.apply(slab)
        if not progress.goes_on(misfit(slab, applied)):
            break
        np.subtract(right, applied, out=applied)
        step(slab, applied, sizes, progress.going, floor)
    return progress.result(slab, MadeBy("landweber", recipe.digest(), backend=projector.name))


def cgls(
    line_integrals: FloatArray, equations: NormalEquations, recipe: IterationRecipe, *, start: FloatArray | None = None
) -> Iterated:
    """Reconstruct by conjugate gradients on the normal equations.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the geometry of the equations' projector.
    equations
        `ToeplitzEquations` or `ProjectedEquations`; their weighting is used, not the recipe's.
    recipe
        Steps and when to end; ``non_negative`` is refused.
    start
        Slices (row, y, x) to begin from; zeros when None.

    Returns
    -------
    Iterated
        Slices (row, width, width) in ``attenuation_per_um``.

    Raises
    ------
    ParameterError
        ``recipe.non_negative`` is set.
    IncompatibleError
        ``start`` has another shape.

    References
    ----------
    M. R. Hestenes, E. Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. Natl Bur. Stand.
    49, 409 (1952), doi:10.6028/jres.049.044.

    Examples
    --------
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
    >>> beam = ParallelBeam(np.pi * np.arange(40) / 40, columns=32, pixel_nm=100.0, rotation_axis_px=15.5)
    >>> projector = choose_projector("fourier", beam, 24)
    >>> block = np.zeros((1, 24, 24), np.float32)
    >>> block[0, 8:14, 10:16] = 0.05
    >>> made = cgls(projector.forward(block), ToeplitzEquations(projector), IterationRecipe(iterations=20))
    >>> round(float(made.values[0, 9:13, 11:15].mean()), 3)
    0.05
    """
    if recipe.non_negative:
        raise ParameterError(
            "CGLS: got non_negative = true; raising values breaks the directions' conjugacy, and with it the "
            "iteration. Use landweber, sirt or tv."
        )
    projector = equations.projector
    right = equations.right_side(line_integrals)
    allowed = support(projector.beam, projector.width, recipe)
    slab = begin(start, projector.width, right.shape[2], allowed)
    misfit = misfit_of(line_integrals, equations, right)
    progress = Progress(recipe, right.shape[2])
    applied = equations.apply(slab)
    descent = (right - applied) * allowed[:, :, None]
    direction, power = descent.copy(), slice_dots(descent, descent)
    for _ in range(recipe.iterations):
        # What is left to gain is known without applying the operator to the slices again: right - descent.
        if not progress.goes_on(misfit(slab, right - descent)):
            break
        applied = equations.apply(direction) * allowed[:, :, None]
        length = _ratio(power, slice_dots(direction, applied)) * progress.going
        slab += length * direction
        descent -= length * applied
        before, power = power, slice_dots(descent, descent)
        direction *= _ratio(power, before)
        direction += descent
    return progress.result(slab, MadeBy("cgls", recipe.digest(), backend=projector.name))


def support(beam: ParallelBeam, width: int, recipe: IterationRecipe) -> FloatArray:
    """Return 1 where a voxel may differ from zero, else 0, (y, x).

    Examples
    --------
    >>> beam = ParallelBeam(np.zeros(1), columns=5, pixel_nm=10.0, rotation_axis_px=2.0)
    >>> int(support(beam, 5, IterationRecipe(support="disk")).sum())
    21
    """
    if recipe.support == "square":
        return np.ones((width, width), np.float32)
    axis = beam.known_axis_px() + np.asarray(beam.column_shift_px)
    # Half a pixel beyond the centres of the outermost columns is still seen.
    radius = 0.5 + min(float(axis.min()), beam.columns - 1 - float(axis.max()))
    place = np.arange(width) - (width - 1) / 2
    return np.asarray(np.hypot(*np.meshgrid(place, place)) <= radius, np.float32)


def begin(start: FloatArray | None, width: int, slices: int, allowed: FloatArray) -> FloatArray:
    """Return the slices (y, x, z) to begin from, zero where nothing is allowed."""
    if start is None:
        return np.zeros((width, width, slices), np.float32)
    if start.shape != (slices, width, width):
        raise IncompatibleError(
            f"iteration: got a start of shape {start.shape}; ({slices}, {width}, {width}) is what the data have. "
            "Reconstruct it with the same projector."
        )
    return slices_last(np.asarray(start, np.float32)) * allowed[:, :, None]


def floor_of(recipe: IterationRecipe) -> float:
    """Return the smallest value that a voxel may take."""
    return 0.0 if recipe.non_negative else -np.inf


def misfit_of(
    line_integrals: FloatArray, equations: NormalEquations, right: FloatArray
) -> Callable[[FloatArray, FloatArray], NDArray[np.float64]]:
    """Return the function (x, W' H W x) -> relative misfit of every slice.

    <p - W x, H (p - W x)> = <p, H p> - 2 <x, W' H p> + <x, W' H W x>, good to 1e-3 of the data in single precision.
    """
    norms = data_norms(line_integrals, equations.projector.beam, equations.weighting)

    def misfit(slab: FloatArray, applied: FloatArray) -> NDArray[np.float64]:
        squares = norms - 2 * slice_dots(slab, right) + slice_dots(slab, applied)
        return np.asarray(np.sqrt(np.maximum(squares, 0) / np.maximum(norms, np.finfo(float).tiny)), np.float64)

    return misfit


def _slices_last_pair(projector: Projector) -> tuple[Callable[[FloatArray], FloatArray], Callable[..., FloatArray]]:
    """Return forward and adjoint on arrays whose slice axis is last, the projector's own where it has them."""
    own: Any = projector
    if hasattr(projector, "forward_slices_last"):
        return own.forward_slices_last, own.adjoint_slices_last
    return (
        lambda slab: slices_last(projector.forward(slices_first(slab))),
        lambda sinograms: slices_last(projector.adjoint(slices_first(sinograms))),
    )


def _inverse(sums: FloatArray) -> FloatArray:
    met = sums > _SMALLEST_SUM * sums.max()
    return np.divide(1, sums, out=np.zeros_like(sums), where=met)


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> FloatArray:
    """Return a ratio of every slice; 0 where an empty slice has nothing left to do."""
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0).astype(np.float32)
