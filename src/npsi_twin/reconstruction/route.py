"""The measurement side's first flight of stairs: counts -> corrected -> without stripes -> axis -> attenuation.

Takes a `Scan`, real or simulated, gives a `Reconstruction`. What looks at the whole scan (rotation axis, filters,
whether the sample is cut by the field) is done once by `prepare`, on a few rows from the middle; with that `Plan`,
`reconstruct` is a pure function of any slab of rows, so slabs may be worked on anywhere and in any order. `morphology`
takes the volume from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from npsi_twin.errors import IncompatibleError, MissingBackendError, ParameterError
from npsi_twin.projectors.choice import BAND_LIMITED, ProjectorName, choose_projector
from npsi_twin.projectors.contract import Projector
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.reconstruction.algorithms import extend, fbp, sirt_fbp
from npsi_twin.reconstruction.alignment import AxisMethod
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import CorrectionCounts, correct, illumination_of
from npsi_twin.reconstruction.filters import sirt_fbp_taps
from npsi_twin.reconstruction.fitness import judge_counts, judge_views
from npsi_twin.reconstruction.illumination import Illumination
from npsi_twin.reconstruction.iteration import Iterated, IterationRecipe
from npsi_twin.reconstruction.iterative import cgls, landweber, sirt
from npsi_twin.reconstruction.normal_equations import NormalEquations, ProjectedEquations
from npsi_twin.reconstruction.placement import find_placement
from npsi_twin.reconstruction.reprojection import Alignment, AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.rotation import RotationAxis, is_truncated
from npsi_twin.reconstruction.row_shifts import halo_rows
from npsi_twin.reconstruction.straightening import judged_already, straight_lines
from npsi_twin.reconstruction.tilt import AxisTilt
from npsi_twin.reconstruction.toeplitz import ToeplitzEquations
from npsi_twin.reconstruction.tomopy_route import reconstruct_by_tomopy, require_tomopy
from npsi_twin.reconstruction.total_variation import total_variation
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.volumes import FloatArray, Volume

Route = Literal["auto", "fourier", "rays", "nufft", "cufinufft", "astra", "astra-cpu", "astra-cuda", "tomopy"]


class ReconstructionRecipe(Recipe):
    """How counts become a volume of attenuation."""

    corrections: CorrectionRecipe = Field(default=CorrectionRecipe(), description="counts to line integrals")
    rings: RingRecipe = Field(default=RingRecipe(), description="stripe removal")
    alignment: AlignmentRecipe = Field(
        default=AlignmentRecipe(), description="views aligned, and the axis straightened"
    )
    algorithm: Literal["sirt-fbp", "fbp", "sirt", "landweber", "cgls", "tv"] = parameter(
        "sirt-fbp",
        "filtered backprojection (sirt-fbp, fbp), or iterations: sirt, least squares by landweber or cgls, and tv",
        source="stated: filters as used at 32-ID (Pelt & De Andrade 2016)",
    )
    sirt_iterations: int = parameter(
        200,
        "SIRT iterations that the SIRT-FBP filters stand for",
        source="inferred: published examples use 200, beamline scripts 50 to 150",
        ge=1,
        le=100_000,
    )
    iteration: IterationRecipe = Field(default=IterationRecipe(), description="how iterations run, where there are any")
    tv_strength_per_um: float = parameter(
        1e-3,
        "weight of the total variation: ripples of this height from voxel to voxel go, for tv",
        unit="1/um",
        source="assumed: a fiftieth of copper's attenuation",
        gt=0,
        le=1000,
    )
    route: Route = parameter(
        "auto",
        "who projects: our Fourier gridding, our rays, finufft, cufinufft, or ASTRA (on the GPU where there is one); "
        "tomopy is the experiment's own sequence from counts to slices",
        source="assumed: auto takes the fastest exact one; rays for sirt",
    )
    rotation_axis_px: float | None = parameter(
        None, "column of the rotation axis, 0 the centre of the first; none finds it", unit="pixels", source="inferred"
    )
    axis_method: AxisMethod = parameter(
        "auto",
        "how the axis is found: double wedge, opposite views, or entropy of the slices",
        source="assumed: auto takes opposite views where a full turn has an odd number of them, else the wedge",
    )
    field_edges: Literal["auto", "zero", "extend"] = parameter(
        "auto",
        "what lies beyond the field: nothing, or each view's outermost value; auto extends where the sample is cut",
        source="assumed",
    )
    width_px: int | None = parameter(
        None, "side of a slice; none takes the number of columns", unit="pixels", source="inferred", ge=1, le=65_536
    )


#: TomoPy's names of the algorithms that its route has.
_BY_TOMOPY: dict[str, Literal["gridrec", "sirt-fbp", "sirt"]] = {
    "sirt-fbp": "sirt-fbp", "fbp": "gridrec", "sirt": "sirt",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is found once for a scan and shared by all its slabs.

    Attributes
    ----------
    axis
        Rotation axis.
    taps
        SIRT-FBP filters, (views, taps), 1/um**2, or None for FBP.
    projector
        The projector that ``route`` became, or ``"tomopy"``.
    extension_px
        Columns by which sinograms are continued, or slices made wider, at either end.
    illumination
        The beam of every view, where it is not the mean flat.
    alignment
        Shifts of the views, where they were asked for.
    tilt
        Lean of the axis, where it was asked for.
    """

    axis: RotationAxis
    taps: FloatArray | None
    projector: ProjectorName | Literal["tomopy"]
    extension_px: int
    illumination: Illumination | None = None
    alignment: Alignment | None = None
    tilt: AxisTilt | None = None

    @property
    def halo_rows(self) -> int:
        """Neighbouring rows that a slab needs on either side, where views moved along the axis."""
        return 0 if self.alignment is None else halo_rows(self.alignment.row_shift_px)

    def geometry(self, beam: ParallelBeam) -> ParallelBeam:
        """Return the scan's geometry with the axis and the shifts that were found."""
        known = beam.with_axis(self.axis.px)
        if self.alignment is None:
            return known
        shift = np.asarray(beam.column_shift_px) + self.alignment.column_shift_px
        return replace(known, column_shift_px=shift)


