"""The road from a scene to its numbers with some of its steps made ideal: what every switch of an error budget does.

`Specification`, the switches that are on -> a `Chain`, all that the numbers then depend on; a `Chain`, a seed ->
`Measurements`. With all switches on it is the road of `npsi-twin run`, to the byte. What *off* means:

* ``voxel_size``: the truth is measured directly, on voxels a few times finer than the detector's pixels, each labelled
  with what fills half of it. Nothing else has a meaning before it is on; then the same is done on the pixel's grid.
* ``threshold``: labels are those of the partial-volume truth, silicon where half of a voxel is silicon (bismuth
  included) and foil where half is foil. On: the specification's segmentation, foil finding and all, of the attenuation.
* ``smoothing``: no filter before the threshold. Needs ``threshold``.
* ``reconstruction``: the attenuation is the truth's, averaged over the voxels. On: an ideal microscope scans the scene
  and the specification's algorithm reconstructs it. Needs ``threshold``, and lets in what follows:
* ``optics``: an ideal transfer, no diffraction, defocus, phase, stray light nor blur of scintillator and lens; pixels
  still average over their area.
* ``photons``: the counts are their own means, `npsi_twin.txm.noise_free`: no photon, dark and read noise, no rounding
  to counts, no zingers; flats and darks are as clean.
* ``views``: as many as pi / 2 times the columns, at least twice as many as asked for, over the full half-turn with
  nothing in the way; the photons of the whole scan stay as many, so that noise does not change with it.
* ``rings_and_drift``: pixels that are all alike and stay so, a smooth and steady beam, and no filter against stripes:
  the artefact and its remedy are one switch, since nobody would filter what has no stripes.
* ``alignment``: the sample turns as the file says, without run-out, drift, creep or lean, about an axis that is told:
  what shifts and an axis that are known exactly would give, without the blur of taking shifts back.

Motion and its remedy are one switch for the same reason. Every replicate is a specimen, a camera and a noise of its
own. The axis is looked for in rows from the middle, as a run does. All of a chain is held in memory (`chain_bytes`).
"""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from types import MappingProxyType

import numpy as np

from npsi_twin.comparison.error_budget import Coalition
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.errors import ParameterError
from npsi_twin.execution import threads
from npsi_twin.morphology.measure import Measurements, measure
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, parse_values
from npsi_twin.stages import fine_parts, make_electrode, rows_looked_at, truth_grid
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.contrast import contrast
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe, expose, project, simulation_grid
from npsi_twin.txm.noise_free import noise_free_scan
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.stage import StageRecipe
from npsi_twin.volumes import FloatArray, Phase, Volume, VoxelGrid

#: Switch -> what must be on before it, in the order of the road.
SWITCHES = MappingProxyType(
    {
        "voxel_size": (),
        "optics": ("reconstruction",),
        "photons": ("reconstruction",),
        "views": ("reconstruction",),
        "rings_and_drift": ("reconstruction",),
        "alignment": ("reconstruction",),
        "reconstruction": ("threshold",),
        "smoothing": ("threshold",),
        "threshold": ("voxel_size",),
    }
)
#: Python and its libraries, compiled kernels included.
_PROCESS_BYTES = 4e8
#: Pixels' faults that change the mean of counts, all of them off.
_ALIKE = {
    "photo_response_spread": 0.0,
    "gain_drift_spread": 0.0,
    "dead_pixel_fraction": 0.0,
    "hot_pixel_fraction": 0.0,
    "drifting_pixel_fraction": 0.0,
}
#: What of the stage is no motion of the sample.
_STILL = (
    "views", "angle_range_deg", "include_last", "axis_offset_px", "fly_scan_fraction", "fly_scan_samples",
    "blocked_from_deg", "blocked_to_deg",
)  # fmt: skip
_SHAPE_OF_BEAM = ("fwhm_um", "centre_column_um", "centre_row_um", "frame_s")


