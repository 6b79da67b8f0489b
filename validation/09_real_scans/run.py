"""Reconstruct and measure real data; `needle` does a tilt series, `label_volumes` what arrives already segmented."""

import os
import sys
from pathlib import Path

import h5py
import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import Reconstruction, ReconstructionRecipe, prepare, reconstruct
from npsi_twin.scan import ParallelBeam, Scan

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from label_volumes import rows as label_volume_rows  # noqa: E402
from needle import needle_rows  # noqa: E402
from render import asked_parts, render_parts  # noqa: E402

Row = dict[str, str | bool | None]


def read_tooth(path: Path) -> Scan:
    with h5py.File(path) as file:
        group = file["exchange"]
        # The file states no pixel size; one micrometre stands for "per pixel".
        beam = ParallelBeam(np.deg2rad(group["theta"][:]), group["data"].shape[2], 1000.0)
        return Scan(group["data"][:], group["data_white"][:], group["data_dark"][:], beam)


def ring_rms(image: NDArray[np.floating]) -> float:
    """Return the rms of the azimuthal mean's fast part, radii 5 to 280 pixels."""
    place = np.arange(image.shape[0]) - (image.shape[0] - 1) / 2
    radius = np.hypot(*np.meshgrid(place, place)).astype(np.intp)
    profile = np.bincount(radius.ravel(), image.ravel()) / np.bincount(radius.ravel())
    fast = profile[5:280] - gaussian_filter1d(profile[5:280], 3)
    return float(np.sqrt(np.mean(fast**2)))


def picture(before: Reconstruction, after: Reconstruction) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    low, high = np.percentile(after.volume.values[0], [0.5, 99.8])
    for axis, made, title in zip(axes, (before, after), ("no stripe removal", "stripe removal"), strict=True):
        axis.imshow(made.volume.values[0], cmap="gray", vmin=low, vmax=high)
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(FOLDER / "tooth.png", dpi=90)
    plt.close(figure)


def tooth_rows(path: Path) -> list[Row]:
    if not path.is_file():
        return [
            {"requirement": path.name, "required": "the file", "measured": "not there; not measured", "passed": None}
        ]
    scan = read_tooth(path)
    filtered = ReconstructionRecipe(algorithm="fbp")
    plan = prepare(scan, filtered)
    after = reconstruct(scan, filtered, plan=plan)
    before = reconstruct(scan, filtered.model_copy(update={"rings": RingRecipe(method="none")}), plan=plan)
    sirt = reconstruct(scan, ReconstructionRecipe(), axis=plan.axis)
    picture(before, after)
    found = plan.axis
    share = [ring_rms(b) / ring_rms(a) for a, b in zip(before.volume.values, after.volume.values, strict=True)]
    finite = all(np.all(np.isfinite(made.volume.values)) for made in (before, after, sirt))
    return [
        {
            "requirement": "tooth: rotation axis, found without help",
            "required": "295.6 +- 0.5 px",
            "measured": f"{found.px:.2f} +- {found.uncertainty_px:.2f} px",
            "passed": abs(found.px - 295.6) <= 0.5,
        },
        {
            "requirement": "tooth: two slices by FBP and by SIRT-FBP",
            "required": "all finite",
            "measured": "finite" if finite else "not finite",
            "passed": finite,
        },
        {
            "requirement": "tooth: rings left by stripe removal, share of the azimuthal mean's fast part, per slice",
            "required": "below 1",
            "measured": ", ".join(f"{number:.2f}" for number in share),
            "passed": max(share) < 1,
        },
        {
            "requirement": "tooth: taken from the line integrals by stripe removal, rms per row",
            "required": "report",
            "measured": ", ".join(f"{number:.4f}" for number in after.removed_rms),
            "passed": None,
        },
    ]


if __name__ == "__main__":
    data = Path(os.environ.get("NPSI_TWIN_REAL_DATA", FOLDER.parents[1].parent / "shared" / "data"))
    parts = {
        "tooth": lambda: tooth_rows(data / "tooth.h5"),
        "needle": needle_rows,
        "label-volumes": label_volume_rows,
    }
    render_parts(FOLDER, parts, asked_parts(parts))
