"""The pages of a run folder: the whole road of a twin, or the reconstruction of a real scan.

Everything is read from the files of the run, so the page shows what is on disk, whoever made it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.execution import Executor, Progress, silent, written_whole
from npsi_twin.morphology.measure import Measurements
from npsi_twin.morphology.segmentation_recipe import SegmentationRecipe
from npsi_twin.morphology.smoothing import smoothed
from npsi_twin.reconstruction.rotation import AxisSearch, RotationAxis
from npsi_twin.report.budget_section import budget_sections
from npsi_twin.report.figures import (
    SILICON_RANGE_PER_UM,
    draw_axis_search,
    draw_reconstruction,
    draw_scan,
    draw_sections,
    draw_slices,
)
from npsi_twin.report.measured_section import measurement_pictures
from npsi_twin.report.page import Picture, Section, write_page
from npsi_twin.report.run_tables import comparison_tables, number
from npsi_twin.report.slice_viewer import slice_viewer
from npsi_twin.report.turntable import Sheets, turned, turntable
from npsi_twin.specification import Specification
from npsi_twin.storage.formats import open_scan
from npsi_twin.storage.hdf5 import open_hdf5
from npsi_twin.storage.scanfile import ScanFile
from npsi_twin.volumes import Phase

#: Height of the paper's section parallel to the foil, nm (Zhao 2018, Fig. 4 caption).
SECTION_HEIGHT_NM = 972.0


#: Pictures that pages have beside them; which of them, the run decides.
FIGURES = tuple(
    f"figures/{name}.png"
    for name in ("scan", "reconstruction", "slices", "section", "thickness", "profile", "structure", "accuracy", "axis")
)


def _figures(folder: Path) -> Path:
    figures = folder / "figures"
    if figures.is_symlink():
        raise DataError(f"{figures}: is a link; pictures are written into the folder of the run only. Remove it.")
    figures.mkdir(exist_ok=True)
    return figures


def _rows(path: Path, name: str) -> int:
    with open_hdf5(path) as file:
        return int(file.dataset(name).shape[0])


def _part(path: Path, name: str, where: Any) -> NDArray[Any]:
    with open_hdf5(path) as file:
        return np.asarray(file.dataset(name)[where])


def _foil_row(labels: NDArray[np.integer]) -> int:
    """Return the mean row of the foil's top in one slice."""
    foil = labels == Phase.CURRENT_COLLECTOR
    return round(float(foil.argmax(axis=0)[foil.any(axis=0)].mean())) if foil.any() else labels.shape[0] // 2


