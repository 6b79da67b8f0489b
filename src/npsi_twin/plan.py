"""What a run will cost: memory, disk and time of every stage, before anything runs.

Each stage's cost is the count of what it handles (voxels, polar samples, counts) times a constant that was measured on
two cores of a server (AMD EPYC): processor time of 16 rows x 1224 columns x 601 views, every artefact, and the clock of
64 rows x 2448 columns x 1201 views (``validation/13_execution``). What all processors share is told for as many as
there are; what one of them does alone (packing and writing, segmenting, comparing, drawing) does not get faster with
more. Memory and disk do not depend on the machine.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from npsi_twin.comparison.label_scores import PARTS
from npsi_twin.costs import Costs, StageCost, slabs_within
from npsi_twin.execution import ExecutionRecipe, available_cpus
from npsi_twin.execution.shards import array_bytes
from npsi_twin.morphology.profiles import AIR_BAND_NM
from npsi_twin.projectors.fourier import GRID_BYTES
from npsi_twin.projectors.lanes import LANES
from npsi_twin.reconstruction.route import ReconstructionRecipe
from npsi_twin.specification import Specification
from npsi_twin.stages import (
    ROWS_LOOKED_AT,
    SLICES_AT_ONCE,
    TRUTH_FIELDS,
    fine_parts,
    truth_grid,
)
from npsi_twin.storage.scanfile import ScanFile
from npsi_twin.txm.microscope import MicroscopeRecipe, simulation_grid

_REFERENCE_CPUS = 2
_PROCESS_BYTES = 350e6  # interpreter with numpy, scipy, numba and finufft
_TRANSFER_BYTES = 8 * 8 * 2048 / 2  # a column, while the optics' transfer is tabulated on its long grid
_LINE_BYTES = 8 * LANES  # a frequency of the views that are imaged at once
_COUNT_BYTES = 8  # transmission, and counts while they are looked through

# Seconds on the reference machine for one of what is counted.
_S_PER_PARTICLE = 17e-3  # packing, pore network and its level
_S_PER_TRUE_VOXEL = 40e-9  # voxelise, attenuation
_S_PER_TRUE_VOXEL_PACKED = 190e-9  # gzip of ten arrays, on one thread
_S_PER_FINE_VOXEL = 75e-9  # voxelise and attenuation on the simulation grid, on one thread
_ROWS_A_THREAD = 16  # that the voxeliser gives one thread
_S_PER_VOXEL_CHECKED = 5e-9  # before it is projected, on one thread
_S_PER_VOXEL_PROJECTED = 6.5e-9  # transforms of a slice's grid
_SHARE_PER_FURTHER_BAND = 0.2  # of that: a large grid's rows are transformed again for each of its bands
_S_PER_SAMPLE_PROJECTED = 1.5e-9  # gridding and transform of one fine column of one view of one fine row
_S_PER_SAMPLE_BLURRED = 2.5e-9  # and its way through the optics
_S_PER_COUNT = 25e-9  # photons and camera, and writing
_S_PER_SAMPLE_LOOKED_AT = 0.43e-6  # rotation axis, from a few rows, on one thread
_S_PER_PIXEL_AND_STEP = 0.6e-6  # SIRT-FBP filters, which take the square root of the number of steps
_S_PER_SINOGRAM_SAMPLE = 80e-9  # corrections, rings, backprojection
_S_PER_VOXEL_WRITTEN = 75e-9  # checksums, hashes, and copying, on one thread
_S_PER_VOXEL_AND_VIEW_BY_SIRT = 0.16e-9  # one step: a projection along rays and its transpose
# One step of the others on a convolution: two transforms of twice the width, and what each does beside them.
_S_PER_VOXEL_ITERATED = {"landweber": 12e-9, "cgls": 18e-9, "tv": 26e-9}
_S_PER_VOXEL_SEGMENTED = 260e-9
_S_PER_VOXEL_MEASURED, _S_PER_VOXEL_OF_LAYER = 60e-9, 500e-9  # of one of the two volumes; of the box round its layer
_S_PER_VOXEL_COMPARED = 140e-9
_S_REPORT, _S_PER_PIXEL_SHOWN, _S_PER_VOXEL_SHOWN = 7.0, 1.6e-6, 10e-9  # of a slice; one section cuts every row

# Bytes of a voxel at a stage's peak; of measuring, of the volume and of the box round the layer.
_SEGMENT_BYTES = 13  # attenuation, smoothed, and the numbers of bodies or a copy that a quantile sorts
_BYTES_OF_SAMPLE_LOOKED_AT = 24  # of the rows that tell the axis
_FILTER_BYTES = 64  # of a pixel of the slice by which filters are found
_MEASURE_BYTES, _LAYER_BYTES = 5, 22  # labels and attenuation; regions, and the basins of the bodies
_COMPARE_BYTES = 9  # both labels, masks, and the truth's fractions or particles
_SCORE_BYTES = 71  # the truth's labels, fraction and particles; bodies, pairs of them, and distances
_PROFILE_BYTES = 4  # of a column's voxel in the attenuation's profile, from within the foil to the air
_TRANSFORM_BYTES = 12  # of a padded voxel of the two-point correlation, of one block of slices
#: Bytes of a true voxel on disk, as gzip leaves it.
_PACKED_TRUTH_BYTES = 1.5
_REPORT_BYTES, _PICTURE_BYTES = 100e6, 100  # volumes thinned to what a page may hold; pictures, of a slice's pixel


def plan_twin(specification: Specification, *, workers: int = 1, ahead: bool = True) -> Costs:
    """Predict what `run_twin` will cost.

    Parameters
    ----------
    specification
        What would be run.
    workers
        Worker processes.
    ahead
        Whether all stages are walked, and workers that one has no more use for begin what later ones want.

    Examples
    --------
    >>> from npsi_twin.specification import preset_specification
    >>> costs = plan_twin(preset_specification("zhao2018"))
    >>> costs.disk_bytes > 50e9
    True
    """
    microscope = specification.microscope
    detector, views = microscope.detector, microscope.stage.views
    rows, columns = detector.rows, detector.columns
    execution = specification.execution
    slab = min(execution.slab_rows, rows)
    voxels = rows * columns**2
    speed = _REFERENCE_CPUS / available_cpus()
    truth_bytes = _PACKED_TRUTH_BYTES * math.prod(truth_grid(specification).shape)
    build = StageCost(
        "build",
        voxels * (speed * _S_PER_TRUE_VOXEL + _S_PER_TRUE_VOXEL_PACKED / min(workers, available_cpus())),
        _PROCESS_BYTES * workers + 60 * workers * slab * columns**2,
        truth_bytes,
        _passing(execution, [(truth_grid(specification).shape, kind) for kind in TRUTH_FIELDS.values()], truth_bytes),
    )
    reconstruct = reconstruction_cost(rows, columns, views, slab, workers, specification.reconstruction, execution)
    segment, measure, compare = _analysis_costs(specification, workers)
    scan = _scan_cost(microscope, execution, workers)
    axis = preparation_cost(rows, columns, views, specification.reconstruction)
    if ahead and workers > 1:
        # The truth is measured from the scan's last slab on.
        measuring = measure.memory_bytes / 2
        scan, reconstruct = (_giving_way(cost, workers, measuring) for cost in (scan, reconstruct))
        axis, segment = (replace(cost, memory_bytes=cost.memory_bytes + measuring) for cost in (axis, segment))
    return Costs(
        (
            StageCost("electrode", _particles(specification) * _S_PER_PARTICLE, _PROCESS_BYTES, 0),
            build,
            scan,
            axis,
            reconstruct,
            segment,
            measure,
            compare,
            StageCost(
                "report",
                _S_REPORT + columns**2 * _S_PER_PIXEL_SHOWN + voxels * _S_PER_VOXEL_SHOWN,
                _PROCESS_BYTES + _REPORT_BYTES + _PICTURE_BYTES * columns**2,
                5e6,
            ),
        ),
        workers,
    )


def _giving_way(cost: StageCost, workers: int, other_bytes: float) -> StageCost:
    """Return the cost of slabs of which one worker's gives way to something else."""
    others = cost.memory_bytes * (workers - 1) / workers
    return replace(cost, memory_bytes=max(cost.memory_bytes, others + other_bytes))


