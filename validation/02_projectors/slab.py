"""Walk one slab of the paper's full frame in a process of its own; print seconds and the peak of memory as JSON."""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from npsi_twin import Seeds, voxelise
from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.scan import ParallelBeam
from npsi_twin.specification import preset_specification
from npsi_twin.stages import SLICES_AT_ONCE, fine_parts, make_electrode
from npsi_twin.txm.contrast import contrast
from npsi_twin.txm.microscope import expose, project, simulation_grid, simulation_rows

ROWS = range(1000, 1016)


def peak_gib():
    """Return the most memory that this process has held; unlike getrusage's figure it owes nothing to its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def scan():
    """Scan sixteen detector rows of 2448 columns from fine slices of 4896 x 4896 voxels, as the road does.

    Slices are projected sixteen at a time. Of these batches the first and the last are voxelised, those between take
    the first one's attenuation again, and the shortest of alike times stands for all.
    """
    specification = preset_specification("zhao2018")
    microscope, seeds = specification.microscope, Seeds(specification.seed)
    electrode = make_electrode(specification)
    grid, fine = simulation_grid(microscope), simulation_rows(microscope, ROWS)
    line_integrals = np.empty((len(fine), microscope.stage.views, grid.shape[2]), np.float32)
    times = {"voxelise": [], "project": [], "expose": []}
    batches = [fine[first : first + SLICES_AT_ONCE] for first in range(0, len(fine), SLICES_AT_ONCE)]
    for batch in batches:
        if batch in (batches[0], batches[-1]):
            attenuation_per_um = None  # the road, too, lets go of one batch before it makes the next
            start = time.perf_counter()
            attenuation_per_um = np.empty((len(batch), *grid.shape[1:]), np.float32)
            for part in fine_parts(grid, batch):
                where = slice(part.start - batch.start, part.stop - batch.start)
                attenuation_per_um[where] = contrast(voxelise(electrode, grid, part), microscope.energy_kev)
            times["voxelise"].append(time.perf_counter() - start)
        start = time.perf_counter()
        where = slice(batch.start - fine.start, batch.stop - fine.start)
        line_integrals[where], taken = project(attenuation_per_um, microscope, seeds=seeds)
        times["project"].append(time.perf_counter() - start)
    del attenuation_per_um
    gib = {"project": peak_gib()}
    for _ in range(2):
        start = time.perf_counter()
        expose(line_integrals, microscope, ROWS, seeds=seeds, projector=taken)
        times["expose"].append(time.perf_counter() - start)
    gib["expose"] = peak_gib()
    repeats = {"voxelise": len(batches), "project": len(batches), "expose": 1}
    seconds = {step: repeats[step] * min(found) for step, found in times.items()}
    return {"seconds": seconds, "gib": gib, "slices": len(fine), "rows": len(ROWS)}


def reconstruct(verb):
    """Backproject sixteen sinograms of 2448 columns and 1201 views."""
    columns, views = 2448, 1201
    beam = ParallelBeam(np.arange(views) * np.pi / views, columns, 25.4, (columns - 1) / 2 + 13.2)
    projector = choose_projector("fourier", beam, columns)
    sinograms = np.random.default_rng(1).random((16, views, columns), np.float32)
    options = (np.ones(2 * columns - 1),) if verb == "filtered_adjoint" else ()
    start = time.perf_counter()
    getattr(projector, verb)(sinograms, *options)
    return {"seconds": time.perf_counter() - start, "gib": peak_gib()}


if __name__ == "__main__":
    warnings.simplefilter("ignore", OutOfRangeWarning)
    print(json.dumps(scan() if sys.argv[1] == "scan" else reconstruct(sys.argv[1])))
