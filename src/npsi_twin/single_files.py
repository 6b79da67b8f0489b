"""Single files that have no run: reconstruct a scan, segment a volume, measure labels, by what a run does too.

Each takes a file of any layout that `npsi_twin.storage` reads; what a file does not state, a caller does. Nothing is
read that would need more memory than there is.
"""

import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npsi_twin import stages
from npsi_twin.costs import Costs, check_file, check_resources, slabs_within
from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import (
    ExecutionRecipe,
    Progress,
    code_sha256,
    open_run,
    opened_executor,
    silent,
    write_text_whole,
    written_whole,
)
from npsi_twin.morphology.forest import load_forest
from npsi_twin.morphology.measure import MeasurementRecipe, measure, relabel
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.plan import measure_file_bytes, plan_reconstruction, segment_file_bytes
from npsi_twin.provenance import SPECIFICATION, finish, input_facts, remember
from npsi_twin.report.run_page import FIGURES, write_reconstruction_page
from npsi_twin.specification import Specification, parse_values, to_toml
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.scanfile import Reading, ThetaUnit
from npsi_twin.storage.volumes import open_volume, write_volume
from npsi_twin.volumes import Phase


def reconstruct_file(
    path: Path,
    folder: Path,
    *,
    specification: Specification | None = None,
    changes: Mapping[str, Any] | None = None,
    corrections: Mapping[str, Any] | None = None,
    alignment: Mapping[str, Any] | None = None,
    pixel_nm: float | None = None,
    theta_unit: ThetaUnit | None = None,
    assume_normalised: bool = False,
    reading: Reading | None = None,
    max_memory: str | None = None,
    workers: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    break_lock: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reconstruct any scan with the code that reconstructs simulated scans.

    Parameters
    ----------
    path
        The scan: Data Exchange, NXtomo, NSLS-II FXI, or a folder of TIFF images.
    folder
        Where ``reconstruction.h5``, ``report.html`` and ``run.json`` go.
    specification
        Its reconstruction recipe and slab height are used; the defaults when None.
    changes
        Fields of the reconstruction recipe to change.
    corrections
        Fields of its correction recipe to change; a scan without flats that gives ``air_columns_px`` is lit by its air.
    alignment
        Fields of its alignment recipe to change.
    pixel_nm, theta_unit, assume_normalised, reading
        What the file does not state; see `open_scan`.
    max_memory
        Memory that decides the height of slabs, such as ``"8GiB"``; see `npsi_twin.plan.within_memory`.
    workers, threads, scheduler, resume, overwrite, break_lock, progress
        As for `run_twin`.

    Returns
    -------
    dict
        What was found: rotation axis, projector, counts of corrections.

    Raises
    ------
    DataError
        When the file cannot be used; nothing is written then.
    """
    specification = specification or Specification()
    recipe = parse_values(specification.reconstruction, changes or {}, "reconstruction")
    scan_file = open_scan(
        path, pixel_nm=pixel_nm, theta_unit=theta_unit, assume_normalised=assume_normalised, reading=reading
    )
    if corrections:
        asked = dict(corrections)
        if scan_file.flats is None and not scan_file.normalised and "air_columns_px" in asked:
            asked["flat_field"] = "air"
        corrected = parse_values(recipe.corrections, asked, "reconstruction.corrections")
        recipe = recipe.model_copy(update={"corrections": corrected})
    if alignment:
        aligned = parse_values(recipe.alignment, alignment, "reconstruction.alignment")
        recipe = recipe.model_copy(update={"alignment": aligned})

    def costs(execution: ExecutionRecipe) -> Costs:
        return plan_reconstruction(scan_file, execution, recipe, workers=workers)

    execution = slabs_within(specification.execution, max_memory, costs)
    needed = costs(execution).beyond(folder) if resume else costs(execution)
    check_resources(needed, folder, scheduler=scheduler, overwrite=overwrite)
    # What may fail for the data's sake fails here, before anything is written.
    plan = stages.plan_reconstruction_of(scan_file, recipe, progress)
    reading = reading or Reading()
    request = {
        "scan": path.name,
        "scan_sha256": scan_file.sha256(),
        "theta_unit": theta_unit,
        "assume_normalised": assume_normalised,
        "reading": reading.as_request(),
        "recipe": recipe.digest(),
        "pixel_nm": scan_file.beam.pixel_nm if scan_file.pixel_known else None,
        "execution": execution.digest(),
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
        write_text_whole(run.path / SPECIFICATION, to_toml(recipe, ("reconstruction",)))
        stated = {
            "pixel_nm": pixel_nm,
            "execution": execution.model_dump(mode="json"),
            "allowed_roots": [str(root.resolve()) for root in reading.allow_roots],
        }
        scanned = input_facts(path, str(request["scan_sha256"]))
        remember(run, asked=(SPECIFICATION,), inputs=(scanned,), arguments=stated)
        if not run.has("reconstruct"):
            stages.reconstruct_scan(
                run,
                scan_file,
                recipe,
                plan,
                execution=execution,
                executor=executor,
                progress=progress,
            )
        with run.stage("report", "report.html", sometimes=FIGURES):
            write_reconstruction_page(run.path, scan_file=scan_file, state=run.state, axis=plan.axis)
        finish(run)
        facts = {key: value for key, value in run.state["stages"]["reconstruct"].items() if key != "files"}
        return {"folder": str(folder), "status": "complete", **facts}


def segment_file(
    path: Path,
    out: Path,
    recipe: SegmentationRecipe | None = None,
    *,
    forest: Path | None = None,
    dataset: str | None = None,
    voxel_nm: float | None = None,
    max_memory: str | None = None,
) -> dict[str, Any]:
    """Segment any volume of attenuation in 1/um, by a recipe or a trained forest, and write its labels as HDF5.

    Nothing of a volume is read that would need more than ``max_memory``, such as ``"8GiB"``.
    """
    if out.suffix not in (".h5", ".hdf5"):
        raise ParameterError(f"--out: got {out.name}; labels are written as HDF5. Give a name that ends in .h5.")
    if out.exists():
        raise DataError(f"{out}: exists. Give another name with --out, or remove it first.")
    found = open_volume(path, dataset, voxel_nm=voxel_nm)
    if found.dtype.kind != "f":
        raise DataError(f"{path}: holds whole numbers, such as labels; attenuation in 1/um is needed to segment it.")
    check_file("segment", path, segment_file_bytes(found.shape, found.dtype.itemsize), max_memory)
    volume = found.whole()
    segmentation = segment(volume, recipe, method=None if forest is None else load_forest(forest))
    with written_whole(out) as temporary:
        write_volume(temporary, "phase", segmentation.labels)
    return {"file": str(out), "method": segmentation.made_by.backend}


def parse_labels(text: str) -> dict[int, Phase]:
    """Read the meaning of labels.

    Examples
    --------
    >>> parse_labels("0=void, 1=silicon")
    {0: <Phase.VOID: 0>, 1: <Phase.SILICON: 1>}
    """
    meaning = {}
    for item in text.split(","):
        label, _, name = (part.strip() for part in item.partition("="))
        if not label.isdecimal() or name.upper() not in Phase.__members__:
            known = ", ".join(phase.name.lower() for phase in Phase)
            raise ParameterError(f"--labels: got {item.strip()!r}; write label=phase with a phase out of {known}.")
        if int(label) in meaning:
            raise ParameterError(f"--labels: label {label} is given twice; every label has one meaning.")
        meaning[int(label)] = Phase[name.upper()]
    return meaning


def measure_file(
    path: Path,
    *,
    labels: str,
    dataset: str | None = None,
    voxel_nm: float | None = None,
    closing_radius_nm: float | None = None,
    max_memory: str | None = None,
) -> dict[str, Any]:
    """Measure any label volume.

    Parameters
    ----------
    path
        TIFF, npz, npy or HDF5.
    labels
        Meaning of its labels, ``"0=void,1=silicon"``.
    dataset
        Name of the array where the file holds several.
    voxel_nm
        Edge of a voxel in nm, where the file does not state it.
    closing_radius_nm
        Radius of the ball that closes the silicon into particles; the default of `MeasurementRecipe` when None.
    max_memory
        Memory, such as ``"8GiB"``, beyond which nothing of a volume is read.

    Returns
    -------
    dict
        Quantity -> value (None when not available), spread, unit, n, note.
    """
    changes = {} if closing_radius_nm is None else {"closing_radius_nm": closing_radius_nm}
    recipe = parse_values(MeasurementRecipe(), changes, "measurement")
    meaning = parse_labels(labels)
    found = open_volume(path, dataset, voxel_nm=voxel_nm)
    check_file("measure", path, measure_file_bytes(found.shape, found.dtype.itemsize), max_memory)
    volume = relabel(found.whole(), meaning)
    quantities = {
        name: {
            "value": None if math.isnan(entry.value) else entry.value,
            "spread": None if math.isnan(entry.spread) else entry.spread,
            "unit": entry.unit,
            "n": entry.n,
            "note": entry.note,
        }
        for name, entry in measure(volume, None, recipe).quantities.items()
    }
    return {"file": str(path), "voxel_nm": volume.voxel_nm, "quantities": quantities}
