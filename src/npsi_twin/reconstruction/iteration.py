"""What iterations share: how they run, what they give, where they begin, and when a slice is finished.

Takes line integrals (row, view, column) and `NormalEquations`, gives the `Outset` of an iteration; `Progress` notes the
misfit of every slice before every step and finishes slices one by one, which keeps them independent of the slab they
came in. `iterative` and `total_variation` do the steps.

Early steps fit what is coarse, late ones the noise; so an iteration may end when a slice's misfit reaches what the
noise explains, or no longer falls. The misfit comes from W' H W x, which the step needs anyway, as

    <p - W x, H (p - W x)> = <p, H p> - 2 <x, W' H p> + <x, W' H W x>,

good to 1e-3 of the data in single precision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.reconstruction.normal_equations import NormalEquations, data_norms
from npsi_twin.reconstruction.slices import slice_dots, slices_first, slices_last
from npsi_twin.scan import ParallelBeam
from npsi_twin.volumes import FloatArray


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


class Outset(NamedTuple):
    """What every iteration on the normal equations begins with.

    Attributes
    ----------
    right
        W' H p, (y, x, z).
    allowed
        See `support`, (y, x).
    slab
        Slices to begin from, (y, x, z).
    misfit
        The function (x, W' H W x) -> relative misfit of every slice.
    progress
        Which slices go on: all.
    """

    right: FloatArray
    allowed: FloatArray
    slab: FloatArray
    misfit: Callable[[FloatArray, FloatArray], NDArray[np.float64]]
    progress: Progress


def set_out(
    line_integrals: FloatArray, equations: NormalEquations, recipe: IterationRecipe, start: FloatArray | None
) -> Outset:
    """Return what an iteration on the normal equations begins with."""
    projector, right = equations.projector, equations.right_side(line_integrals)
    allowed = support(projector.beam, projector.width, recipe)
    slab = begin(start, projector.width, right.shape[2], allowed)
    return Outset(right, allowed, slab, _misfit_of(line_integrals, equations, right), Progress(recipe, right.shape[2]))


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


def _misfit_of(
    line_integrals: FloatArray, equations: NormalEquations, right: FloatArray
) -> Callable[[FloatArray, FloatArray], NDArray[np.float64]]:
    """Return the function (x, W' H W x) -> relative misfit of every slice."""
    norms = data_norms(line_integrals, equations.projector.beam, equations.weighting)

    def misfit(slab: FloatArray, applied: FloatArray) -> NDArray[np.float64]:
        squares = norms - 2 * slice_dots(slab, right) + slice_dots(slab, applied)
        return np.asarray(np.sqrt(np.maximum(squares, 0) / np.maximum(norms, np.finfo(float).tiny)), np.float64)

    return misfit