@dataclass(frozen=True)
class Reconstruction:
    """Attenuation of some rows of a scan.

    Attributes
    ----------
    volume
        ``attenuation_per_um``, (row, y, x), the rotation axis at the centre of every slice.
    first_row
        Detector row of ``volume.values[0]``.
    axis
        Rotation axis that was used.
    counts
        What the corrections met in these rows.
    removed_rms
        Root mean square of what stripe removal took from each row's line integrals, (row,).
    made_by
        Provenance; the backend is the projector's name.
    misfit
        What iterations left unexplained before every step, (step, row), see `Iterated`; no steps for filtered
        backprojection.
    removed_mean
        What stripe removal took, mean over the views, (row, column): a picture of the detector's faults, and of what
        of the sample was taken for one.
    """

    volume: Volume
    first_row: int
    axis: RotationAxis
    counts: CorrectionCounts
    removed_rms: NDArray[np.float64]
    made_by: MadeBy
    misfit: NDArray[np.float64]
    removed_mean: FloatArray

    def __post_init__(self) -> None:
        for name in ("removed_rms", "misfit", "removed_mean"):
            frozen = getattr(self, name).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)


def prepare(
    scan: Scan,
    recipe: ReconstructionRecipe,
    *,
    axis: RotationAxis | float | None = None,
    spread: Sequence[Scan] = (),
    cache: Path | None = None,
    threads: int | None = None,
) -> Plan:
    """Do once what concerns the whole scan: beam, axis, alignment, filters, and which projector it is.

    Parameters
    ----------
    scan
        A few rows from the middle of the scan, with sample in them.
    recipe
        As for `reconstruct`.
    axis
        Rotation axis where it is known; comes before the recipe's and the scan's own.
    spread
        Groups of rows from all over the detector, for the tilt of the axis; the rows of ``scan`` when empty.
    cache
        Folder for SIRT-FBP filters; see `npsi_twin.reconstruction.filters.default_cache`.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    Plan
        For `reconstruct`, the same for all slabs.

    Raises
    ------
    MissingBackendError
        ASTRA on a GPU, or TomoPy, was asked for and is not to be had.
    ParameterError
        The axis lies outside the detector, SIRT was asked of a projector that follows no rays, or TomoPy for what its
        sequence does not do.
    DataError, NotConvergedError
        See `correct` and `find_rotation_axis`.

    Warns
    -----
    OutOfRangeWarning
        See `judge_counts` and `judge_views`.
    """
    if recipe.route == "tomopy":
        _accept_for_tomopy(recipe)
    illumination = illumination_of(scan, recipe.corrections)
    corrected = correct(scan, recipe.corrections, illumination=illumination)
    judge_counts(scan, corrected, recipe.corrections)
    judge_views(scan.beam, recipe.width_px)
    told = axis if axis is not None else recipe.rotation_axis_px
    judged = judged_already(recipe.corrections)
    found = find_placement(
        corrected,
        recipe.alignment,
        told=scan.beam.rotation_axis_px if told is None else told,
        method=recipe.axis_method,
        spread=[correct(group, judged, illumination=illumination) for group in spread],
        threads=threads,
    )
    px = found.axis.px
    if not 0 <= px <= scan.beam.columns - 1:
        raise ParameterError(
            f"rotation axis: got column {px}; the detector has columns 0 to {scan.beam.columns - 1}, and an axis "
            "beyond them leaves half of every slice unseen. Give rotation_axis_px in pixels, or leave it out."
        )
    cut = recipe.field_edges == "extend" or (recipe.field_edges == "auto" and is_truncated(corrected.line_integrals))
    taps = None
    if recipe.algorithm == "sirt-fbp":
        taps = sirt_fbp_taps(scan.beam, recipe.sirt_iterations, cache=cache, threads=threads)
    name = _projector_name(recipe, scan.beam.with_axis(px), threads)
    extension = scan.beam.columns // 2 if cut else 0
    return Plan(found.axis, taps, name, extension, illumination, found.alignment, found.tilt)


