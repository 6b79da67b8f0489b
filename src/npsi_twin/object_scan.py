"""Scan your own object: any volume of attenuation, or of labels with compounds, through the very same microscope.

`scan_object` takes a volume file and a microscope and writes a run folder with ``scan.h5`` (what a beamline would
write), ``truth.h5`` (the object on the voxels of a reconstruction, and what the stage really did), ``microscope.toml``
and, for labels, ``compounds.toml``. The object is resampled onto the microscope's fine grid by `npsi_twin.resampling`,
which conserves attenuation, and is projected, imaged and recorded by the same functions as an electrode.
"""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from npsi_twin import stages
from npsi_twin.costs import check_resources, slabs_within
from npsi_twin.errors import DataError, IncompatibleError, OutOfRangeWarning, ParameterError
from npsi_twin.execution import (
    ExecutionRecipe,
    Executor,
    Progress,
    RunFolder,
    code_sha256,
    file_sha256,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
)
from npsi_twin.execution.shards import Slab
from npsi_twin.plan import plan_object_scan
from npsi_twin.projectors.choice import available_projector
from npsi_twin.provenance import finish, input_facts, remember
from npsi_twin.seeds import Seeds
from npsi_twin.specification import PRESETS, parse_values, preset_specification, to_toml
from npsi_twin.storage.own_object import Footprint, OwnObject, open_object
from npsi_twin.toml_files import read_toml, read_toml_text
from npsi_twin.txm.microscope import MicroscopeRecipe, simulation_grid, stage_truth
from npsi_twin.txm.presets import MICROSCOPES, microscope_preset
from npsi_twin.volumes import VoxelGrid

MICROSCOPE, COMPOUNDS = "microscope.toml", "compounds.toml"


def microscope_from(words: str) -> MicroscopeRecipe:
    """Return a microscope by name or from a file.

    Parameters
    ----------
    words
        Name of an instrument (`npsi_twin.txm.presets`) or of a specification shipped by name, whose microscope is
        taken; or a TOML file with a table ``[microscope]``.

    Raises
    ------
    ParameterError
        For an unknown name, or a file that describes no microscope.

    Examples
    --------
    >>> microscope_from("demo").detector.columns
    400
    """
    if words in MICROSCOPES:
        return microscope_preset(words).recipe
    if words in PRESETS:
        return preset_specification(words).microscope
    path = Path(words)
    if not path.is_file():
        raise ParameterError(
            f"--microscope: {words!r} is neither a file nor a microscope that is shipped: "
            f"{', '.join((*MICROSCOPES, *PRESETS))}. Write one with `npsi-twin init` and keep its [microscope]."
        )
    tree = read_toml(path, "a TOML file with a table [microscope]")
    if not isinstance(tree.get("microscope"), dict):
        raise ParameterError(f"{path}: has no table [microscope]. Write one with `npsi-twin init`.")
    return parse_values(MicroscopeRecipe(), tree["microscope"], "microscope")


