"""The stages of the road that work slab by slab, on files: each reads what the one before it wrote.

Truth side: `build` (truth.h5) and `scan` (scan.h5). Measurement side: `reconstruct_scan` (reconstruction.h5), which
sees nothing of the truth. Each maps a pure function of a slab of detector rows over an executor; every file is built
whole and renamed. What follows takes whole volumes: `npsi_twin.analysis`.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from h5py import File
from numpy.typing import DTypeLike, NDArray

from npsi_twin.cycling.ageing import age
from npsi_twin.electrode.build import build_electrode
from npsi_twin.electrode.scene import Electrode
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.execution import (
    ExecutionRecipe,
    Executor,
    Progress,
    RunFolder,
    slabs,
    threads,
    written_whole,
)
from npsi_twin.execution.shards import Slab, SlabArray, array_bytes, assemble, discard, make_shards
from npsi_twin.kept_array import KeptArray
from npsi_twin.projectors.choice import ProjectorName, available_projector
from npsi_twin.reconstruction.fitness import judge_views
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.route import Plan, ReconstructionRecipe, prepare, reconstruct
from npsi_twin.scan import Scan
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.storage.dataexchange import create_scan, placed_rows
from npsi_twin.storage.nexus import create_nxtomo, placed_nxtomo_rows
from npsi_twin.storage.scan_truth import RowArray, create_scan_truth
from npsi_twin.storage.scanfile import ScanFile, middle_rows, spread_rows
from npsi_twin.storage.stage_motion import write_found
from npsi_twin.storage.volumes import create_volumes
from npsi_twin.txm.contrast import contrast
from npsi_twin.txm.microscope import (
    Exposure,
    MicroscopeRecipe,
    expose,
    project,
    simulation_grid,
    simulation_rows,
    stage_truth,
    told_beam,
)
from npsi_twin.txm.stage import StageTruth
from npsi_twin.txm.truth import scan_truth
from npsi_twin.volumes import FloatArray, VoxelGrid

TRUTH, SCAN, SCAN_TRUTH, RECONSTRUCTION = "truth.h5", "scan.h5", "scan_truth.h5", "reconstruction.h5"

#: Attenuation in 1/um of some rows of a grid, (row, y, x): what stands in the beam.
Attenuation = Callable[[VoxelGrid, range], FloatArray]
ScanFormat = Literal["dataexchange", "nxtomo"]

_VOXELS_AT_ONCE = 1 << 24
#: What the projector takes at a time: it works on sixteen slices at once.
SLICES_AT_ONCE = 16
#: Half a gigabyte a slab of the default, which takes the system a second to give.
_line_integrals = KeptArray()
#: Rows from the middle that tell the axis, and those that are needed to see motion along it.
ROWS_LOOKED_AT, _ROWS_ALIGNED = 16, 64
#: Data sets of a truth, and their types.
TRUTH_FIELDS = {
    "phase": np.uint8,
    "void_fraction": np.float32,
    "silicon_fraction": np.float32,
    "lithium_per_silicon": np.float32,
    "carbon_binder_fraction": np.float32,
    "current_collector_fraction": np.float32,
    "bismuth_fraction": np.float32,
    "sei_fraction": np.float32,
    "attenuation_per_um": np.float32,
    "particle_id": np.int32,
}


def make_electrode(specification: Specification) -> Electrode:
    """Build the scene and age it."""
    seeds = Seeds(specification.seed)
    _tell_what_is_unseen(specification)
    # Before a scan is made, and not only when it is reconstructed.
    judge_views(told_beam(specification.microscope, seeds=seeds), specification.reconstruction.width_px)
    pristine = build_electrode(specification.electrode, seeds=seeds)
    ageing = specification.ageing
    aged = age(pristine, ageing.how(), ageing.what(), seeds=seeds)
    if aged.history is not None:
        _tell_what_is_cut(aged)
    return aged


def _tell_what_is_unseen(specification: Specification) -> None:
    """Warn where the detector's pixels are larger than the pore network."""
    silicon, pixel_nm = specification.electrode.silicon, specification.microscope.detector.pixel_nm
    feature_nm = min(silicon.mean_pore_nm, silicon.mean_ligament_nm)
    if pixel_nm > feature_nm:
        warnings.warn(
            f"microscope.detector: its pixels of {pixel_nm:g} nm at the sample are larger than the silicon's features "
            f"(pores of {silicon.mean_pore_nm:g} nm, ligaments of {silicon.mean_ligament_nm:.3g} nm on average); they "
            "blur into one grey, from which no pore can be told. Lower camera_pixel_nm or binning.",
            OutOfRangeWarning,
            stacklevel=3,
        )