def reconstruct(
    scan: Scan,
    recipe: ReconstructionRecipe,
    *,
    plan: Plan | None = None,
    axis: RotationAxis | float | None = None,
    rows: range | None = None,
    cache: Path | None = None,
    threads: int | None = None,
) -> Reconstruction:
    """Reconstruct the rows of a scan.

    Parameters
    ----------
    scan
        Any rows, real or simulated.
    recipe
        What to do.
    plan
        From `prepare`; made from these rows when None.
    axis
        Rotation axis for a plan made here; not together with ``plan``.
    rows
        Detector rows to reconstruct; all of the scan's when None. Where the plan has `Plan.halo_rows`, the scan must
        hold that many more on either side, as far as the detector has them: then any cut into slabs gives the same.
    cache
        Folder for SIRT-FBP filters, for a plan made here.
    threads
        Threads; all when None. The result does not depend on them.

    Returns
    -------
    Reconstruction
        ``attenuation_per_um`` (row, y, x) and how it came about.

    Raises
    ------
    ParameterError
        Both plan and axis are given.
    IncompatibleError
        The plan was made for another geometry or algorithm, or the scan lacks the rows.
    DataError
        See `correct`.

    Examples
    --------
    >>> import numpy as np
    >>> beam = ParallelBeam(np.pi * np.arange(90) / 90, columns=65, pixel_nm=50.0)
    >>> place = 30.3 + 12 * np.cos(beam.angles_rad[:, None])
    >>> line_integral = np.exp(-(((np.arange(65) - place) / 4) ** 2))[:, None]
    >>> ones = np.ones((1, 1, 65))
    >>> scan = Scan(1000 * np.exp(-line_integral), 1000 * ones, 0 * ones, beam)
    >>> made = reconstruct(scan, ReconstructionRecipe(algorithm="fbp", rings=RingRecipe(method="none")))
    >>> made.volume.values.shape, round(made.axis.px, 1), made.made_by.backend
    ((1, 65, 65), 30.3, 'fourier')
    >>> [int(i) for i in np.unravel_index(made.volume.values.argmax(), made.volume.values.shape)]
    [0, 32, 44]
    """
    if plan is not None and axis is not None:
        raise ParameterError("reconstruct: got both a plan and an axis; the plan holds the axis. Give one of them.")
    if plan is None:
        plan = prepare(scan, recipe, axis=axis, cache=cache, threads=threads)
    needs_taps = recipe.algorithm == "sirt-fbp"
    if needs_taps != (plan.taps is not None) or (plan.taps is not None and len(plan.taps) != scan.beam.views):
        raise IncompatibleError(
            f"reconstruct: the plan does not belong to a scan of {scan.beam.views} views by {recipe.algorithm}. "
            "Make it with `prepare` from this scan and this recipe."
        )
    held = range(scan.first_row, scan.first_row + scan.rows)
    kept = held if rows is None else rows
    if plan.projector == "tomopy":
        return _by_tomopy(scan, kept, recipe, plan)
    made = straight_lines(
        scan,
        kept,
        recipe.corrections,
        recipe.rings,
        illumination=plan.illumination,
        tilt=plan.tilt,
        row_shift_px=None if plan.alignment is None else plan.alignment.row_shift_px,
        threads=threads,
    )
    beam, width = plan.geometry(scan.beam), recipe.width_px or scan.beam.columns
    misfit = np.empty((0, len(kept)))
    if recipe.algorithm in ("sirt-fbp", "fbp"):
        lines, wide = extend(made.line_integrals, beam, plan.extension_px)
        projector = choose_projector(plan.projector, wide, width, threads=threads)
        values = fbp(lines, projector) if plan.taps is None else sirt_fbp(lines, projector, plan.taps)
    else:
        # What a cut sample has beyond the field is left to the iteration to find: data are not continued.
        projector = choose_projector(plan.projector, beam, width + 2 * plan.extension_px, threads=threads)
        iterated = _iterate(made.line_integrals, projector, recipe, plan.extension_px, threads)
        inside = slice(plan.extension_px, plan.extension_px + width)
        values, misfit = iterated.values[:, inside, inside], iterated.misfit
    return Reconstruction(
        Volume(values, scan.beam.pixel_nm),
        kept.start,
        plan.axis,
        made.counts,
        made.removed_rms,
        MadeBy("reconstruct", recipe.digest(), backend=projector.name),
        misfit,
        made.removed_mean,
    )