def scan_object(
    path: Path,
    folder: Path,
    microscope: MicroscopeRecipe,
    *,
    dataset: str | None = None,
    voxel_nm: float | None = None,
    unit: str | None = None,
    compounds: Path | None = None,
    seed: int = 42,
    scan_format: stages.ScanFormat = "dataexchange",
    execution: ExecutionRecipe | None = None,
    max_memory: str | None = None,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Scan a user's own object.

    Parameters
    ----------
    path
        Volume of attenuation or labels: HDF5 (also a run's ``truth.h5``), TIFF, npz or npy, (z, y, x), z along the
        rotation axis.
    folder
        Where everything goes.
    microscope
        From `microscope_from`, or any recipe.
    dataset, voxel_nm, unit, compounds
        What the file does not state; see `npsi_twin.storage.own_object.open_object`.
    seed
        Root of every random number.
    scan_format
        Layout of the scan file.
    execution
        Height of a slab, and who projects; the default when None.
    max_memory
        Memory that decides the height of slabs, such as ``"8GiB"``; see `npsi_twin.plan.within_memory`.
    workers, threads, scheduler, resume, overwrite, break_lock, progress
        As for `npsi_twin.twin.run_twin`.

    Returns
    -------
    dict
        Summary: folder, files, what the object is.

    Raises
    ------
    DataError, ParameterError
        When the object cannot be used; nothing is written then.
    IncompatibleError
        When it reaches out of the field and that is not allowed.
    MissingBackendError
        When the projector asked for is not present.

    Warns
    -----
    OutOfRangeWarning
        Where its voxels are coarser than the detector's pixels, or some of it is left out.
    """
    execution = slabs_within(
        execution or ExecutionRecipe(), max_memory, partial(plan_object_scan, microscope, workers=workers)
    )
    found = open_object(path, microscope.energy_kev, dataset=dataset, voxel_nm=voxel_nm, unit=unit, compounds=compounds)
    costs = plan_object_scan(microscope, execution, workers=workers)
    check_resources(costs, folder, scheduler=scheduler, overwrite=overwrite)
    available_projector(execution.projector)
    _check_fit(found, found.footprint(), microscope)
    request = {
        "object_sha256": file_sha256(path),
        "dataset": found.volume.name,
        "voxel_nm": found.volume.voxel_nm,
        "labels_per_um": {str(label): value for label, value in found.labels},
        "unit_per_um": found.per_um,
        "microscope": microscope.digest(),
        "execution": execution.digest(),
        "seed": seed,
        "format": scan_format,
        "version": version("npsi-twin"),
        "code": code_sha256(),
    }
    with (
        open_run(
            folder,
            request=request,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        ) as run,
        opened_executor(workers, threads=threads, scheduler=scheduler, progress=progress) as executor,
    ):
        run.state["seed"] = seed
        write_text_whole(run.path / MICROSCOPE, to_toml(microscope, ("microscope",)))
        asked = (MICROSCOPE,) if compounds is None else (MICROSCOPE, COMPOUNDS)
        if compounds is not None:
            write_text_whole(run.path / COMPOUNDS, read_toml_text(compounds, "a TOML file with one table a label"))
        stated = {
            "dataset": dataset,
            "voxel_nm": voxel_nm,
            "unit": unit,
            "execution": execution.model_dump(mode="json"),
        }
        facts = input_facts(path, str(request["object_sha256"]))
        remember(run, asked=asked, inputs=(facts,), arguments=stated)
        for stage in ("truth", "scan"):
            if run.has(stage):
                continue
            for kept in run.reopen(stage):
                progress(f"kept {kept}, which this run did not write", 0, 1)
            if stage == "truth":
                _write_truth(run, found, microscope, Seeds(seed), execution, executor, progress)
                continue
            stages.scan_attenuation(
                run,
                found.attenuation_per_um,
                microscope,
                Seeds(seed),
                sample=path.stem,
                execution=execution,
                executor=executor,
                progress=progress,
                scan_format=scan_format,
            )
        finish(run)
    return {
        "folder": str(folder),
        "status": "complete",
        "scan": str(folder / stages.SCAN),
        "truth": str(folder / stages.TRUTH),
        "object_um": [round(n * found.volume.voxel_nm / 1000, 4) for n in found.volume.shape],
    }


def _write_truth(
    run: RunFolder,
    found: OwnObject,
    microscope: MicroscopeRecipe,
    seeds: Seeds,
    execution: ExecutionRecipe,
    executor: Executor,
    progress: Progress,
) -> None:
    """Write the object on the voxels that a reconstruction has, and what the stage really did."""
    detector = microscope.detector
    grid = VoxelGrid((detector.rows, detector.columns, detector.columns), detector.pixel_nm)
    stages.write_truth(
        run,
        "truth",
        partial(_object_rows, found, grid),
        grid,
        {"attenuation_per_um": np.float32},
        stage_truth(microscope, seeds=seeds),
        execution=execution,
        executor=executor,
        progress=progress,
    )


def _object_rows(found: OwnObject, grid: VoxelGrid, rows: range) -> Slab:
    values = found.attenuation_per_um(grid, rows)
    return Slab({"attenuation_per_um": stages.slices(values, compressed=True)}, {})


def _check_fit(found: OwnObject, footprint: Footprint, microscope: MicroscopeRecipe) -> None:
    """Refuse an object that leaves the field unasked, and say where its voxels or its size limit the simulation."""
    volume, detector = found.volume, microscope.detector
    if not footprint.occupied.any():
        raise DataError(
            f"{volume.path}: attenuates nowhere; there is nothing to scan. Check --dataset, --unit and --compounds."
        )
    if volume.voxel_nm > detector.pixel_nm:
        warn(
            f"{volume.path}: its voxels of {volume.voxel_nm:g} nm are larger than the detector's pixels of "
            f"{detector.pixel_nm:g} nm at the sample; the microscope sees their facets, and no feature finer than a "
            "voxel is in the object.",
            OutOfRangeWarning,
            stacklevel=3,
        )
    field_nm = microscope.field_radius_px * detector.pixel_nm
    # The middle of a fine voxel that an outer corner falls into lies at most half its diagonal further out.
    reach_nm = footprint.reach_nm + detector.pixel_nm / microscope.supersampling / np.sqrt(2)
    if reach_nm <= field_nm:
        return
    if not microscope.allow_truncation:
        raise IncompatibleError(
            f"{volume.path}: the object reaches {footprint.reach_nm / 1000:.2f} um from the rotation axis; the field "
            f"holds {field_nm / 1000:.2f} um in every view. What leaves the field falsifies the reconstruction. Give a "
            "smaller object, more microscope.detector.columns, or say microscope.allow_truncation = true."
        )
    half_nm = simulation_grid(microscope).shape[2] * simulation_grid(microscope).voxel_nm / 2
    y, x = np.nonzero(footprint.occupied)
    beyond = sum(
        np.abs(at - (n - 1) / 2) * volume.voxel_nm > half_nm for at, n in zip((y, x), volume.shape[1:], strict=True)
    )
    if np.any(beyond):
        warn(
            f"{volume.path}: {np.count_nonzero(beyond) / len(y):.1%} of the object's cross-section lie outside the "
            f"square of {2 * half_nm / 1000:.2f} um that is simulated and are left out, though they would stand in the "
            "beam.",
            OutOfRangeWarning,
            stacklevel=3,
        )
