"""Walk the road in memory: a specification -> its scene, the truth, and the attenuation that a scan of it gives.

The steps are those of `npsi-twin run`, on all rows at once. What a walk has in common with the one before it (scene,
line integrals) is not done again, so that studies put walks that differ in optics, camera, dose or algorithm next to
one another.
"""

from functools import lru_cache

import numpy as np

from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.seeds import Seeds
from npsi_twin.stages import fine_parts, make_electrode, rows_looked_at, truth_grid
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.contrast import contrast
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import expose, project, simulation_grid
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.volumes import Volume


def scene_of(specification):
    """Return the scene, and what it is made of on the voxels of the reconstruction, all rows at once."""
    electrode, grid = _electrode(_turning(specification)), truth_grid(specification)
    return electrode, voxelise(electrode, grid, range(grid.shape[0]))


def truth_of(specification):
    """Return the true phases and the true attenuation on the voxels of the reconstruction."""
    electrode, grid = _electrode(_turning(specification)), truth_grid(specification)
    parts = [voxelise(electrode, grid, rows) for rows in fine_parts(grid, range(grid.shape[0]))]
    attenuation = np.concatenate([contrast(part, specification.microscope.energy_kev) for part in parts])
    phase = np.concatenate([part.phase for part in parts])
    return Volume(phase, grid.voxel_nm), Volume(attenuation, grid.voxel_nm)


def recovered_of(specification):
    """Scan the scene and reconstruct the scan: attenuation, 1/um."""
    return reconstructed(*_line_integrals(_turning(specification)), specification)


def reconstructed(lines, taken, specification):
    """Expose line integrals that a projector has taken, and reconstruct the scan: attenuation, 1/um."""
    microscope, recipe = specification.microscope, specification.reconstruction
    rows = range(microscope.detector.rows)
    scan = expose(lines, microscope, rows, seeds=Seeds(specification.seed), projector=taken).scan
    middle, spread = rows_looked_at(recipe.alignment, scan.rows)
    plan = prepare(scan.only(middle), recipe, spread=[scan.only(part) for part in spread])
    return reconstruct(scan, recipe, plan=plan).volume


def _turning(specification):
    """Keep of a specification only what its line integrals depend on."""
    detector = specification.microscope.detector
    geometry = {name: getattr(detector, name) for name in ("rows", "columns", "camera_pixel_nm", "binning")}
    plain = {"optics": OpticsRecipe(), "beam": BeamRecipe(), "detector": DetectorRecipe(**geometry, flat_electrons=1.0)}
    microscope = specification.microscope.model_copy(update=plain)
    return specification.model_copy(update={"microscope": microscope, "reconstruction": ReconstructionRecipe()})


@lru_cache(maxsize=1)
def _electrode(turning):
    return make_electrode(turning)


@lru_cache(maxsize=1)
def _line_integrals(turning):
    electrode, grid = _electrode(turning), simulation_grid(turning.microscope)
    energy = turning.microscope.energy_kev
    fine = [contrast(voxelise(electrode, grid, rows), energy) for rows in fine_parts(grid, range(grid.shape[0]))]
    projector = turning.execution.projector
    return project(np.concatenate(fine), turning.microscope, seeds=Seeds(turning.seed), projector=projector)