@dataclass(frozen=True)
class Chain:
    """What the numbers depend on, and nothing else, so that coalitions of one meaning have one chain.

    Attributes
    ----------
    specification
        Electrode, measurement and projector, and of what follows only what is used.
    voxel_nm
        Edge of the voxels on which is measured.
    segmentation
        None where labels are those of the partial-volume truth.
    microscope, reconstruction
        None where the attenuation is the truth's.
    noise_free
        Whether counts are their means.
    """

    specification: Specification
    voxel_nm: float
    segmentation: SegmentationRecipe | None = None
    microscope: MicroscopeRecipe | None = None
    reconstruction: ReconstructionRecipe | None = None
    noise_free: bool = False

    def key(self, seed: int) -> str:
        """Say in a few letters what a replicate's numbers were made from."""
        recipes = [
            None if recipe is None else recipe.digest()
            for recipe in (
                self.specification.electrode,
                self.specification.ageing,
                self.specification.measurement,
                self.segmentation,
                self.microscope,
                self.reconstruction,
            )
        ]
        grid, energy = truth_grid(self.specification), self.specification.microscope.energy_kev
        told = [recipes, self.noise_free, self.voxel_nm, grid.shape, grid.voxel_nm, energy, seed]
        told += [self.specification.execution.projector, version("npsi-twin")]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def chain_of(specification: Specification, on: Coalition, *, truth_refinement: int = 2) -> Chain:
    """Return the chain in which some switches are on.

    Parameters
    ----------
    specification
        The road with everything on.
    on
        Names of switches.
    truth_refinement
        How many times finer the voxels are on which the truth is measured, at least 2.

    Raises
    ------
    ParameterError
        A switch is not known, or means nothing without another one that is off.

    Examples
    --------
    >>> chain = chain_of(Specification(), frozenset({"voxel_size", "threshold"}))
    >>> chain.segmentation.smoothing_sigma_voxels, chain.microscope
    (0.0, None)
    """
    for name in sorted(on):
        if name not in SWITCHES or not on.issuperset(SWITCHES[name]):
            needs = "it is not known" if name not in SWITCHES else f"it needs {', '.join(SWITCHES[name])}"
            raise ParameterError(
                f"switch {name!r}: {needs}; switches are {', '.join(SWITCHES)}, and a later step of the road has no "
                "meaning while an earlier one is ideal. Turn on what it needs, or leave it out."
            )
    pixel_nm = specification.microscope.detector.pixel_nm
    if "voxel_size" not in on:
        return Chain(specification, pixel_nm / truth_refinement)
    chain = Chain(specification, pixel_nm)
    if "threshold" in on:
        plain = {"smoothing": "gaussian", "smoothing_sigma_voxels": 0.0}
        recipe = specification.segmentation
        changed = parse_values(recipe, {} if "smoothing" in on else plain, "segmentation")
        chain = replace(chain, segmentation=changed)
    if "reconstruction" in on:
        microscope, reconstruction = _switched(specification, on)
        chain = replace(chain, microscope=microscope, reconstruction=reconstruction, noise_free="photons" not in on)
    return chain


def _switched(specification: Specification, on: Coalition) -> tuple[MicroscopeRecipe, ReconstructionRecipe]:
    """Return microscope and reconstruction with everything ideal that is off."""
    microscope, recipe = specification.microscope, specification.reconstruction
    optics, beam, detector, stage = microscope.optics, microscope.beam, microscope.detector, microscope.stage
    camera: dict[str, float | int] = {}
    analysis: dict[str, object] = {}
    if "optics" not in on:
        optics = OpticsRecipe(outer_zone_width_nm=0.0)
        camera["blur_fwhm_px"] = 0.0
    if "rings_and_drift" not in on:
        beam = BeamRecipe(**{name: getattr(beam, name) for name in _SHAPE_OF_BEAM})
        camera |= _ALIKE
        analysis["rings"] = RingRecipe(method="none")
    if "alignment" not in on:
        still = {name: getattr(stage, name) for name in _STILL}
        stage = StageRecipe.model_validate(still | {"run_out_across_nm": 0.0, "run_out_along_nm": 0.0})
        analysis |= {
            "alignment": AlignmentRecipe(),
            "rotation_axis_px": (detector.columns - 1) / 2 + stage.axis_offset_px,
        }
    if "views" not in on:
        many = max(2 * stage.views, math.ceil(math.pi / 2 * detector.columns))
        share = stage.views / many
        camera["flat_electrons"] = detector.flat_electrons * share
        for name in ("flat_frames", "flat_frames_after", "dark_frames"):
            camera[name] = min(1000, math.ceil(getattr(detector, name) / share))
        full = {"views": many, "angle_range_deg": max(180.0, stage.angle_range_deg)}
        stage = stage.model_copy(update=full | {"blocked_from_deg": 0.0, "blocked_to_deg": 0.0})
    parts = {"optics": optics, "beam": beam, "detector": detector.model_copy(update=camera), "stage": stage}
    return microscope.model_copy(update=parts), recipe.model_copy(update=analysis)


