"""Reconstruction with total variation: the flattest slice that explains the data.

Takes line integrals (row, view, column) and `NormalEquations`; gives `Iterated`. With e the eigenvalue of W' H W at the
detector's highest frequency (`finest_eigenvalue`), the slice minimises

    <p - W x, H (p - W x)> / (2 e)  +  strength sum over voxels |grad x|,      x >= 0 and x = 0 outside the support,

|grad x| being the length of the differences to the next voxel in x and y. The strength is an attenuation: a step whose
height is well above it stays, a ripple from voxel to voxel below it goes. With H = ramp the first term is nearly half
the squared distance from filtered backprojection (denoising); with H = 1 coarse frequencies count for more, as much as
their noise is smaller, which is maximum likelihood for noise that is the same everywhere.

The iteration is primal-dual (Condat 2013, in the metric of a preconditioner T): u is the dual field of the differences
D x, |u| <= strength, v that of the constraints,

    x <- x - T (W' H (W x - p) / e + D' u + v),
    u <- Q (u + sigma D (2 x_new - x_old)),      v <- R (v + sigma (2 x_new - x_old)),

Q and R the projections on what the fields may be. It converges for T^-1 >= W' H W / (2 e) + sigma (D' D + 1). T is the
convolution whose spectrum is the inverse of an envelope of W' H W / e, plus 9 sigma: smooth, above the spectrum
everywhere, and twice what the first term needs, because a slice has ends and frequencies mix there. Fine detail then
moves as fast as coarse, whatever H is. The iteration begins from what the caller gives, best from filtered
backprojection. Slices are flattened one by one, not across rows, so that a slab may be cut anywhere.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.errors import ParameterError
from npsi_twin.projectors.contract import accepted_threads, for_each_slice
from npsi_twin.recipes import MadeBy
from npsi_twin.reconstruction.iteration import Iterated, IterationRecipe, floor_of, set_out
from npsi_twin.reconstruction.normal_equations import NormalEquations, Weighting, finest_eigenvalue, weights_of
from npsi_twin.reconstruction.toeplitz import SliceConvolution, normal_spectrum
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray

#: Bound of the squared norm of forward differences in two directions and of the identity, together.
_FIELDS_BOUND = 9.0
#: Step of the dual fields; the data term's curvature is 1 at the finest detail and more elsewhere.
_SIGMA = 1.0
_ROWS_AT_ONCE = 16


def total_variation(
    line_integrals: FloatArray,
    equations: NormalEquations,
    recipe: IterationRecipe,
    strength_per_um: float,
    *,
    start: FloatArray | None = None,
    threads: int | None = None,
) -> Iterated:
    """Reconstruct with total variation.

    Parameters
    ----------
    line_integrals
        (row, view, column), dimensionless, in the geometry of the equations' projector.
    equations
        `ToeplitzEquations` or `ProjectedEquations`; their weighting is used, not the recipe's.
    recipe
        Steps, constraints and when to end.
    strength_per_um
        Weight of the variation, 1/um, positive; about the noise of a voxel.
    start
        Slices (row, y, x) to begin from, best filtered backprojection; zeros when None.
    threads
        Threads between projections; all when None. The result does not depend on them.

    Returns
    -------
    Iterated
        Slices (row, width, width) in ``attenuation_per_um``.

    Raises
    ------
    ParameterError
        The strength is not positive.
    IncompatibleError
        ``start`` has another shape.

    References
    ----------
    L. I. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 60, 259
    (1992), doi:10.1016/0167-2789(92)90242-F. L. Condat, "A primal-dual splitting method for convex optimization
    involving Lipschitzian, proximable and linear composite terms", J. Optim. Theory Appl. 158, 460 (2013),
    doi:10.1007/s10957-012-0245-9, algorithm 3.1.

    Examples
    --------
    >>> from npsi_twin.projectors.choice import choose_projector
    >>> from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
    >>> from npsi_twin.scan import ParallelBeam
    >>> beam = ParallelBeam(np.pi * np.arange(40) / 40, columns=32, pixel_nm=100.0, rotation_axis_px=15.5)
    >>> projector = choose_projector("fourier", beam, 24)
    >>> block = np.zeros((1, 24, 24), np.float32)
    >>> block[0, 8:14, 10:16] = 0.05
    >>> equations = ToeplitzEquations(projector, "ramp")
    >>> made = total_variation(projector.forward(block), equations, IterationRecipe(iterations=50), 1e-4)
    >>> round(float(made.values[0, 9:13, 11:15].mean()), 2)
    0.05
    """
    if not strength_per_um > 0:
        raise ParameterError(
            f"total variation: got a strength of {strength_per_um} 1/um; it must be positive, because without it this "
            "is least squares. Use landweber or cgls for that."
        )
    projector, workers = equations.projector, accepted_threads("total variation", threads)
    right, allowed, slab, misfit, progress = set_out(line_integrals, equations, recipe, start)
    beam, weighting = projector.beam, equations.weighting
    scale = 1 / finest_eigenvalue(beam, weighting)
    precondition = SliceConvolution(
        projector.width, 1 / (_envelope(beam, projector.width, weighting) + _FIELDS_BOUND * _SIGMA), threads=threads
    )
    fields = np.zeros((3, *slab.shape), np.float32)
    ahead = np.empty_like(slab)
    parts = -(-projector.width // _ROWS_AT_ONCE)
    for _ in range(recipe.iterations):
        applied = equations.apply(slab)
        if not progress.goes_on(misfit(slab, applied)):
            break
        going = progress.going
        pull = partial(_pull, applied, right, np.float32(scale), fields)
        move = partial(_move, slab, ahead, going)
        flatten = partial(_flatten, ahead, fields, np.float32(strength_per_um), allowed, recipe.non_negative, going)
        for_each_slice(partial(_some_rows, pull, projector.width), parts, workers)
        direction = precondition(applied)
        for_each_slice(partial(_some_rows, partial(move, direction), projector.width), parts, workers)
        for_each_slice(partial(_some_rows, flatten, projector.width), parts, workers)
    # The constraints' field has them met but for what is left to converge.
    slab *= allowed[:, :, None]
    np.maximum(slab, np.float32(floor_of(recipe)), out=slab)
    return progress.result(slab, MadeBy("total_variation", recipe.digest(), backend=projector.name))


def _envelope(beam: ParallelBeam, width: int, weighting: Weighting) -> NDArray[np.float64]:
    """Return a smooth bound of the normal operator's spectrum over its finest eigenvalue, (kx >= 0, ky).

    Views that are dense make it 1 / (2 nu), or 1 with the ramp; where neighbouring views are farther apart than the
    slice resolves, pi nu width / views cycles a width, their lines stand out by that factor.
    """
    shares = weights_of(beam, weighting)[1]
    spectrum = normal_spectrum(beam, width, weighting == "ramp", shares) / finest_eigenvalue(beam, weighting)
    size = spectrum.shape[1]
    nu = np.maximum(np.hypot(np.fft.rfftfreq(size)[:, None], np.fft.fftfreq(size)), 1 / size)
    dense = np.ones_like(nu) if weighting == "ramp" else 0.5 / nu
    envelope = dense * np.maximum(1, np.pi * nu * width / beam.views)
    return np.asarray(envelope * max(1.0, float((spectrum / envelope).max())), np.float64)


def _some_rows(work: Callable[..., None], rows: int, part: int) -> None:
    work(part * _ROWS_AT_ONCE, min((part + 1) * _ROWS_AT_ONCE, rows))


@njit(cache=True, nogil=True)
def _pull(applied: FloatArray, right: FloatArray, scale: np.float32, fields: FloatArray, first: int, last: int) -> None:
    """Turn W' H W x into the slope of all terms, in rows of slices (y, x, z)."""
    for i in range(first, last):
        for j in range(applied.shape[1]):
            for z in range(applied.shape[2]):
                pull = fields[2, i, j, z] - fields[0, i, j, z] - fields[1, i, j, z]
                if i > 0:
                    pull += fields[0, i - 1, j, z]
                if j > 0:
                    pull += fields[1, i, j - 1, z]
                applied[i, j, z] = scale * (applied[i, j, z] - right[i, j, z]) + pull


