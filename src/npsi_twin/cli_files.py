"""Commands on single files: look at a scan, hand a volume to another program, score the labels that one made."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from npsi_twin.cli_options import (
    OWN_LABELS,
    AllowRoot,
    Json,
    LineIntegrals,
    MaxMemoryOfFile,
    Normalised,
    PixelNm,
    Theta,
    ThetaUnitOption,
    VolumeName,
    VoxelNm,
    Where,
    is_run_folder,
    measured_text,
    reading_from,
    tell_where_incomplete,
)
from npsi_twin.errors import DataError, ParameterError


def inspect_scan_file(
    path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="Scan file, or folder of TIFF images.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Picture (.png) or page (.html) to write; FILE-inspect.png here when left out."),
    ] = None,
    text_only: Annotated[bool, typer.Option("--text-only", help="Print the facts and write nothing.")] = False,
    pixel_nm: PixelNm = None,
    theta_unit: ThetaUnitOption = None,
    theta: Theta = "",
    where: Where = "",
    assume_normalised: Normalised = False,
    line_integrals: LineIntegrals = False,
    allow_root: AllowRoot = None,
    max_memory: MaxMemoryOfFile = None,
) -> None:
    """Look at a scan: projections, sinogram, counts, noise, drift, angles, and what is missing.

    Example: npsi-twin inspect runs/study/scan.h5 --out scan.html
    """
    if out is not None and (text_only or out.suffix.lower() not in (".png", ".html")):
        raise ParameterError(f"--out: got {out.name}; give a name that ends in .png or .html, without --text-only.")
    if out is not None and out.exists():
        raise DataError(f"{out}: exists. Give another name with --out, or remove it first.")
    from npsi_twin.memory import limited_memory
    from npsi_twin.report.scan_facts import facts_text, inspect_scan

    with limited_memory(max_memory):
        facts = inspect_scan(
            path,
            pixel_nm=pixel_nm,
            theta_unit=theta_unit,
            assume_normalised=assume_normalised,
            reading=reading_from(theta, where, line_integrals, allow_root),
        )
    for line in facts_text(facts):
        typer.echo(line)
    if text_only:
        return
    from npsi_twin.execution import written_whole
    from npsi_twin.report.inspection import write_inspection

    target = out or _free_name(f"{path.resolve().stem}-inspect")
    with written_whole(target) as temporary:
        write_inspection(temporary, facts, as_page=target.suffix.lower() == ".html")
    typer.echo(f"Wrote {target}")


def _free_name(stem: str) -> Path:
    """Return the first name that is not taken in the current folder, so that no picture is overwritten."""
    numbers = ("", *(f"-{number}" for number in range(2, 10_000)))
    return next(path for path in (Path(f"{stem}{number}.png") for number in numbers) if not path.exists())


def export_volume_file(
    path: Annotated[Path, typer.Argument(metavar="DIR|VOLUME", help="Folder of a run, or a volume.")],
    out: Annotated[Path, typer.Option(help="File to write; a folder .zarr for ome-zarr.")],
    to: Annotated[Literal["tiff", "ome-zarr", "npy"], typer.Option(help="Format.")] = "tiff",
    what: Annotated[
        Literal["reconstruction", "segmentation", "truth"] | None, typer.Option(help="Which volume of a run.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    max_memory: MaxMemoryOfFile = None,
) -> None:
    """Write a volume for other programs (Fiji, napari, Dragonfly), with its voxel size and unit.

    Example: npsi-twin export runs/study --what reconstruction --to tiff --out reconstruction.tif
    """
    from npsi_twin.memory import limited_memory
    from npsi_twin.storage.exports import export_volume
    from npsi_twin.storage.volumes import open_volume

    if is_run_folder(path):
        if what is None:
            raise ParameterError("export: a run needs --what: reconstruction, segmentation or truth.")
        path = path / f"{what}.h5"
        # A run's truth has many data sets; what is compared with the reconstruction is its attenuation.
        dataset = dataset or ("attenuation_per_um" if what == "truth" else None)
    elif what is not None:
        raise ParameterError(f"export: --what is for the folder of a run; {path} is a volume. Leave it out.")
    tell_where_incomplete(path)
    volume = open_volume(path, dataset, voxel_nm=voxel_nm)
    with limited_memory(max_memory):
        written = export_volume(volume, out, to)
    typer.echo(f"Wrote {written} ({volume.shape}, voxel {volume.voxel_nm:g} nm)")


def score_label_file(
    path: Annotated[
        Path, typer.Argument(metavar="LABELS", help="Label volume: TIFF, HDF5, npy, npz, or folder .zarr of OME-Zarr.")
    ],
    truth: Annotated[Path, typer.Option(help="Folder of the run whose reconstruction was segmented.")],
    meaning: Annotated[
        str, typer.Option(help="Meaning of the labels, e.g. '1=void,2=silicon,3=current_collector'.")
    ] = OWN_LABELS,
    out: Annotated[
        Path | None, typer.Option(help="File for the scores; scores.json beside LABELS when left out.")
    ] = None,
    dataset: VolumeName = None,
    voxel_nm: VoxelNm = None,
    max_memory: MaxMemoryOfFile = None,
    as_json: Json = False,
) -> None:
    """Score labels made in Ilastik, Dragonfly, Avizo, nnU-Net or anything else against the truth of a run.

    Overlap, distances of surfaces, what is found at which size (scores.json). LABELS must hold a label for every voxel
    of the run's reconstruction, (z, y, x).

    Example: npsi-twin score ilastik.h5 --truth runs/study --meaning 1=void,2=silicon,3=current_collector
    """
    from npsi_twin.comparison.label_scores import score_labels
    from npsi_twin.costs import check_file
    from npsi_twin.execution import write_text_whole
    from npsi_twin.plan import score_file_bytes
    from npsi_twin.single_files import parse_labels
    from npsi_twin.storage.measurements import scores_tree
    from npsi_twin.storage.own_labels import open_truth, read_labels, true_volume
    from npsi_twin.storage.volumes import open_volume

    target = path.parent / "scores.json" if out is None else out
    if target.exists():
        raise DataError(f"{target}: exists. Give another name with --out, or remove it first.")
    tell_where_incomplete(truth, path)
    true = open_truth(truth)
    claimed = open_volume(path, dataset, voxel_nm=voxel_nm)
    check_file("score", path, score_file_bytes(claimed.shape, claimed.dtype.itemsize), max_memory)
    check_file("score", true.path, score_file_bytes(true.shape, 1), max_memory)
    labels = read_labels(path, true, parse_labels(meaning), dataset=dataset, voxel_nm=voxel_nm)
    scores = score_labels(
        true.whole(),
        labels,
        silicon_fraction=true_volume(true, "silicon_fraction"),
        particle_id=true_volume(true, "particle_id"),
    )
    tree = {"labels": str(path), "truth": str(true.path), "voxel_nm": labels.voxel_nm, **scores_tree(scores)}
    text = json.dumps(tree, indent=2, allow_nan=False) + "\n"
    write_text_whole(target, text)
    typer.echo(text.rstrip() if as_json else f"{measured_text(tree)}\nWrote {target}")