def _accept_for_tomopy(recipe: ReconstructionRecipe) -> None:
    """Refuse what the experiment's sequence of calls does not do."""
    require_tomopy()
    asked = {
        f"algorithm = {recipe.algorithm!r}": recipe.algorithm not in _BY_TOMOPY,
        "alignment": recipe.alignment.method != "none" or recipe.alignment.tilt != "none",
        "width_px": recipe.width_px is not None,
        "field_edges = 'extend'": recipe.field_edges == "extend",
        # What it does to counts and stripes is its own; a setting of ours would be ignored.
        "corrections": recipe.corrections != CorrectionRecipe(),
        "rings": recipe.rings != RingRecipe(),
    }
    if refused := [name for name, wanted in asked.items() if wanted]:
        raise ParameterError(
            f"route 'tomopy': got {', '.join(refused)}; the experiment's sequence (normalise, logarithm, "
            f"wavelet-Fourier stripe removal, {' or '.join(_BY_TOMOPY)}) has no such step. Leave it out, or use route "
            "'fourier'."
        )


def _by_tomopy(scan: Scan, rows: range, recipe: ReconstructionRecipe, plan: Plan) -> Reconstruction:
    iterations = recipe.iteration.iterations if recipe.algorithm == "sirt" else recipe.sirt_iterations
    made = reconstruct_by_tomopy(scan.only(rows), plan.axis.px, _BY_TOMOPY[recipe.algorithm], iterations=iterations)
    return Reconstruction(
        made.volume,
        rows.start,
        plan.axis,
        CorrectionCounts(bad_pixels=0, clipped=made.clipped, saturated=0),
        made.removed_rms,
        MadeBy("reconstruct", recipe.digest(), backend=made.made_by.backend),
        np.empty((0, len(rows))),
        made.removed_mean,
    )


def _iterate(
    lines: FloatArray, projector: Projector, recipe: ReconstructionRecipe, extension_px: int, threads: int | None
) -> Iterated:
    """Run the recipe's iteration; where the sample is cut, and slices are wider, W' W is no convolution."""
    steps = recipe.iteration
    if recipe.algorithm == "sirt":
        return sirt(lines, projector, steps, threads=threads)
    equations: NormalEquations
    if projector.name in BAND_LIMITED and not extension_px:
        equations = ToeplitzEquations(projector, steps.weighting, threads=threads)
    else:
        equations = ProjectedEquations(projector, steps.weighting)
    if recipe.algorithm == "landweber":
        return landweber(lines, equations, steps)
    if recipe.algorithm == "cgls":
        return cgls(lines, equations, steps)
    continued, wide = extend(lines, projector.beam, extension_px)
    start = fbp(continued, choose_projector("fourier", wide, projector.width, threads=threads))
    return total_variation(lines, equations, steps, recipe.tv_strength_per_um, start=start, threads=threads)


def _projector_name(
    recipe: ReconstructionRecipe, beam: ParallelBeam, threads: int | None
) -> ProjectorName | Literal["tomopy"]:
    """Return the projector that the recipe's route becomes here, or raise MissingBackendError."""
    if recipe.route == "tomopy":
        return recipe.route

    def made(name: ProjectorName) -> Projector:
        return choose_projector(name, beam, 1, threads=threads)

    match recipe.route:
        case "auto":
            taken: str = made("rays" if recipe.algorithm == "sirt" else "auto").name
        case "astra":
            try:
                taken = made("astra-cuda").name
            except MissingBackendError:
                taken = made("astra-cpu").name
        case _:
            taken = made(recipe.route).name
    if recipe.algorithm == "sirt" and taken in BAND_LIMITED:
        raise ParameterError(
            f"route: got {recipe.route!r} for algorithm 'sirt'; SIRT divides by sums over rays, which are positive "
            "only where rays are followed. Give route = 'rays' or 'astra', or algorithm = 'landweber'."
        )
    known: tuple[ProjectorName, ...] = ("fourier", "rays", "nufft", "cufinufft", "astra-cpu", "astra-cuda")
    return next(name for name in known if name == taken)
