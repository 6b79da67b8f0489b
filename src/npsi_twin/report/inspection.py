"""The picture of a scan before anything is done to it, for `npsi-twin inspect`.

Takes `ScanFacts` -> writes one PNG, or one HTML page that needs no network.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from npsi_twin.report.figures import _grey, _save
from npsi_twin.report.page import Picture, write_page
from npsi_twin.report.scan_facts import ScanFacts, facts_text

#: Fewer detector rows than this are drawn as curves: a sliver of an image shows nothing.
_FEWEST_ROWS = 12
_COLOURS = {"projections": "#3f8efc", "flats": "#f0b429", "darks": "#4a5a73"}


def draw_inspection(path: Path, facts: ScanFacts) -> None:
    """Draw projections, flat, sinogram, histograms, photon transfer, flux and angles on one page."""
    figure = Figure(figsize=(14, 10.5), layout="constrained")
    frames, middle, bottom = figure.subfigures(3, 1, squeeze=False, hspace=0.03)[:, 0]
    views, rows, columns = facts.shape
    pixel = "pixel not stated" if facts.pixel_nm is None else f"pixel {facts.pixel_nm:.4g} nm"
    energy = "energy not stated" if facts.energy_kev is None else f"{facts.energy_kev:.4g} keV"
    figure.suptitle(
        f"{facts.path.name} — {facts.layout}, {views} projections of {rows} x {columns}, {pixel}, {energy}",
        fontsize=11,
        parse_math=False,
    )
    if rows < _FEWEST_ROWS:
        _draw_profiles(frames.subplots(), facts)
    else:
        # Frames much wider than high are stacked, or they would be slivers.
        across = 4 if rows > 0.35 * columns else 2
        _draw_frames(list(frames.subplots(4 // across, across).ravel()), facts)
    sinogram, histograms, transfer = middle.subplots(1, 3, width_ratios=(2, 1, 1))
    _draw_sinogram(sinogram, facts)
    _draw_histograms(histograms, facts)
    _draw_transfer(transfer, facts)
    flux, angles, findings = bottom.subplots(1, 3, width_ratios=(2, 1, 1))
    _draw_flux(flux, facts)
    _draw_angles(angles, facts)
    _write_findings(findings, facts)
    _save(figure, path)


def _span(image: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-12))


def _draw_frames(axes: list[Axes], facts: ScanFacts) -> None:
    low, high = _span(np.concatenate([image.ravel() for _, image in facts.views]))
    for axis, (view, image) in zip(axes, facts.views, strict=False):
        _grey(axis, image, f"{_view_title(facts, view)}, {low:.4g} to {high:.4g} counts", facts.pixel_nm, (low, high))
    if facts.mean_flat is not None:
        low, high = _span(facts.mean_flat)
        _grey(axes[3], facts.mean_flat, f"Mean flat field, {low:.4g} to {high:.4g} counts", facts.pixel_nm, (low, high))
    else:
        _say(axes[3], "Mean flat field", "no flat fields")
    for axis in axes[len(facts.views) : 3]:
        axis.set_axis_off()


def _view_title(facts: ScanFacts, view: int) -> str:
    return f"View {view}" + ("" if facts.angles_deg is None else f" ({facts.angles_deg[view]:.1f}°)")


def _draw_profiles(axes: Axes, facts: ScanFacts) -> None:
    row = facts.sinogram_row
    for (view, image), colour in zip(facts.views, ("#12356b", "#3f8efc", "#8fc1ff"), strict=False):
        axes.plot(image[row], linewidth=0.8, color=colour, label=_view_title(facts, view))
    for name, mean in (("mean flat", facts.mean_flat), ("mean dark", facts.mean_dark)):
        if mean is not None:
            axes.plot(mean[row], linewidth=1, color="0.4" if name == "mean dark" else "#f0b429", label=name)
    axes.set_title(f"Counts of row {row} ({facts.shape[1]} rows in the scan)", loc="left")
    axes.set_xlabel("detector column")
    axes.set_ylabel("counts")
    axes.margins(x=0)
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower right")


def _draw_sinogram(axes: Axes, facts: ScanFacts) -> None:
    low, high = np.percentile(facts.sinogram, (0.5, 99.8))
    drawn = axes.imshow(facts.sinogram, cmap="gray", aspect="auto", vmin=low, vmax=max(high, low + 1e-12))
    kind = "line integral" if facts.is_line_integral else "counts"
    axes.set_title(f"Sinogram of row {facts.sinogram_row}", loc="left")
    axes.set_xlabel("detector column")
    axes.set_ylabel("view")
    axes.figure.colorbar(drawn, ax=axes, label=kind, pad=0.01)


def _draw_histograms(axes: Axes, facts: ScanFacts) -> None:
    for name, counts in facts.counts.items():
        total = max(counts.histogram.sum(), 1)
        axes.stairs(
            np.maximum(counts.histogram / total, 1e-9), counts.edges, label=name, color=_COLOURS[name], linewidth=1.2
        )
    axes.set_yscale("log")
    lowest = min(1 / max(counts.histogram.sum(), 1) for counts in facts.counts.values())
    axes.set_ylim(bottom=max(lowest, 1e-8) / 2)
    axes.set_title("Counts", loc="left")
    axes.set_xlabel("counts")
    axes.set_ylabel("share of pixels")
    axes.legend(frameon=False, fontsize=8)


def _draw_transfer(axes: Axes, facts: ScanFacts) -> None:
    transfer = facts.transfer
    if transfer is None:
        _say(axes, "Photon transfer", "needs two flat fields or more")
        return
    axes.plot(transfer.signal, transfer.variance_all, "o", markersize=3, color="0.6", label="over all flats")
    axes.plot(transfer.signal, transfer.variance_pairs, "o", markersize=3, color="#d64550", label="neighbouring pairs")
    ends = np.array([0.0, transfer.signal.max()])
    law = f"{transfer.slope:.3g} × signal + {transfer.dark_variance:.3g}"
    axes.plot(ends, transfer.slope * ends + transfer.dark_variance, color="#d64550", linewidth=1, label=law)
    axes.plot(0, transfer.dark_variance, "o", markersize=4, color=_COLOURS["darks"], label="darks")
    axes.set_title("Photon transfer", loc="left")
    axes.set_xlabel("flat above dark, counts")
    axes.set_ylabel("variance, counts²")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _draw_flux(axes: Axes, facts: ScanFacts) -> None:
    views = facts.shape[0]
    axes.plot(facts.edge_flux, color=_COLOURS["projections"], linewidth=0.9, label="projections, outer columns")
    if facts.flat_flux is not None:
        if facts.flat_views is not None:
            axes.plot(
                facts.flat_views, facts.flat_flux, "o", color=_COLOURS["flats"], markersize=4, label="flat fields"
            )
        else:
            low, high = facts.flat_flux.min(), facts.flat_flux.max()
            axes.axhspan(low, high, color=_COLOURS["flats"], alpha=0.5, label="flat fields (time not known)")
    axes.set_xlim(-0.02 * views, 1.02 * views)
    axes.set_title(f"Open beam through the scan (row {facts.sinogram_row}, outer 5 % of the columns)", loc="left")
    axes.set_xlabel("view")
    axes.set_ylabel("mean counts")
    axes.legend(frameon=False, fontsize=8)


def _draw_angles(axes: Axes, facts: ScanFacts) -> None:
    if facts.angles_deg is None:
        _say(axes, "Angles", "not known")
        return
    axes.plot(facts.angles_deg, ".", markersize=2, color="#10141c")
    axes.set_title("Angles", loc="left")
    axes.set_xlabel("view")
    axes.set_ylabel("degrees")


def _write_findings(axes: Axes, facts: ScanFacts) -> None:
    import textwrap

    sentences = [*facts.missing, *([facts.verdict] if facts.verdict else [])]
    lines = [line for sentence in sentences for line in textwrap.wrap(f"• {sentence}", 48, subsequent_indent="  ")]
    title = "Not ready to be reconstructed" if facts.verdict else "Ready to be reconstructed; missing or odd:"
    _say(axes, title, "\n".join(lines[:18]) or "nothing")


def _say(axes: Axes, title: str, words: str) -> None:
    axes.set_axis_off()
    axes.set_title(title, loc="left")
    # Names of files are text, never formulae.
    axes.text(0.0, 0.97, words, va="top", ha="left", fontsize=8, transform=axes.transAxes, parse_math=False)


def write_inspection(path: Path, facts: ScanFacts, *, as_page: bool) -> None:
    """Write the picture (PNG), or a page with the picture and the facts (HTML)."""
    if not as_page:
        draw_inspection(path, facts)
        return
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "scan.png"
        draw_inspection(picture, facts)
        write_page(
            path,
            title=f"Scan {facts.path.name}",
            summary=facts_text(facts),
            sections=[Picture(picture, "The scan as it was recorded", "Large scans are looked at in part.")],
            provenance={"file": facts.path.name, "layout": facts.layout},
        )
