"""Commands that do one stage of the road, on the folder of a run or on a file that has none."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from npsi_twin.cli_options import (
    OWN_LABELS,
    AlignOption,
    AllowRoot,
    BreakLock,
    ConditionName,
    FlatFromAir,
    HypothesisName,
    Json,
    LineIntegrals,
    MaxMemory,
    MaxMemoryOfFile,
    NoDarks,
    Normalised,
    Out,
    Overwrite,
    PixelNm,
    Preset,
    ProjectorOption,
    Repair,
    Resume,
    RingCurrent,
    RouteOption,
    RunPath,
    Scheduler,
    Seed,
    SpecificationFile,
    Theta,
    ThetaUnitOption,
    Threads,
    TiltOption,
    VolumeName,
    VoxelNm,
    Where,
    Workers,
    alignment_from,
    corrections_from,
    is_run_folder,
    measured_text,
    print_result,
    reading_from,
    specification_from,
    tell_where_incomplete,
)
from npsi_twin.cli_progress import progress_shown
from npsi_twin.errors import ParameterError


def build(
    spec: SpecificationFile = None,
    out: Out = Path("runs/twin"),
    preset: Preset = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    seed: Seed = None,
    condition: ConditionName = None,
    hypothesis: HypothesisName = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    break_lock: BreakLock = False,
    as_json: Json = False,
) -> None:
    """Make the electrode and write its truth (truth.h5).

    Example: npsi-twin build study.toml --out runs/study
    """
    from npsi_twin.plan import within_memory
    from npsi_twin.twin import build_run

    specification = specification_from(spec, preset, seed, condition, hypothesis)
    with progress_shown() as progress:
        result = build_run(
            within_memory(specification, max_memory, workers=workers),
            out,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(result, as_json, lambda _: f"Wrote {out / 'truth.h5'}. Next: npsi-twin scan {out}")


def _only_for_files(folder: Path, **options: object) -> None:
    """Refuse options that a run folder's own specification answers already."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise ParameterError(
            f"{folder}: is a run folder, whose specification.toml decides; {', '.join(given)} is for single files. "
            "Change the specification and run again, or give the file itself."
        )


def _stage(
    folder: Path,
    name: str,
    workers: int,
    as_json: bool,
    written: str,
    following: str,
    scan_format: Literal["dataexchange", "nxtomo"] = "dataexchange",
    *,
    threads: int | None = None,
    scheduler: str | None = None,
    break_lock: bool = False,
) -> None:
    from npsi_twin.twin import run_stage

    with progress_shown() as progress:
        result = run_stage(
            folder,
            name,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            break_lock=break_lock,
            progress=progress,
            scan_format=scan_format,
        )
    print_result(result, as_json, lambda _: f"Wrote {folder / written}.{following}")


