"""The needle that etspy ships: a tilt series with a missing wedge, as recorded and as aligned by its authors."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import OutOfRangeWarning
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction.alignment import find_rotation_axis
from npsi_twin.reconstruction.iteration import IterationRecipe
from npsi_twin.reconstruction.iterative import sirt
from npsi_twin.reconstruction.reprojection import AlignmentRecipe, align_views, take_back
from npsi_twin.scan import ParallelBeam

Row = dict[str, str | bool | None]

PIXEL_NM = 3.36
#: Rows along the needle with body in them, and those whose diameter is read.
BODY, READ = slice(90, 190), (100, 115, 130, 145, 160)


def read_needle(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Return both series as line integrals (row, view, column), any unit, and the tilts in radians."""
    raw = (folder / "HAADF.mrc").read_bytes()
    columns, rows, views, kind = np.frombuffer(raw[:16], "<i4")
    extended = int(np.frombuffer(raw[92:96], "<i4")[0])
    if kind != 1:
        raise ValueError(f"HAADF.mrc: holds mode {kind}; 16 bit integers (1) were expected.")
    recorded = np.frombuffer(raw, "<i2", offset=1024 + extended).reshape(views, rows, columns)
    with h5py.File(folder / "HAADF_Aligned.hspy") as file:
        aligned = file["Experiments/__unnamed__/data"][...]
    tilts = np.deg2rad(np.loadtxt(folder / "HAADF.rawtlt"))
    # The needle lies along the pictures' x, which is the tilt axis; dark pictures are not zero.
    both = []
    for series in (recorded, aligned):
        lines = series.transpose(2, 0, 1).astype(np.float32)
        dark = np.median(lines[:, :, :20], axis=(0, 2))[None, :, None]
        both.append(np.ascontiguousarray((lines - dark) / 1e5))
    return both[0], both[1], tilts


def diameters_nm(lines: NDArray[np.float32], beam: ParallelBeam) -> NDArray[np.float64]:
    """Return the diameter of the disk of the same area as what lies above half of a slice's body, every row read."""
    slices = sirt(
        lines[list(READ)], choose_projector("rays", beam, 192), IterationRecipe(iterations=60, non_negative=True)
    ).values
    areas = [float((values > 0.5 * np.percentile(values[values > 0.1 * values.max()], 80)).sum()) for values in slices]
    return np.asarray(2 * np.sqrt(np.array(areas) / np.pi) * PIXEL_NM)


def centred(lines: NDArray[np.float32], tilts: NDArray[np.float64]) -> ParallelBeam:
    beam = ParallelBeam(tilts, lines.shape[2], PIXEL_NM)
    return beam.with_axis(find_rotation_axis(lines[list(READ)], beam, "entropy").px)


def needle_rows() -> list[Row]:
    title = "etspy needle: diameter from the series as recorded, aligned here, beside that from its authors' alignment"
    found = find_spec("etspy")
    if found is None or found.origin is None:
        return [{"requirement": title, "required": "within 5 %", "measured": "etspy is not installed", "passed": None}]
    recorded, authors, tilts = read_needle(Path(found.origin).parent / "tests" / "test_data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # the missing wedge is known
        reference = diameters_nm(authors, centred(authors, tilts))
        beam = ParallelBeam(tilts, recorded.shape[2], PIXEL_NM, (recorded.shape[2] - 1) / 2)
        recipe = AlignmentRecipe(method="reprojection", rows=True, blur_px=3.0)
        shifts = align_views(recorded[BODY], beam, recipe)
        back = take_back(recorded, shifts.column_shift_px, shifts.row_shift_px)
        ours = diameters_nm(back, centred(back, tilts))
        plain = diameters_nm(recorded, centred(recorded, tilts))
    off, before = ours / reference - 1, plain / reference - 1
    text = f"{np.mean(off):+.1%} on the mean of {len(READ)} rows, {np.abs(off).max():.1%} at most"
    moved = f"{shifts.column_shift_px.std():.1f} px across, {shifts.row_shift_px.std():.1f} px along"
    return [
        {
            "requirement": title,
            "required": "within 5 %",
            "measured": text,
            "passed": bool(np.abs(off).max() < 0.05),
        },
        {
            "requirement": "etspy needle: shifts found, rms, and the diameter without alignment",
            "required": "report",
            "measured": f"{moved}; {np.mean(before):+.1%} on the mean, {np.abs(before).max():.1%} at most",
            "passed": None,
        },
    ]


if __name__ == "__main__":
    for line in needle_rows():
        print(line)