def _scan_picture(folder: Path, scan_file: ScanFile) -> Picture:
    figures = _figures(folder)
    beam = scan_file.beam
    middle = scan_file.read(scan_file.middle_rows(1))
    projections, flats, darks = (
        np.asarray(counts[:, 0], np.float32) for counts in (middle.projections, middle.flats, middle.darks)
    )
    dark = np.asarray(darks.mean(axis=0) if len(darks) else np.zeros(beam.columns))
    open_beam = np.asarray(flats.mean(axis=0) - dark if len(flats) else np.ones(beam.columns))
    transmission = (projections - dark) / np.maximum(open_beam, 1e-6)
    draw_scan(
        figures / "scan.png",
        projections=[
            (f"Projection at {np.degrees(beam.angles_rad[view]):.1f}° (counts)", scan_file.read_projection(view))
            for view in (0, beam.views // 2)
        ],
        flat=scan_file.read_mean_flat() if scan_file.normalised or scan_file.flats is not None else None,
        sinogram=-np.log(np.clip(transmission, 1e-3, None)),
        pixel_nm=beam.pixel_nm if scan_file.pixel_known else None,
    )
    energy = "" if scan_file.energy_kev is None else f" at {scan_file.energy_kev:g} keV"
    caption = f"{beam.views} views of {scan_file.rows} rows and {beam.columns} columns{energy}, as in the file."
    return Picture(figures / "scan.png", "Scan", caption)


def write_run_page(
    folder: Path,
    *,
    specification: Specification,
    measured: Mapping[str, Measurements],
    comparison: Mapping[str, Any],
    state: Mapping[str, Any],
    executor: Executor,
    begun: Mapping[str, Callable[[], "Drawn"]] | None = None,
    progress: Progress = silent,
) -> None:
    """Draw the figures of a whole run and write its page.

    Parameters
    ----------
    folder
        The run folder; figures go into ``figures/``, the page is ``report.html``.
    specification
        What was asked for.
    measured
        ``recovered`` and ``truth``.
    comparison
        What ``comparison.json`` holds.
    state
        What ``run.json`` holds: seed, versions, hashes, what each stage found.
    executor, progress
        Who draws the parts of the page, and whom to tell how many are drawn.
    begun
        Wait for parts that are begun already, from `begin_part`.
    """
    waiting = dict(begun or {})
    for part in _PARTS:
        if part not in waiting:
            waiting[part] = begin_part(part, folder, specification, measured, comparison, executor)
    drawn = {}
    for done, (part, result) in enumerate(waiting.items()):
        progress("report", done, len(waiting))
        drawn[part] = result()
    progress("report", len(waiting), len(waiting))
    around = turntable({name: drawn[name].frames for name in ("truth", "recovered")})
    viewer, *section = drawn["slices"].sections
    sections: list[Section] = [
        viewer,
        *([around] if around is not None else []),
        *comparison_tables(comparison),
        *drawn["curves"].sections,
        *budget_sections(folder, specification),
        *section,
        *drawn["scan"].sections,
    ]
    with written_whole(folder / "report.html") as path:
        write_page(
            path,
            title=f"npsi-twin: {specification.name}",
            summary=_summary(specification, comparison),
            sections=sections,
            provenance=_provenance(specification, state),
        )


#: What of a page is drawn by itself, the longest first.
_PARTS = ("truth", "recovered", "curves", "slices", "scan")


@dataclass(frozen=True)
class Drawn:
    """One part of a page: sections, or the frames of a body."""

    sections: Sequence[Section] = ()
    frames: Sheets | None = None


def begin_part(
    part: str,
    folder: Path,
    specification: Specification,
    measured: Mapping[str, Measurements],
    comparison: Mapping[str, Any],
    executor: Executor,
) -> Callable[[], Drawn]:
    """Begin to draw a part of a run's page.

    Parameters
    ----------
    part
        ``"truth"`` or ``"recovered"``, the bodies from all around, of which the same of ``measured`` is read;
        ``"curves"``, which reads all of it, and ``comparison``; ``"slices"`` or ``"scan"``, which read neither.
    folder, specification, measured, comparison
        As for `write_run_page`.
    executor
        Who draws it.

    Returns
    -------
    callable
        Waits for it.
    """
    return executor.begun(partial(_part_of_page, folder, specification, measured, comparison), part)


def _part_of_page(
    folder: Path,
    specification: Specification,
    measured: Mapping[str, Measurements],
    comparison: Mapping[str, Any],
    part: str,
) -> Drawn:
    """Draw one part of the page of a whole run."""
    scan_file = open_scan(folder / "scan.h5")
    pixel_nm = scan_file.beam.pixel_nm
    if part in ("truth", "recovered"):
        return Drawn(frames=turned(folder, part, measured, voxel_nm=pixel_nm))
    if part == "curves":
        pictures = measurement_pictures(
            _figures(folder),
            measured,
            comparison,
            pixel_nm,
            pristine=specification.ageing.condition == "pristine",
            by_slice=not specification.segmentation.smoothing.endswith("-3d"),
        )
        return Drawn(pictures)
    if part == "scan":
        return Drawn([_scan_picture(folder, scan_file)])
    has_truth = (folder / "truth.h5").is_file()
    still, *section = (
        _slice_pictures(folder, pixel_nm, specification.segmentation)
        if has_truth
        else [_rows_picture(folder, pixel_nm)]
    )
    viewer = slice_viewer(folder, name="attenuation_per_um", unit="1/um", voxel_nm=pixel_nm, still=still)
    return Drawn([viewer, *section])


def _rows_picture(
    folder: Path, pixel_nm: float | None, name: str = "attenuation_per_um", unit: str = "1/um"
) -> Picture:
    """Draw three rows of a reconstruction, of which no truth is known."""
    path, figure = folder / "reconstruction.h5", _figures(folder) / "reconstruction.png"
    rows = sorted({0, _rows(path, name) // 2, _rows(path, name) - 1})
    draw_reconstruction(
        figure, slices=[_part(path, name, row) for row in rows], rows=rows, pixel_nm=pixel_nm, unit=unit
    )
    return Picture(figure, "Reconstruction", "First, middle and last row.")


def _slice_pictures(folder: Path, pixel_nm: float, recipe: SegmentationRecipe) -> list[Picture]:
    """Draw a slice across the needle and, where the volume is high enough, a section parallel to the foil."""
    figures = _figures(folder)
    truth, reconstruction, segmentation = (
        folder / name for name in ("truth.h5", "reconstruction.h5", "segmentation.h5")
    )
    middle = _rows(segmentation, "phase") // 2
    truth_labels = _part(truth, "phase", middle)
    draw_slices(
        figures / "slices.png",
        truth_per_um=_part(truth, "attenuation_per_um", middle),
        recovered_per_um=_part(reconstruction, "attenuation_per_um", middle),
        truth_labels=truth_labels,
        recovered_labels=_part(segmentation, "phase", middle),
        pixel_nm=pixel_nm,
    )
    row = _foil_row(truth_labels) - round(SECTION_HEIGHT_NM / pixel_nm)
    greys: dict[str, NDArray[np.floating]] = {}
    labels: dict[str, NDArray[np.integer]] = {}
    if row >= 0:
        section = np.s_[:, row, :]
        greys["Truth: attenuation"] = _part(truth, "attenuation_per_um", section)
        greys["Reconstruction"] = _part(reconstruction, "attenuation_per_um", section)
        smooth = _smoothed_section(reconstruction, row, recipe)
        if smooth is not None:
            greys[f"Reconstruction after the filter '{recipe.smoothing}'"] = smooth
        labels["Segmentation (yellow: silicon)"] = _part(segmentation, "phase", section)
        draw_sections(figures / "section.png", greys=greys, labels=labels, pixel_nm=pixel_nm)
    slices = Picture(
        figures / "slices.png",
        f"Slice {middle}: truth, reconstruction, segmentation, difference",
        "A slice across the needle, the copper foil at the bottom. The truth keeps partial volumes; its "
        "carbon-binder is all but invisible at this energy, and the segmentation does not look for it.",
    )
    if not greys:
        return [slices]
    low, high = SILICON_RANGE_PER_UM
    return [
        slices,
        Picture(
            figures / "section.png",
            f"Section parallel to the foil, {SECTION_HEIGHT_NM:.0f} nm above it",
            "Seen from above, at the height above the top of the foil of the pseudo cross-sections in the paper's Fig. "
            f"4; the rotation axis runs down, the foil's width across. Greys reach from {low:g} to {high:g} /µm. The "
            "raw reconstruction is mostly noise at this scale; what the segmentation decides on is the filtered one.",
        ),
    ]


#: Rows on either side that a smoothed section needs: four standard deviations, as scipy cuts a Gaussian, or a kernel.
_SMOOTHED_BY_ROWS = ("gaussian", "median", "mean", "gaussian-3d", "median-3d")


def _smoothed_section(reconstruction: Path, row: int, recipe: SegmentationRecipe) -> NDArray[np.float32] | None:
    """Return one row as the segmentation's filter leaves it; None where that needs the whole volume."""
    if recipe.smoothing not in _SMOOTHED_BY_ROWS:
        return None
    reach = int(max(4 * recipe.smoothing_sigma_voxels, recipe.smoothing_radius_voxels)) + 2
    first = max(0, row - reach)
    band = _part(reconstruction, "attenuation_per_um", np.s_[:, first : row + reach + 1, :])
    smooth = smoothed(
        band,
        recipe.smoothing,
        sigma_voxels=recipe.smoothing_sigma_voxels,
        radius_voxels=recipe.smoothing_radius_voxels,
        strength=recipe.smoothing_strength,
    )
    return np.asarray(smooth[:, row - first], np.float32)


def write_reconstruction_page(
    folder: Path, *, scan_file: ScanFile, state: Mapping[str, Any], axis: RotationAxis | None = None
) -> None:
    """Draw slices of the reconstruction of a scan file and write its page.

    Parameters
    ----------
    folder
        The run folder, with ``reconstruction.h5``.
    scan_file
        The scan.
    state
        What ``run.json`` holds.
    axis
        The rotation axis with the search for it, which is drawn where it is known.
    """
    found = state["stages"]["reconstruct"]
    pixel_nm = scan_file.beam.pixel_nm if scan_file.pixel_known else None
    name = "attenuation_per_um" if scan_file.pixel_known else "attenuation_per_pixel"
    still = _rows_picture(folder, pixel_nm, name, found["unit"])
    counts = found["counts"]
    summary = [
        f"{scan_file.beam.views} views of {scan_file.rows} rows and {scan_file.beam.columns} columns, reconstructed "
        f"through {found['projector']}.",
        f"Rotation axis at column {found['rotation_axis_px']:.2f} ± {found['rotation_axis_uncertainty_px']:.2f} "
        f"({found['rotation_axis_method']}). Stripes taken out of the line integrals: "
        f"{found['stripes_removed_rms']:.2g} root mean square. Bad pixels replaced: {counts['bad_pixels']}; "
        f"transmissions below one count: {counts['clipped']}; saturated: {counts['saturated']}; zingers replaced: "
        f"{counts['zingers']}; values that were no numbers: {counts['not_finite']}. "
        f"Brighter than the flats by more than 10 %, and kept: {counts['brighter']}."
        + (" The dark level is taken as zero." if counts["darks_assumed_zero"] else ""),
    ]
    if not scan_file.pixel_known:
        summary.append("The file states no pixel size, so attenuation is per pixel; give --pixel-nm for 1/um.")
    sections: list[Section] = [
        slice_viewer(folder, name=name, unit=found["unit"], voxel_nm=pixel_nm, still=still),
        _scan_picture(folder, scan_file),
    ]
    if axis is not None and axis.search is not None:
        sections.append(_axis_picture(_figures(folder), axis, axis.search))
    provenance = {"scan": scan_file.path.name, **scan_file.notes, **_origin(state)}
    with written_whole(folder / "report.html") as page:
        write_page(
            page,
            title=f"Reconstruction of {scan_file.path.name}",
            summary=summary,
            sections=sections,
            provenance=provenance,
        )


def _axis_picture(figures: Path, axis: RotationAxis, search: AxisSearch) -> Picture:
    draw_axis_search(
        figures / "axis.png",
        trials_px=search.trials_px,
        misfit=search.misfit,
        axis_px=axis.px,
        uncertainty_px=axis.uncertainty_px,
    )
    depth = float(np.median(search.misfit) / search.misfit.min()) if search.misfit.min() > 0 else float("inf")
    caption = (
        f"Misfit of the mirrored scan by trial axis ({axis.method}); the least is {depth:.3g} times below the middle "
        "of all. The band is one standard deviation."
    )
    return Picture(figures / "axis.png", f"Search for the rotation axis: column {axis.px:.2f}", caption)


def _origin(state: Mapping[str, Any]) -> dict[str, str]:
    """Return versions and hashes; times and hosts stay in run.json, so that equal runs give equal pages."""
    versions = ", ".join(f"{name} {number}" for name, number in state["versions"].items())
    # What a stage read comes after what was written, so that a file of the user's is shown as it was used.
    files: dict[str, str] = {}
    given: set[str] = set()
    for stage, entry in state["stages"].items():
        if stage != "report":
            files |= entry["files"] | entry["inputs"]
            given |= set(entry["given_by_user"])
    hashes = {
        f"SHA-256 of {name}": digest + (" (not written by this run)" if name in given else "")
        for name, digest in files.items()
    }
    return {"software": f"Python {state['python']}; {versions}", **hashes}


def _provenance(specification: Specification, state: Mapping[str, Any]) -> dict[str, str]:
    found = state["stages"]
    return {
        "specification": f"specification.toml, SHA-256 of its values {specification.digest()}",
        "seed": str(specification.seed),
        "projector of the scan": str(found.get("scan", {}).get("projector", "not recorded")),
        "projector of the reconstruction": str(found.get("reconstruct", {}).get("projector", "not recorded")),
        **_origin(state),
    }


def _summary(specification: Specification, comparison: Mapping[str, Any]) -> list[str]:
    microscope = specification.microscope
    detector, silicon = microscope.detector, specification.electrode.silicon
    accuracy = comparison["segmentation_accuracy"]
    if accuracy is None:
        return [
            "A scan of which no truth is known. The table holds what was measured on the recovered volume and what "
            "Zhao et al. (Nano Energy 52, 2018, 381) published."
        ]
    ageing = specification.ageing
    kind, aged = "pristine ", ""
    if ageing.condition != "pristine":
        kind, aged = "", f", aged to '{ageing.condition}' by {ageing.how()}"
    made = (
        f"A synthetic {kind}electrode of nanoporous silicon ({100 * silicon.porosity_fraction:.1f} % pores of "
        f"{silicon.mean_pore_nm:.0f} nm) with carbon-binder on a copper foil{aged}, cut to a "
        f"{specification.electrode.specimen.shape} of {specification.electrode.specimen.width_um:g} µm; scanned in a "
        f"simulated transmission X-ray microscope at {microscope.energy_kev:g} keV ({microscope.stage.views} views, "
        f"{detector.rows} x {detector.columns} pixels of {detector.pixel_nm:g} nm, {detector.flat_electrons:g} "
        f"electrons a pixel); reconstructed by {specification.reconstruction.algorithm}; segmented by "
        f"the method '{specification.segmentation.method}' after the filter '{specification.segmentation.smoothing}'."
    )
    told = [made]
    if specification.reconstruction.algorithm == "sirt-fbp":
        told.append(
            f"SIRT-FBP stands for {specification.reconstruction.sirt_iterations} SIRT steps, which do not reach the "
            "finest frequencies, so that a thin layer beside copper is misread a little; normalised values here carry "
            "that bias (validation/05_reconstruction measures it; the algorithm 'fbp' does not have it)."
        )
    found = (
        f"Inside the layer the segmentation agrees with the true silicon to a Dice coefficient of "
        f"{number(accuracy['dice_silicon_layer'], 3)}. The table holds what one and the same measurement reads on the "
        "truth and on the recovered volume, and what Zhao et al. (Nano Energy 52, 2018, 381) published."
    )
    return [*told, found]