def play(chain: Chain, seed: int) -> Measurements:
    """Walk a chain in one replicate and measure what comes out.

    Parameters
    ----------
    chain
        From `chain_of`.
    seed
        Root of the replicate's random numbers: specimen, camera and noise.

    Returns
    -------
    Measurements
        As `measure` gives them.

    Raises
    ------
    DataError, NotConvergedError
        See `prepare`, `reconstruct` and `segment`: what comes out may show no foil, no layer or no axis.

    Notes
    -----
    What the chain before has in common with this one (scene, projections, reconstruction) is not done again.
    """
    grid = truth_grid(chain.specification)
    if chain.voxel_nm != grid.voxel_nm:
        grid = grid.refined(round(grid.voxel_nm / chain.voxel_nm))
    labels, attenuation = _truth(chain.specification, seed, grid)
    if chain.reconstruction is not None and chain.microscope is not None:
        attenuation = _reconstructed(
            chain.specification, chain.microscope, chain.reconstruction, chain.noise_free, seed
        )
    if chain.segmentation is not None:
        labels = segment(attenuation, chain.segmentation).labels
    return measure(labels, attenuation, chain.specification.measurement)


def forget() -> None:
    """Let go of what `play` keeps for the chain that comes next."""
    for kept in (_electrode, _truth, _fine_attenuation, _line_integrals, _reconstructed):
        kept.cache_clear()


def chain_bytes(specification: Specification) -> float:
    """Return about how much memory `play` needs at its peak: line integrals with many views, the fine scene, counts."""
    many, _ = _switched(specification, frozenset(SWITCHES) - {"views"})
    rows, width, _ = simulation_grid(many).shape
    detector = many.detector
    recorded = many.stage.views * detector.rows * detector.columns
    return _PROCESS_BYTES + 4.0 * (rows * width**2 + rows * width * many.stage.views) + 16.0 * recorded


@lru_cache(maxsize=1)
def _electrode(specification: Specification, seed: int) -> Electrode:
    return make_electrode(specification.model_copy(update={"seed": seed}))


@lru_cache(maxsize=1)
def _truth(specification: Specification, seed: int, grid: VoxelGrid) -> tuple[Volume, Volume]:
    """Return the labels of the partial-volume truth, and the attenuation."""
    electrode, energy_kev = _electrode(specification, seed), specification.microscope.energy_kev
    labels, attenuation = np.zeros(grid.shape, np.uint8), np.empty(grid.shape, np.float32)
    for rows in fine_parts(grid, range(grid.shape[0])):
        made, here = voxelise(electrode, grid, rows), slice(rows.start, rows.stop)
        labels[here][made.silicon_fraction + made.bismuth_fraction >= 0.5] = Phase.SILICON
        labels[here][made.current_collector_fraction >= 0.5] = Phase.CURRENT_COLLECTOR
        attenuation[here] = contrast(made, energy_kev)
    return Volume(labels, grid.voxel_nm), Volume(attenuation, grid.voxel_nm)


@lru_cache(maxsize=1)
def _fine_attenuation(specification: Specification, seed: int, grid: VoxelGrid) -> FloatArray:
    """Return what stands in the beam, (fine row, y, x)."""
    electrode, energy_kev = _electrode(specification, seed), specification.microscope.energy_kev
    parts = fine_parts(grid, range(grid.shape[0]))
    return np.concatenate([contrast(voxelise(electrode, grid, rows), energy_kev) for rows in parts])


@lru_cache(maxsize=1)
def _line_integrals(specification: Specification, microscope: MicroscopeRecipe, seed: int) -> tuple[FloatArray, str]:
    attenuation = _fine_attenuation(specification, seed, simulation_grid(microscope))
    projector = specification.execution.projector
    return project(attenuation, microscope, seeds=Seeds(seed), projector=projector, threads=threads())


@lru_cache(maxsize=1)
def _reconstructed(
    specification: Specification,
    microscope: MicroscopeRecipe,
    recipe: ReconstructionRecipe,
    noise_free: bool,
    seed: int,
) -> Volume:
    """Scan and reconstruct, as `stages` do slab by slab."""
    detector = microscope.detector
    turned = DetectorRecipe(
        rows=detector.rows,
        columns=detector.columns,
        camera_pixel_nm=detector.camera_pixel_nm,
        binning=detector.binning,
        flat_electrons=1.0,
    )
    # of the microscope only what turns the scene, so that all optics and cameras share its line integrals
    turning = microscope.model_copy(update={"optics": OpticsRecipe(), "beam": BeamRecipe(), "detector": turned})
    lines, taken = _line_integrals(specification, turning, seed)
    everything, seeds = range(microscope.detector.rows), Seeds(seed)
    exposure = expose(lines, microscope, everything, seeds=seeds, projector=taken, threads=threads())
    scan = exposure.scan
    if noise_free:
        scan = noise_free_scan(exposure.transmission, microscope, everything, seeds=seeds)
    middle, spread = rows_looked_at(recipe.alignment, scan.rows)
    plan = prepare(scan.only(middle), recipe, spread=[scan.only(rows) for rows in spread])
    return reconstruct(scan, recipe, plan=plan, threads=threads()).volume
