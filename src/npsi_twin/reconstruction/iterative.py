"""Reconstruction by iteration: SIRT, Landweber, conjugate gradients.

Takes line integrals (row, view, column) and a `Projector` or its `NormalEquations`; gives `Iterated`: slices in
``attenuation_per_um`` and how well they explained the data at every step. With p the data and W the projector,

    SIRT:       x <- x + C W' R (p - W x),    R = 1 / (W 1), C = 1 / (W' 1)     one weight a ray, one a voxel
    Landweber:  x <- x + W' H (p - W x) / bound                                 one weight a frequency
    CGLS:       conjugate gradients on W' H W x = W' H p

SIRT's sums must be positive, so it takes a projector that meets voxels by rays. Landweber and CGLS take any, and where
the projector is band-limited the operator is a convolution (`npsi_twin.reconstruction.toeplitz`). H = ramp is the
preconditioned variant of both (`npsi_twin.reconstruction.normal_equations`).

`iteration` has how they run and when they end. A sample that reaches out of the field needs slices wider than the
detector, to hold what the data saw of the rest.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.choice import BAND_LIMITED
from npsi_twin.projectors.contract import Projector, accepted_sinograms, accepted_threads
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.iteration import Iterated, IterationRecipe, Progress, begin, floor_of, set_out, support
from npsi_twin.reconstruction.normal_equations import NormalEquations
from npsi_twin.reconstruction.slices import slice_dots, slices_first, slices_last, step, weighted_misfit
from npsi_twin.volumes import FloatArray

#: Sums of a ray or a voxel below this share of the largest are met by rounding only; such rays and voxels rest.
_SMALLEST_SUM = 1e-4


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
    >>> from npsi_twin.scan import ParallelBeam
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
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.pi * np.arange(40) / 40, columns=32, pixel_nm=100.0, rotation_axis_px=15.5)
    >>> projector = choose_projector("fourier", beam, 24)
    >>> block = np.zeros((1, 24, 24), np.float32)
    >>> block[0, 8:14, 10:16] = 0.05
    >>> sinograms = projector.forward(block)
    >>> made = landweber(sinograms, ToeplitzEquations(projector, "ramp"), IterationRecipe(iterations=20))
    >>> round(float(made.values[0, 9:13, 11:15].mean()), 3)
    0.05
    """
    right, allowed, slab, misfit, progress = set_out(line_integrals, equations, recipe, start)
    sizes, floor = allowed * np.float32(1 / equations.bound), floor_of(recipe)
    for _ in range(recipe.iterations):
        applied = equations.apply(slab)
        if not progress.goes_on(misfit(slab, applied)):
            break
        np.subtract(right, applied, out=applied)
        step(slab, applied, sizes, progress.going, floor)
    return progress.result(slab, MadeBy("landweber", recipe.digest(), backend=equations.projector.name))


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
    >>> from npsi_twin.scan import ParallelBeam
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
    right, allowed, slab, misfit, progress = set_out(line_integrals, equations, recipe, start)
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
    return progress.result(slab, MadeBy("cgls", recipe.digest(), backend=equations.projector.name))


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