def _analysis_costs(specification: Specification, workers: int) -> tuple[StageCost, StageCost, StageCost]:
    """Predict what segmenting, measuring and comparing cost, which hold whole volumes.

    Two workers measure truth and recovered volume at once, and score labels in two ways. The layer of an aged
    electrode may reach as high as the specimen, and what a segmentation takes for silicon, where artefacts lie above
    the layer, up to the rim of the field: taken so, which is more than most need.
    """
    detector, recipe = specification.microscope.detector, specification.measurement
    layer, specimen = specification.electrode.layer, specification.electrode.specimen
    rows, columns, voxel_um = detector.rows, detector.columns, detector.pixel_nm / 1e3
    voxels = rows * columns**2
    field_um, width_um = (
        width / 2 - specimen.foil_surface_height_um for width in (columns * voxel_um, specimen.width_um)
    )
    true_um = min(width_um, field_um)
    if specification.ageing.condition == "pristine":
        true_um = min(true_um, layer.mean_height_um + 3 * layer.height_sd_um)
    true_rows, box_rows = (
        min(columns, (top_um + 2 * recipe.closing_radius_nm / 1e3) / voxel_um) for top_um in (true_um, field_um)
    )
    box = rows * box_rows * columns
    above_foil_um = field_um + (recipe.air_gap_nm + AIR_BAND_NM + recipe.foil_band_nm[1]) / 1e3
    profile = rows * columns * min(columns, above_foil_um / voxel_um) * _PROFILE_BYTES
    lag = recipe.correlation_lag_nm / 1e3 / voxel_um
    block = rows / max(1, min(recipe.blocks, rows // max(1, 2 * lag)))
    transform = (block + lag) * (box_rows + lag) * (columns + lag) * _TRANSFORM_BYTES + 8 * box if lag >= 1 else 0
    measure = _MEASURE_BYTES * voxels + profile + max(_LAYER_BYTES * box, transform)
    speed = _REFERENCE_CPUS / available_cpus()
    boxes = rows * (true_rows + box_rows) * columns
    measure_s = 2 * voxels * _S_PER_VOXEL_MEASURED + boxes * _S_PER_VOXEL_OF_LAYER
    whole, scored = (_PROCESS_BYTES + size * voxels for size in (_SEGMENT_BYTES, _COMPARE_BYTES))
    measuring = _PROCESS_BYTES + measure
    return (
        StageCost("segment", voxels * _S_PER_VOXEL_SEGMENTED, whole, 0.05 * voxels),
        StageCost("measure", speed * measure_s, min(2, workers) * measuring, 1e6),
        StageCost("compare", speed * voxels * _S_PER_VOXEL_COMPARED, min(len(PARTS), workers) * scored, 1e5),
    )


def _passing(execution: ExecutionRecipe, arrays: Sequence[tuple[tuple[int, ...], Any]], size_bytes: float) -> float:
    """Return the size of slabs that are copied, 0 where they stay; arrays by shape and type, as they are unpacked."""
    return 0.0 if execution.virtual(array_bytes(arrays)) else size_bytes


def _scan_cost(microscope: MicroscopeRecipe, execution: ExecutionRecipe, workers: int) -> StageCost:
    detector, stage, n = microscope.detector, microscope.stage, microscope.supersampling
    slab = min(execution.slab_rows, detector.rows)
    width, views = detector.columns * n, stage.views
    projected = views * (stage.fly_scan_samples if stage.fly_scan_fraction else 1)
    counts = detector.rows * detector.columns * (views + detector.flats_in_all + detector.dark_frames)
    fine_slab = (slab + 2 * microscope.halo_rows) * n
    fine_rows = fine_slab * detector.rows / slab
    part_rows = len(fine_parts(simulation_grid(microscope), range(fine_slab))[0])
    projection_s, projector_bytes = projection_cost(width, projected)
    seconds = fine_rows * (projection_s + views * width * _S_PER_SAMPLE_BLURRED) + counts * _S_PER_COUNT
    # Few fine rows are voxelised at a time where a row is large, and then not by all threads.
    threads = max(1, available_cpus() // workers)
    voxelising = min(threads, max(1.0, part_rows / _ROWS_A_THREAD)) * min(workers, available_cpus())
    voxelise_s = fine_rows * width**2 * _S_PER_FINE_VOXEL / voxelising
    line_integral_bytes = 4 * fine_slab * views * width
    # Line integrals are made, and then imaged and counted: never both at once.
    making = 4 * SLICES_AT_ONCE * width**2 + max(40 * part_rows * width**2, projector_bytes)
    lines = (fine_slab * (2 if stage.axis_tilt_deg else 1) + slab) * width / 2
    imaging = _TRANSFER_BYTES * width + threads * _LINE_BYTES * lines + _COUNT_BYTES * slab * detector.columns * views
    kept = execution.keep_transmission
    disk = 2.0 * counts + (4.0 * views * detector.rows * detector.columns if kept else 0.0)
    arrays = [((views, detector.rows, detector.columns), np.float32 if kept else np.uint16)]
    return StageCost(
        "scan",
        voxelise_s + _REFERENCE_CPUS / available_cpus() * seconds,
        workers * (_PROCESS_BYTES + line_integral_bytes + max(making, imaging)),
        disk,
        _passing(execution, arrays, disk),
    )


def plan_object_scan(microscope: MicroscopeRecipe, execution: ExecutionRecipe, *, workers: int = 1) -> Costs:
    """Predict what the scan of a user's own object will cost, its truth on the detector's pixels included."""
    detector = microscope.detector
    scan = _scan_cost(microscope, execution, workers)
    shape = (detector.rows, detector.columns, detector.columns)
    size = 4.0 * math.prod(shape)
    truth = StageCost("truth", 0.0, _PROCESS_BYTES, size, _passing(execution, [(shape, np.float32)], size))
    return Costs((truth, scan), workers)


def projection_cost(width: int, views: int) -> tuple[float, float]:
    """Predict what checking and projecting slices costs, with the default projector on the reference machine.

    Parameters
    ----------
    width
        Voxels along a side of a slice, and columns of the detector.
    views
        Number of views.

    Returns
    -------
    tuple
        Seconds a slice, slices taken sixteen at a time; bytes for sixteen slices beside the slab, sinograms included.

    Examples
    --------
    >>> seconds, memory = projection_cost(512, 601)
    >>> round(1000 * seconds), round(memory / 2**20)
    (3, 73)
    """
    # The half-plane of a grid 1.36 times as wide, and half of each view's spectrum, 1.22 times as long as the view.
    grid_bytes = 128 * (1.36 * width) ** 2 / 2
    bands = math.ceil(grid_bytes / GRID_BYTES)
    per_voxel = _S_PER_VOXEL_CHECKED + _S_PER_VOXEL_PROJECTED * (1 + _SHARE_PER_FURTHER_BAND * (bands - 1))
    seconds = per_voxel * width**2 + _S_PER_SAMPLE_PROJECTED * views * width
    return seconds, grid_bytes / bands + views * width * (1.22 / 2 * (128 + 8) + 4 * 16)


def _particles(specification: Specification) -> float:
    """Return about how many particles the scene holds: the envelopes' share of the layer over the median particle."""
    powder, layer = specification.electrode.powder, specification.electrode.layer
    specimen, margin_um = specification.electrode.specimen, 2 * powder.largest_diameter_um
    area_um2 = (2 * specimen.reach_um + margin_um) * (specimen.length_um + margin_um)
    return area_um2 * layer.mean_height_um * powder.envelope_fraction / (math.pi / 6 * powder.median_diameter_um**3)


def iteration_cost(rows: int, columns: int, views: int, recipe: ReconstructionRecipe) -> StageCost:
    """Predict what iterations cost beyond corrections: seconds of all rows, bytes of all of them at once.

    Parameters
    ----------
    rows
        Slices.
    columns, views
        Of the detector.
    recipe
        Its algorithm and number of steps; filtered backprojection takes none. Steps that end early are not foreseen.

    Examples
    --------
    >>> cost = iteration_cost(16, 512, 601, ReconstructionRecipe(algorithm="sirt"))
    >>> round(cost.seconds * available_cpus() / 2), round(cost.memory_bytes / 2**20)
    (40, 184)
    """
    width = recipe.width_px or columns
    if recipe.algorithm in ("sirt-fbp", "fbp"):
        return StageCost("reconstruct", 0.0, 0.0, 0.0)
    each = _S_PER_VOXEL_AND_VIEW_BY_SIRT * views
    if recipe.algorithm != "sirt":
        each = _S_PER_VOXEL_ITERATED[recipe.algorithm]
    seconds = _REFERENCE_CPUS / available_cpus() * rows * width**2 * recipe.iteration.iterations * each
    # Data, their projections and weights; the slices, their direction, duals, and a grid of twice the width.
    return StageCost("reconstruct", seconds, 4.0 * rows * (3 * views * columns + 8 * width**2), 0.0)


def reconstruction_cost(
    rows: int,
    columns: int,
    views: int,
    slab: int,
    workers: int,
    recipe: ReconstructionRecipe,
    execution: ExecutionRecipe | None = None,
) -> StageCost:
    """Predict what the reconstruction of a whole scan costs.

    Parameters
    ----------
    rows, columns, views
        Of the scan.
    slab
        Rows at a time.
    workers
        Processes, each with a slab.
    recipe
        What is done.
    execution
        Whether slabs are copied into one file; the default when None.

    Examples
    --------
    >>> cost = reconstruction_cost(2048, 2448, 1201, 16, 1, ReconstructionRecipe())
    >>> round(cost.memory_bytes / 2**30, 1), round(cost.disk_bytes / 2**30, 1)
    (4.2, 45.7)
    """
    samples = rows * columns * views
    iterations = iteration_cost(slab, columns, views, recipe)
    width = recipe.width_px or columns
    disk = 4.0 * rows * width**2
    return StageCost(
        "reconstruct",
        _REFERENCE_CPUS / available_cpus() * samples * _S_PER_SINOGRAM_SAMPLE
        + rows * width**2 * _S_PER_VOXEL_WRITTEN
        + iterations.seconds * rows / slab,
        workers * (_PROCESS_BYTES + slab * columns * (40 * views + 24 * columns) + iterations.memory_bytes),
        disk,
        _passing(execution or ExecutionRecipe(), [((rows, width, width), np.float32)], disk),
    )


def preparation_cost(rows: int, columns: int, views: int, recipe: ReconstructionRecipe) -> StageCost:
    """Predict what is done once for a whole scan: finding the rotation axis, and filters that no disk keeps yet.

    Alignment, which finds where every view was, is not foreseen.

    Parameters
    ----------
    rows, columns, views
        Of the scan.
    recipe
        What is done.

    Examples
    --------
    >>> cost = preparation_cost(2048, 2448, 1201, ReconstructionRecipe(algorithm="fbp", rotation_axis_px=1200.0))
    >>> cost.stage, cost.seconds
    ('axis, filters', 0.0)
    """
    looked_at = min(rows, ROWS_LOOKED_AT) * columns * views
    seconds = looked_at * _S_PER_SAMPLE_LOOKED_AT if recipe.rotation_axis_px is None else 0.0
    if recipe.algorithm == "sirt-fbp":
        steps = math.sqrt(recipe.sirt_iterations)
        seconds += _REFERENCE_CPUS / available_cpus() * steps * columns**2 * _S_PER_PIXEL_AND_STEP
    held = max(looked_at * _BYTES_OF_SAMPLE_LOOKED_AT, columns**2 * _FILTER_BYTES)
    return StageCost("axis, filters", seconds, _PROCESS_BYTES + held, 0.0)


def plan_reconstruction(
    scan_file: ScanFile, execution: ExecutionRecipe, recipe: ReconstructionRecipe, *, workers: int = 1
) -> Costs:
    """Predict what the reconstruction of a scan file will cost."""
    rows, beam = scan_file.rows, scan_file.beam
    slab = min(execution.slab_rows, rows)
    stages = (
        preparation_cost(rows, beam.columns, beam.views, recipe),
        reconstruction_cost(rows, beam.columns, beam.views, slab, workers, recipe, execution),
    )
    return Costs(stages, workers)


def within_memory(specification: Specification, most: str | None, *, workers: int = 1) -> Specification:
    """Return the specification with slabs as high as some memory allows, and no higher than it asks for.

    Parameters
    ----------
    specification
        What would be run.
    most
        Memory of all workers together, such as ``"8GiB"`` or ``"500MB"``; None changes nothing.
    workers
        Worker processes.

    Raises
    ------
    ParameterError
        When that is no amount of memory.
    ResourceError
        When slabs of one row need more, or a stage that holds the whole volume.

    Examples
    --------
    >>> from npsi_twin.specification import preset_specification
    >>> demo = preset_specification("demo")
    >>> within_memory(demo, "8GiB") == demo
    True
    """

    def costs(execution: ExecutionRecipe) -> Costs:
        return plan_twin(specification.model_copy(update={"execution": execution}), workers=workers)

    execution = slabs_within(specification.execution, most, costs)
    return specification.model_copy(update={"execution": execution})


def segment_file_bytes(shape: tuple[int, int, int], item_bytes: int) -> float:
    """Predict the memory that segmenting a volume of a file takes, in bytes.

    Examples
    --------
    >>> round(segment_file_bytes((1024, 1024, 1024), 4) / 2**30, 1)
    13.3
    """
    return _PROCESS_BYTES + math.prod(shape) * (_SEGMENT_BYTES - 4 + item_bytes)


def measure_file_bytes(shape: tuple[int, int, int], item_bytes: int) -> float:
    """Predict the most memory that measuring labels of a file takes, in bytes, were the layer as high as the volume.

    Examples
    --------
    >>> round(measure_file_bytes((1024, 1024, 1024), 1) / 2**30, 1)
    24.3
    """
    return _PROCESS_BYTES + math.prod(shape) * (1 + item_bytes + _LAYER_BYTES)


def score_file_bytes(shape: tuple[int, int, int], item_bytes: int) -> float:
    """Predict the memory that scoring labels of a file against a run's truth takes, in bytes.

    Examples
    --------
    >>> round(score_file_bytes((1024, 1024, 1024), 1) / 2**30, 1)
    72.3
    """
    return _PROCESS_BYTES + math.prod(shape) * (item_bytes + _SCORE_BYTES)