def scan(
    path: Annotated[Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or an object of your own.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the scan of a VOLUME.")] = None,
    microscope: Annotated[
        str | None,
        typer.Option(help="Microscope for a VOLUME: aps-32-id-c-2018, demo, tiny, zhao2018, or a TOML file."),
    ] = None,
    compounds: Annotated[
        Path | None, typer.Option(help="TOML file that says what the labels of a VOLUME are made of.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of a VOLUME's attenuation, e.g. 1/um or 1/cm, where it is not stated.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    seed: Seed = None,
    scan_format: Annotated[
        Literal["dataexchange", "nxtomo"], typer.Option("--format", help="Layout of the scan file.")
    ] = "dataexchange",
    projector: ProjectorOption = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    break_lock: BreakLock = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Scan the electrode of a run, or any object of your own, in the simulated microscope (scan.h5).

    An object is a volume (z, y, x), z along the rotation axis, in HDF5, TIFF, npz or npy: attenuation, or labels with
    --compounds, one table a label: [1] formula = "Si", density_g_per_cm3 = 2.329 (or material = "copper", or
    attenuation_per_um = 0.015).

    Example: npsi-twin scan runs/study

    Example: npsi-twin scan object.tif --microscope demo --voxel-nm 50 --unit 1/um --out runs/own

    Example: npsi-twin scan labels.npy --microscope demo --voxel-nm 50 --compounds compounds.toml --out runs/own
    """
    if is_run_folder(path):
        _only_for_files(
            path,
            out=out,
            microscope=microscope,
            compounds=compounds,
            unit=unit,
            dataset=dataset,
            voxel_nm=voxel_nm,
            seed=seed,
            max_memory=max_memory,
            projector=projector,
            resume=resume,
            overwrite=overwrite,
        )
        _stage(
            path,
            "scan",
            workers,
            as_json,
            "scan.h5",
            f" Next: npsi-twin reconstruct {path}",
            scan_format,
            threads=threads,
            scheduler=scheduler,
            break_lock=break_lock,
        )
        return
    if out is None or microscope is None:
        raise ParameterError(
            "scan: an object of your own needs --microscope (a name or a TOML file) and --out, the folder for its scan."
        )
    from npsi_twin.execution import ExecutionRecipe
    from npsi_twin.object_scan import microscope_from, scan_object

    with progress_shown() as progress:
        result = scan_object(
            path,
            out,
            microscope_from(microscope),
            dataset=dataset,
            voxel_nm=voxel_nm,
            unit=unit,
            compounds=compounds,
            seed=42 if seed is None else seed,
            scan_format=scan_format,
            execution=ExecutionRecipe(projector=projector or "auto"),
            max_memory=max_memory,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    print_result(
        result,
        as_json,
        lambda _: f"Wrote {out / 'scan.h5'}. Next: npsi-twin reconstruct {out / 'scan.h5'} --out {out}-reconstructed",
    )


def reconstruct(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|SCAN",
            help="Folder of a run, or any scan: Data Exchange, NXtomo, NSLS-II FXI, folder of TIFF images.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the result of a SCAN.")] = None,
    spec: Annotated[Path | None, typer.Option(help="Specification whose [reconstruction] is used for a SCAN.")] = None,
    algorithm: Annotated[
        Literal["sirt-fbp", "fbp", "sirt", "landweber", "cgls", "tv"] | None,
        typer.Option(help="Algorithm, instead of the specification's."),
    ] = None,
    route: RouteOption = None,
    axis_px: Annotated[float | None, typer.Option(help="Column of the rotation axis; found when left out.")] = None,
    pixel_nm: PixelNm = None,
    theta_unit: ThetaUnitOption = None,
    theta: Theta = "",
    where: Where = "",
    assume_normalised: Normalised = False,
    line_integrals: LineIntegrals = False,
    repair: Repair = False,
    flat_from_air: FlatFromAir = None,
    no_darks: NoDarks = False,
    ring_current: RingCurrent = False,
    align: AlignOption = None,
    tilt: TiltOption = None,
    allow_root: AllowRoot = None,
    workers: Workers = 1,
    threads: Threads = None,
    scheduler: Scheduler = None,
    max_memory: MaxMemory = None,
    break_lock: BreakLock = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Reconstruct a simulated scan, or a real one with the very same code.

    Example: npsi-twin reconstruct tooth.h5 --out runs/tooth
    """
    if path.is_dir() and (out is None or (path / "run.json").is_file()):
        _only_for_files(
            path,
            out=out,
            spec=spec,
            algorithm=algorithm,
            route=route,
            axis_px=axis_px,
            pixel_nm=pixel_nm,
            theta_unit=theta_unit,
            theta=theta or None,
            where=where or None,
            assume_normalised=assume_normalised,
            line_integrals=line_integrals,
            repair=repair,
            flat_from_air=flat_from_air,
            no_darks=no_darks,
            ring_current=ring_current,
            align=align,
            tilt=tilt,
            max_memory=max_memory,
            allow_root=allow_root,
            resume=resume,
            overwrite=overwrite,
        )
        _stage(
            path,
            "reconstruct",
            workers,
            as_json,
            "reconstruction.h5",
            f" Next: npsi-twin segment {path}",
            threads=threads,
            scheduler=scheduler,
            break_lock=break_lock,
        )
        return
    if out is None:
        raise ParameterError("reconstruct: a scan file needs --out, the folder for its result.")
    from npsi_twin.single_files import reconstruct_file

    changes = {"algorithm": algorithm, "route": route, "rotation_axis_px": axis_px}
    corrections = corrections_from(
        repair=repair, flat_from_air=flat_from_air, no_darks=no_darks, ring_current=ring_current
    )
    with progress_shown() as progress:
        result = reconstruct_file(
            path,
            out,
            specification=None if spec is None else specification_from(spec, None, None),
            changes={name: value for name, value in changes.items() if value is not None},
            corrections=corrections,
            alignment=alignment_from(align, tilt),
            pixel_nm=pixel_nm,
            theta_unit=theta_unit,
            assume_normalised=assume_normalised,
            reading=reading_from(theta, where, line_integrals, allow_root, repair=repair, flat_from_air=flat_from_air),
            max_memory=max_memory,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            break_lock=break_lock,
            progress=progress,
        )
    axis = result["rotation_axis_px"]
    print_result(result, as_json, lambda _: f"Rotation axis at column {axis:.2f}. Open {out / 'report.html'}")


def segment(
    path: Annotated[
        Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or a volume of attenuation per um.")
    ],
    out: Annotated[Path | None, typer.Option(help="Label file to write for a VOLUME.")] = None,
    spec: Annotated[Path | None, typer.Option(help="Specification whose [segmentation] is used for a VOLUME.")] = None,
    forest: Annotated[
        Path | None, typer.Option(help="Trained forest (.npz) that takes the place of the method, for a VOLUME.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    max_memory: MaxMemoryOfFile = None,
    as_json: Json = False,
) -> None:
    """Tell silicon, void and foil apart, as the paper did or by another method (segmentation.h5).

    The specification's [segmentation] names filter, method and threshold; by default it smooths and thresholds.

    Example: npsi-twin segment runs/study
    """
    if is_run_folder(path):
        _only_for_files(
            path, out=out, spec=spec, forest=forest, dataset=dataset, voxel_nm=voxel_nm, max_memory=max_memory
        )
        _stage(path, "segment", 1, as_json, "segmentation.h5", f" Next: npsi-twin measure {path}")
        return
    if out is None:
        raise ParameterError("segment: a volume needs --out, the label file to write.")
    from npsi_twin.single_files import segment_file

    tell_where_incomplete(path)
    recipe = None if spec is None else specification_from(spec, None, None).segmentation
    result = segment_file(path, out, recipe, forest=forest, dataset=dataset, voxel_nm=voxel_nm, max_memory=max_memory)
    print_result(result, as_json, lambda _: f"Wrote {out}. Next: npsi-twin measure {out}")


def measure(
    path: Annotated[Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or any label volume.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Meaning of the labels of a VOLUME, e.g. '0=void,1=silicon'."),
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    closing_radius_nm: Annotated[
        float | None, typer.Option(help="Radius of the ball that closes silicon into particles, for a VOLUME.")
    ] = None,
    max_memory: MaxMemoryOfFile = None,
    as_json: Json = False,
) -> None:
    """Measure truth and recovered volume of a run alike, or any label volume (TIFF, npz, npy, HDF5).

    Example: npsi-twin measure berea.npz --voxel-nm 5345 --labels 0=silicon,1=void
    """
    if is_run_folder(path):
        _only_for_files(
            path,
            labels=labels,
            dataset=dataset,
            voxel_nm=voxel_nm,
            closing_radius_nm=closing_radius_nm,
            max_memory=max_memory,
        )
        _stage(path, "measure", 1, as_json, "measurements.csv", f" Next: npsi-twin compare {path}")
        return
    from npsi_twin.single_files import measure_file

    tell_where_incomplete(path)
    result = measure_file(
        path,
        labels=labels or OWN_LABELS,
        dataset=dataset,
        voxel_nm=voxel_nm,
        closing_radius_nm=closing_radius_nm,
        max_memory=max_memory,
    )
    print_result(result, as_json, measured_text)


def compare(folder: RunPath, as_json: Json = False) -> None:
    """Hold the recovered numbers against the truth and the published ones (comparison.json).

    Example: npsi-twin compare runs/study
    """
    _stage(folder, "compare", 1, as_json, "comparison.json", f" Next: npsi-twin report {folder}")


def report(folder: RunPath, as_json: Json = False) -> None:
    """Draw the figures and write the self-contained page (report.html).

    Example: npsi-twin report runs/study
    """
    _stage(folder, "report", 1, as_json, "report.html", "")