def _tell_what_is_cut(electrode: Electrode) -> None:
    """Warn where the needle ends below the top of the grown layer."""
    specimen, layer_um = electrode.specimen, electrode.layer.mean_nm / 1e3
    end_um = specimen.needle_offset_height_um + specimen.width_um / 2 - specimen.foil_surface_height_um
    if specimen.shape == "needle" and layer_um > end_um:
        warnings.warn(
            f"specimen: the layer has grown to {layer_um:.1f} um above the foil, and the needle of "
            f"{specimen.width_um:g} um ends {end_um:.1f} um above it; what lies higher is cut off, so that thickness "
            "and inventory are those of the needle. Lower specimen.foil_surface_height_um, or widen the needle and "
            "the detector.",
            OutOfRangeWarning,
            stacklevel=3,
        )


def truth_grid(specification: Specification) -> VoxelGrid:
    """Return the grid of the reconstruction, on which the truth is written."""
    detector = specification.microscope.detector
    width = specification.reconstruction.width_px or detector.columns
    return VoxelGrid((detector.rows, width, width), detector.pixel_nm)


def _true_rows(electrode: Electrode, grid: VoxelGrid, energy_kev: float, rows: range) -> Slab:
    composition = voxelise(electrode, grid, rows)
    arrays = {name: getattr(composition, name) for name in TRUTH_FIELDS if name != "attenuation_per_um"}
    arrays["attenuation_per_um"] = contrast(composition, energy_kev)
    return Slab({name: slices(values, compressed=True) for name, values in arrays.items()}, {})


def slices(values: NDArray[Any], *, compressed: bool) -> SlabArray:
    """Return slices (z, y, x) as a slab; a slice is a chunk, as `create_volumes` has it."""
    return SlabArray(values, 0, (1, *values.shape[1:]), compressed)


def build(
    run: RunFolder, specification: Specification, electrode: Electrode, *, executor: Executor, progress: Progress
) -> None:
    """Voxelise the electrode on the grid of the reconstruction and write the truth."""
    grid, execution = truth_grid(specification), specification.execution
    write_truth(
        run,
        "build",
        partial(_true_rows, electrode, grid, specification.microscope.energy_kev),
        grid,
        TRUTH_FIELDS,
        stage_truth(specification.microscope, seeds=Seeds(specification.seed)),
        execution=execution,
        executor=executor,
        progress=progress,
    )


def write_truth(
    run: RunFolder,
    name: str,
    make: Callable[[range], Slab],
    grid: VoxelGrid,
    kinds: Mapping[str, DTypeLike],
    stage: StageTruth,
    *,
    execution: ExecutionRecipe,
    executor: Executor,
    progress: Progress,
) -> None:
    """Write what stands in the beam, made slab by slab, and what the stage really did."""
    virtual = execution.virtual(array_bytes((grid.shape, kind) for kind in kinds.values()))
    with run.stage(name, TRUTH):
        shards = make_shards(
            run,
            name,
            make,
            slabs(grid.shape[0], execution.slab_rows),
            executor=executor,
            progress=progress,
            kept_for=TRUTH if virtual else None,
        )
        with (
            written_whole(run.path / TRUTH) as path,
            create_volumes(path, grid.shape, kinds, voxel_nm=grid.voxel_nm, compressed=True) as file,
        ):
            assemble(file, shards, folder=run.path if virtual else None)
            for field, values in asdict(stage).items():
                file[f"scan/{field}"] = values
    discard(run, name)


