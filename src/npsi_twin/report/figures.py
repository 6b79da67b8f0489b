"""Pictures of a run, one function a figure; each takes arrays and writes a PNG.

Slices are drawn with row 0 at the top, so that the foil lies at the bottom; every picture of space has a scale bar.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from npsi_twin.execution import written_whole
from npsi_twin.volumes import Phase

mpl.rcParams.update({"font.size": 9, "axes.titlesize": 9, "figure.dpi": 130, "image.interpolation": "nearest"})

PHASE_COLOURS = {
    Phase.VOID: "#10141c",
    Phase.SILICON: "#f0b429",
    Phase.CARBON_BINDER: "#4a5a73",
    Phase.CURRENT_COLLECTOR: "#b5603a",
    Phase.SEI: "#6fbf8b",
    Phase.UNRESOLVED_SILICON: "#f7d98b",
}
_PHASES = ListedColormap([PHASE_COLOURS[phase] for phase in Phase])
#: No silicon, silicon found, called silicon though it is none, silicon missed.
ERROR_COLOURS = ("#10141c", "#f0b429", "#d64550", "#3f8efc")
_ERRORS = ListedColormap(ERROR_COLOURS)
#: Colour and line of the truth and of what was recovered, which the colour-blind and a print in grey tell apart.
STYLES: Mapping[str, dict[str, Any]] = {
    "truth": {"color": "#0072b2"},
    "recovered": {"color": "#d55e00", "linestyle": "--"},
}
#: Grey range for silicon in 1/um: the foil is three times brighter and saturates on purpose.
SILICON_RANGE_PER_UM = (-0.002, 0.020)


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])


def _scale_bar(axes: Axes, pixel_nm: float | None, columns: int, rows: int) -> None:
    """Draw a bar of a round length of about a fifth of the picture's width; none where the pixel is not known."""
    if pixel_nm is None:
        return
    lengths_um = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    length_um = float(lengths_um[np.argmin(np.abs(lengths_um - columns * pixel_nm / 5000))])
    length_px = length_um * 1000 / pixel_nm
    left, bottom = 0.05 * columns, 0.95 * rows
    # White with a dark rim, to be read on flat fields and on air alike.
    rim = [withStroke(linewidth=1.2, foreground="black")]
    bar = [withStroke(linewidth=4, foreground="black")]
    ends = [left, left + length_px]
    axes.plot(ends, [bottom, bottom], color="white", linewidth=3, solid_capstyle="butt", path_effects=bar)
    axes.text(left, bottom - 0.03 * rows, f"{length_um:g} µm", color="white", va="bottom", fontsize=8, path_effects=rim)


def _grey(
    axes: Axes, image: NDArray[np.floating], title: str, pixel_nm: float | None, span: tuple[float, float]
) -> None:
    axes.imshow(image, cmap="gray", vmin=span[0], vmax=span[1])
    _bare(axes, title)
    _scale_bar(axes, pixel_nm, image.shape[1], image.shape[0])


def _save(figure: Figure, path: Path) -> None:
    # A link that stands there is replaced, never written through. Without the metadata the PNG would carry the version
    # of matplotlib and differ between equal runs. A constrained layout leaves no margin for bbox_inches to cut, which
    # would draw everything twice; at PNG's default level noise takes three times as long and is hardly smaller.
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 4})