@njit(cache=True, nogil=True)
def _move(slab: FloatArray, ahead: FloatArray, going: FloatArray, direction: FloatArray, first: int, last: int) -> None:
    """Step rows of slices downhill and note where twice the step would have led."""
    for i in range(first, last):
        for j in range(slab.shape[1]):
            for z in range(slab.shape[2]):
                old = slab[i, j, z]
                new = old - going[z] * direction[i, j, z]
                slab[i, j, z] = new
                ahead[i, j, z] = new + new - old


@njit(cache=True, nogil=True)
def _flatten(
    ahead: FloatArray,
    fields: FloatArray,
    strength: np.float32,
    allowed: FloatArray,
    non_negative: bool,
    going: FloatArray,
    first: int,
    last: int,
) -> None:
    """Move the dual fields and bring them back to what they may be; the last differences are none."""
    height, width, slices = ahead.shape
    sigma, zero = np.float32(_SIGMA), np.float32(0)
    for i in range(first, last):
        for j in range(width):
            for z in range(slices):
                if going[z] == 0:
                    continue
                here = ahead[i, j, z]
                down, right = fields[0, i, j, z], fields[1, i, j, z]
                if i + 1 < height:
                    down += sigma * (ahead[i + 1, j, z] - here)
                if j + 1 < width:
                    right += sigma * (ahead[i, j + 1, z] - here)
                length = np.sqrt(down * down + right * right)
                if length > strength:
                    down *= strength / length
                    right *= strength / length
                fields[0, i, j, z], fields[1, i, j, z] = down, right
                bound = fields[2, i, j, z] + sigma * here
                if allowed[i, j] != 0:
                    bound = min(bound, zero) if non_negative else zero
                fields[2, i, j, z] = bound