def _instrument(microscope: MicroscopeRecipe) -> dict[str, tuple[Any, str]]:
    """Return what the 32-ID layout says of the instrument, beyond angles, energy and pixel."""
    detector, stage = microscope.detector, microscope.stage
    instrument, rotation = "measurement/instrument", "process/acquisition/rotation"
    return {
        f"{instrument}/zone_plate/outermost_zone_width": (microscope.optics.outer_zone_width_nm, "nm"),
        f"{instrument}/detector/binning_x": (detector.binning, ""),
        f"{instrument}/detector/binning_y": (detector.binning, ""),
        f"{instrument}/detector/bit_depth": (detector.bit_depth, ""),
        f"{rotation}/start": (0.0, "deg"),
        f"{rotation}/range": (stage.angle_range_deg, "deg"),
        f"{rotation}/num_angles": (stage.views, ""),
        "process/acquisition/flat_fields/number": (detector.flat_frames, ""),
        "process/acquisition/dark_fields/number": (detector.dark_frames, ""),
    }


def fine_parts(grid: VoxelGrid, rows: range) -> list[range]:
    """Cut fine rows into parts of about 16 million voxels, of which composition is made at a time."""
    height = max(1, _VOXELS_AT_ONCE // (grid.shape[1] * grid.shape[2]))
    return [rows[start : start + height] for start in range(0, len(rows), height)]


def _electrode_attenuation(electrode: Electrode, energy_kev: float, grid: VoxelGrid, rows: range) -> FloatArray:
    return contrast(voxelise(electrode, grid, rows), energy_kev)


def _in_parts(attenuation: Attenuation, grid: VoxelGrid, rows: range) -> FloatArray:
    """Return attenuation, a few slices at a time: composition is an order of magnitude larger."""
    first, *others = fine_parts(grid, rows)
    if not others:
        return attenuation(grid, first)
    values = np.empty((len(rows), *grid.shape[1:]), np.float32)
    for part in (first, *others):
        values[part.start - rows.start : part.stop - rows.start] = attenuation(grid, part)
    return values


def _exposed_rows(
    attenuation: Attenuation, microscope: MicroscopeRecipe, seeds: Seeds, projector: ProjectorName, rows: range
) -> Exposure:
    grid, fine = simulation_grid(microscope), simulation_rows(microscope, rows)
    taken = ""
    with _line_integrals.lent((len(fine), microscope.stage.views, grid.shape[2])) as line_integrals:
        for start in range(0, len(fine), SLICES_AT_ONCE):
            batch = fine[start : start + SLICES_AT_ONCE]
            attenuation_per_um = _in_parts(attenuation, grid, batch)
            line_integrals[start : start + len(batch)], taken = project(
                attenuation_per_um, microscope, seeds=seeds, projector=projector, threads=threads()
            )
            del attenuation_per_um  # more than a gigabyte at full width, which the exposure must not find beside itself
        return expose(line_integrals, microscope, rows, seeds=seeds, projector=taken, threads=threads())


def scan(
    run: RunFolder,
    specification: Specification,
    electrode: Electrode,
    *,
    executor: Executor,
    progress: Progress,
    scan_format: ScanFormat = "dataexchange",
    beside_last: Callable[[], None] = lambda: None,
) -> None:
    """Scan the electrode in the simulated microscope and write the counts as a beamline would."""
    scan_attenuation(
        run,
        partial(_electrode_attenuation, electrode, specification.microscope.energy_kev),
        specification.microscope,
        Seeds(specification.seed),
        sample=specification.name,
        execution=specification.execution,
        executor=executor,
        progress=progress,
        scan_format=scan_format,
        beside_last=beside_last,
    )


def _scanned_rows(
    expose: Callable[[range], Exposure],
    place: Callable[[Scan], dict[str, NDArray[np.generic]]],
    execution: ExecutionRecipe,
    rows: range,
) -> Slab:
    exposure = expose(rows)
    taken = exposure.scan
    frame = (1, execution.slab_rows, taken.beam.columns)
    arrays = {name: SlabArray(counts, 1, frame) for name, counts in place(taken).items()}
    if execution.keep_transmission:
        views, _, columns = exposure.transmission.shape
        arrays["transmission"] = SlabArray(exposure.transmission, 1, (views, 1, columns))
    flat_views = None if taken.flat_views is None else taken.flat_views.tolist()
    facts = {"projector": exposure.made_by.backend, "flats": len(taken.flats), "darks": len(taken.darks)}
    return Slab(arrays, facts | {"flat_views": flat_views})


def scan_attenuation(
    run: RunFolder,
    attenuation: Attenuation,
    microscope: MicroscopeRecipe,
    seeds: Seeds,
    *,
    sample: str,
    execution: ExecutionRecipe,
    executor: Executor,
    progress: Progress,
    scan_format: ScanFormat = "dataexchange",
    beside_last: Callable[[], None] = lambda: None,
) -> None:
    """Scan whatever stands in the beam, slab by slab, and write beside it what a scan file does not tell."""
    available_projector(execution.projector)
    detector, views = microscope.detector, microscope.stage.views
    ordinary = scan_format == "dataexchange"
    create, place = (create_scan, placed_rows) if ordinary else (create_nxtomo, placed_nxtomo_rows)
    expose = partial(_exposed_rows, attenuation, microscope, seeds, execution.projector)
    counts = np.float32 if execution.keep_transmission else np.uint16
    virtual = execution.virtual(array_bytes([((views, detector.rows, detector.columns), counts)]))
    where = run.path if virtual else None
    with run.stage("scan", SCAN, SCAN_TRUTH) as facts:
        shards = make_shards(
            run,
            "scan",
            partial(_scanned_rows, expose, place, execution),
            slabs(detector.rows, execution.slab_rows),
            executor=executor,
            progress=progress,
            kept_for=SCAN if virtual else None,
            variant=scan_format,
            beside_last=beside_last,
        )
        first = shards[0].facts
        facts |= {"projector": first["projector"], "format": scan_format}
        with (
            written_whole(run.path / SCAN_TRUTH) as path,
            _created_truth(path, microscope, seeds, keep_transmission=execution.keep_transmission) as file,
        ):
            assemble(file, shards, folder=where)
        with (
            written_whole(run.path / SCAN) as path,
            create(
                path,
                beam=told_beam(microscope, seeds=seeds),
                rows=detector.rows,
                flats=first["flats"],
                darks=first["darks"],
                energy_kev=microscope.energy_kev,
                sample=sample,
                facts=_instrument(microscope),
                flat_views=None if first["flat_views"] is None else np.asarray(first["flat_views"], np.intp),
                chunk_rows=min(execution.slab_rows, detector.rows),
            ) as file,
        ):
            assemble(file, shards, folder=where)
    discard(run, "scan")


def _created_truth(
    path: Path, microscope: MicroscopeRecipe, seeds: Seeds, *, keep_transmission: bool
) -> AbstractContextManager[File]:
    """Create the scan's truth with all but the noise-free transmission, which comes slab by slab."""
    rows = microscope.detector.rows
    truth = scan_truth(microscope, range(rows), seeds=seeds)
    named = {field.name: getattr(truth, field.name) for field in fields(truth)}
    whole = {name: value for name, value in named.items() if isinstance(value, np.ndarray | float | int)}
    shape = (microscope.stage.views, rows, microscope.detector.columns)
    by_row = {"transmission": RowArray(shape, 1, np.float32)} if keep_transmission else {}
    facts = {"recipe_digest": truth.made_by.recipe_digest, "root_seed": seeds.root}
    return create_scan_truth(path, whole=whole, by_row=by_row, told=set(truth.told), facts=facts)


def _reconstructed_rows(scan_file: ScanFile, recipe: ReconstructionRecipe, plan: Plan, name: str, rows: range) -> Slab:
    halo = plan.halo_rows
    held = range(max(0, rows.start - halo), min(scan_file.rows, rows.stop + halo))
    part = reconstruct(scan_file.read(held), recipe, plan=plan, rows=rows, threads=threads())
    counts = {kind: int(number) for kind, number in asdict(part.counts).items()}
    facts = {"counts": counts, "removed_rms": part.removed_rms.tolist()}
    return Slab({name: slices(part.volume.values, compressed=False)}, facts)


def rows_looked_at(alignment: AlignmentRecipe, rows: int) -> tuple[range, list[range]]:
    """Return the rows of a detector that tell axis and motion, and those that tell the axis' tilt."""
    middle = middle_rows(rows, _ROWS_ALIGNED if alignment.method != "none" and alignment.rows else ROWS_LOOKED_AT)
    return middle, spread_rows(rows) if alignment.tilt == "fit" else []


def plan_reconstruction_of(scan_file: ScanFile, recipe: ReconstructionRecipe, progress: Progress) -> Plan:
    """Find what concerns a whole scan (axis, filters) from rows in its middle."""
    progress("axis, filters", 0, 1)
    middle, spread = rows_looked_at(recipe.alignment, scan_file.rows)
    plan = prepare(scan_file.read(middle), recipe, spread=[scan_file.read(rows) for rows in spread])
    progress("axis, filters", 1, 1)
    return plan


def reconstruct_scan(
    run: RunFolder,
    scan_file: ScanFile,
    recipe: ReconstructionRecipe,
    plan: Plan,
    *,
    execution: ExecutionRecipe,
    executor: Executor,
    progress: Progress,
) -> None:
    """Reconstruct a scan file, simulated or real, and record what was found on the way (axis, counts, stripes)."""
    width = recipe.width_px or scan_file.beam.columns
    shape = (scan_file.rows, width, width)
    name, unit = ("attenuation_per_um", "1/um") if scan_file.pixel_known else ("attenuation_per_pixel", "1/pixel")
    voxel_nm = scan_file.beam.pixel_nm if scan_file.pixel_known else None
    inputs = (SCAN,) if scan_file.path == run.path / SCAN else ()
    virtual = execution.virtual(array_bytes([(shape, np.float32)]))
    with run.stage("reconstruct", RECONSTRUCTION, inputs=inputs) as facts:
        shards = make_shards(
            run,
            "reconstruct",
            partial(_reconstructed_rows, scan_file, recipe, plan, name),
            slabs(scan_file.rows, execution.slab_rows),
            executor=executor,
            progress=progress,
            kept_for=RECONSTRUCTION if virtual else None,
            inputs=inputs,
        )
        counts: Counter[str] = Counter()
        for shard in shards:
            counts.update(shard.facts["counts"])
        removed = np.concatenate([shard.facts["removed_rms"] for shard in shards])
        facts |= {
            "projector": plan.projector,
            "rotation_axis_px": plan.axis.px,
            "rotation_axis_uncertainty_px": plan.axis.uncertainty_px,
            "rotation_axis_method": plan.axis.method,
            "stripes_removed_rms": float(np.sqrt(np.mean(np.square(removed)))),
            "counts": dict(counts),
            "unit": unit,
            **_motion_facts(plan),
        }
        with (
            written_whole(run.path / RECONSTRUCTION) as path,
            create_volumes(path, shape, {name: np.float32}, voxel_nm=voxel_nm, compressed=False) as file,
        ):
            assemble(file, shards, folder=run.path if virtual else None)
            write_found(
                file,
                column_shift_px=None if plan.alignment is None else plan.alignment.column_shift_px,
                row_shift_px=None if plan.alignment is None else plan.alignment.row_shift_px,
                axis_tilt_rad=None if plan.tilt is None else plan.tilt.angle_rad,
            )
            file.attrs.update({key: facts[key] for key in ("projector", "rotation_axis_px", "unit")})
    discard(run, "reconstruct")


def _motion_facts(plan: Plan) -> dict[str, float]:
    """Return what was found of the stage's motion, for the record."""
    facts = {}
    if plan.alignment is not None:
        for name, shift in (
            ("run_out_rms_px", plan.alignment.column_shift_px),
            ("row_run_out_rms_px", plan.alignment.row_shift_px),
        ):
            facts[name] = float(np.sqrt(np.mean(np.square(shift))))
    if plan.tilt is not None:
        facts["axis_tilt_deg"] = float(np.degrees(plan.tilt.angle_rad))
        facts["axis_tilt_uncertainty_deg"] = float(np.degrees(plan.tilt.uncertainty))
    return facts