def _silicon(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    return np.isin(labels, (Phase.SILICON, Phase.UNRESOLVED_SILICON))


def draw_slices(
    path: Path,
    *,
    truth_per_um: NDArray[np.floating],
    recovered_per_um: NDArray[np.floating],
    truth_labels: NDArray[np.integer],
    recovered_labels: NDArray[np.integer],
    pixel_nm: float,
) -> None:
    """Draw one slice as it is, as it was reconstructed, as it was segmented, and where the segmentation is wrong."""
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    low, high = SILICON_RANGE_PER_UM
    note = f"grey {low:g} to {high:g} /µm"
    _grey(axes[0, 0], truth_per_um, f"Truth: attenuation ({note})", pixel_nm, SILICON_RANGE_PER_UM)
    _grey(axes[0, 1], recovered_per_um, "Reconstruction (same grey)", pixel_nm, SILICON_RANGE_PER_UM)
    copper = float(np.percentile(truth_per_um, 99.5))
    _grey(axes[0, 2], recovered_per_um, f"Reconstruction (grey 0 to {copper:.3f} /µm)", pixel_nm, (0.0, copper))
    for axis, labels, title in (
        (axes[1, 0], truth_labels, "Truth: phases"),
        (axes[1, 1], recovered_labels, "Segmentation"),
    ):
        axis.imshow(labels, cmap=_PHASES, vmin=-0.5, vmax=len(Phase) - 0.5)
        _bare(axis, title)
        _scale_bar(axis, pixel_nm, labels.shape[1], labels.shape[0])
    truth, found = _silicon(truth_labels), _silicon(recovered_labels)
    axes[1, 2].imshow(truth * found + 2 * (found & ~truth) + 3 * (truth & ~found), cmap=_ERRORS, vmin=-0.5, vmax=3.5)
    _bare(axes[1, 2], "Difference in silicon")
    _scale_bar(axes[1, 2], pixel_nm, truth.shape[1], truth.shape[0])
    present = [phase for phase in Phase if np.any(truth_labels == phase) or np.any(recovered_labels == phase)]
    patches = [Patch(color=PHASE_COLOURS[phase], label=phase.name.lower().replace("_", " ")) for phase in present]
    patches += [
        Patch(color=ERROR_COLOURS[2], label="called silicon, is not"),
        Patch(color=ERROR_COLOURS[3], label="silicon, missed"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=8)
    _save(figure, path)


def draw_scan(
    path: Path,
    *,
    projections: Sequence[tuple[str, NDArray[np.floating]]],
    flat: NDArray[np.floating] | None,
    sinogram: NDArray[np.floating],
    pixel_nm: float | None,
) -> None:
    """Draw raw projections with their titles, a flat field where there is one, and a sinogram of line integrals."""
    frames = [*projections] if flat is None else [*projections, ("Flat field (counts)", flat)]
    rows, columns = frames[0][1].shape
    figure = Figure(figsize=(11, max(3.5, 5.5 * len(frames) * rows / columns)), layout="constrained")
    grid = figure.add_gridspec(len(frames), 2, width_ratios=(1.2, 1))
    top = float(np.percentile(frames[-1][1], 99.9))
    for place, (title, image) in enumerate(frames):
        _grey(figure.add_subplot(grid[place, 0]), image, title, pixel_nm, (0, top))
    axes = figure.add_subplot(grid[:, 1])
    high = float(np.percentile(sinogram, 99.9))
    # Without flats, or with flats of another flux, nothing may be above zero.
    low = 0.0 if high > 0 else float(sinogram.min())
    axes.imshow(sinogram, cmap="gray", aspect="auto", vmin=low, vmax=high)
    axes.set_title("Sinogram of the middle row (line integral)", loc="left")
    axes.set_xlabel("detector column")
    axes.set_ylabel("view")
    _save(figure, path)


def draw_axis_search(
    path: Path, *, trials_px: NDArray[np.floating], misfit: NDArray[np.floating], axis_px: float, uncertainty_px: float
) -> None:
    """Draw how badly every trial axis fits, and the neighbourhood of the one found with its uncertainty."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    relative = misfit / np.median(misfit)
    reach = max(10.0, 5 * uncertainty_px)
    near = np.abs(trials_px - axis_px) <= reach
    for axes, part, title in zip(
        figure.subplots(1, 2), (slice(None), near), ("All trials", "Near the axis found"), strict=True
    ):
        axes.plot(trials_px[part], relative[part], linewidth=1)
        axes.axvspan(axis_px - uncertainty_px, axis_px + uncertainty_px, color="#f0b429", alpha=0.4)
        axes.axvline(axis_px, color="#d64550", linewidth=1)
        axes.set_title(title, loc="left")
        axes.set_xlabel("detector column")
        axes.set_ylabel("misfit, 1 in the middle of all")
    _save(figure, path)


def draw_reconstruction(
    path: Path, *, slices: Sequence[NDArray[np.floating]], rows: Sequence[int], pixel_nm: float | None, unit: str
) -> None:
    """Draw some slices of a reconstruction, with the grey range of their central 99 %."""
    figure = Figure(figsize=(5.2 * len(slices), 5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(slices)))
    for axis, image, row in zip(axes, slices, rows, strict=True):
        low, high = np.percentile(image, (0.5, 99.5))
        _grey(axis, image, f"Row {row}: attenuation, {low:.3g} to {high:.3g} {unit}", pixel_nm, (low, high))
    _save(figure, path)


def draw_sections(
    path: Path,
    *,
    greys: Mapping[str, NDArray[np.floating]],
    labels: Mapping[str, NDArray[np.integer]],
    pixel_nm: float,
) -> None:
    """Draw a section parallel to the foil, as the paper's Fig. 4 does: what there is of attenuation and of phases.

    Parameters
    ----------
    path
        PNG to write.
    greys, labels
        Title -> attenuation in 1/um, and title -> phases, of one shape (along, across).
    pixel_nm
        Edge of a pixel, nm.
    """
    count = len(greys) + len(labels)
    rows, columns = next(iter(greys.values())).shape
    figure = Figure(figsize=(11, 0.5 + 0.55 * -(-count // 2) * max(2.0, 10 * rows / columns)), layout="constrained")
    panels = figure.subplots(-(-count // 2), 2, squeeze=False).ravel()
    for axes, (title, image) in zip(panels, greys.items(), strict=False):
        _grey(axes, image, title, pixel_nm, SILICON_RANGE_PER_UM)
    for axes, (title, phases) in zip(panels[len(greys) :], labels.items(), strict=False):
        axes.imshow(phases, cmap=_PHASES, vmin=-0.5, vmax=len(Phase) - 0.5)
        _bare(axes, title)
        _scale_bar(axes, pixel_nm, columns, rows)
    for axes in panels[:count]:
        axes.set_xlabel("across →", loc="right", fontsize=8)
        axes.set_ylabel("← along", loc="bottom", fontsize=8)
    for axes in panels[count:]:
        axes.set_axis_off()
    _save(figure, path)


def draw_thickness(
    path: Path,
    *,
    maps_um: Mapping[str, NDArray[np.floating]],
    pixel_nm: float,
    published_um: tuple[float, float] | None = None,
) -> None:
    """Draw maps of the layer's height above the local foil and their histograms."""
    rows, columns = next(iter(maps_um.values())).shape
    high = min(4.2, max(3.4, 0.8 + 3.2 * rows / columns))
    figure = Figure(figsize=(11, high), layout="constrained")
    axes = figure.subplots(1, len(maps_um) + 1)
    known = np.concatenate([values[np.isfinite(values)] for values in maps_um.values()])
    top = float(np.percentile(known, 99.9)) if known.size else 1.0
    # Heights come in steps of a voxel: bins of whole voxels, or the histogram shows beats.
    width = max(1, round(top * 1000 / pixel_nm / 40)) * pixel_nm / 1000
    bins = (np.arange(int(top / width) + 2) - 0.5) * width
    for axis, (name, values) in zip(axes, maps_um.items(), strict=False):
        edges_um = (0, values.shape[1] * pixel_nm / 1000, values.shape[0] * pixel_nm / 1000, 0)
        image = axis.imshow(values, cmap="viridis", vmin=0, vmax=top, extent=edges_um)
        axis.set_title(f"{name.capitalize()}: height of silicon", loc="left")
        axis.set_xlabel("across, µm")
        axis.set_ylabel("along the rotation axis, µm")
        axis.set_facecolor("0.85")  # no height: no silicon, no foil, or too near to where the foil ends
        figure.colorbar(image, ax=axis, label="height above the local foil, µm", location="bottom", shrink=0.8)
        heights = values[np.isfinite(values)]
        if heights.size:
            axes[-1].hist(
                heights, bins=bins, density=True, histtype="step", linewidth=1.5, label=name, **STYLES.get(name, {})
            )
    if published_um is not None:
        mean, sd = published_um
        axes[-1].axvspan(mean - sd, mean + sd, color="0.85", label=f"published {mean:g} ± {sd:g} µm")
    axes[-1].set_xlabel("height, µm")
    axes[-1].set_ylabel("share of columns, 1/µm")
    if axes[-1].has_data():
        axes[-1].legend(frameon=False, fontsize=8)
    _save(figure, path)
