"""What can be seen in a scan before anything is done to it: counts, noise, angles, and what is missing.

`inspect_scan` takes a scan of any layout, even one that could not be reconstructed, and gives `ScanFacts`; large scans
are looked at in part (some frames, some rows), which the facts say. The photon transfer is the variance of flat fields
against their mean signal m above the dark level,

    variance = slope m + dark variance,    slope = counts per detected quantum, for quanta that arrive by chance.

The line is held at the variance of the dark fields, since flats alone span too few signals to tell slope from offset.
Taken over all frames the variance contains the drift of the beam; taken over pairs of neighbouring frames, each scaled
to the same mean, it does not. `inspection` draws it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, IncompatibleError, ParameterError, ResourceError
from npsi_twin.memory import memory_there
from npsi_twin.storage.formats import locate, open_scan, unusual_angles
from npsi_twin.storage.scanfile import Frames, Located, Reading, ThetaUnit, spread_angles
from npsi_twin.storage.units import ANGLE

_MOST_FRAMES = 24
_MOST_VALUES = 1 << 25
_BINS = 24


@dataclass(frozen=True)
class Counts:
    """Counts of one kind of frame.

    Attributes
    ----------
    frames
        How many frames there are, and how many were looked at.
    dtype
        As stored.
    low, mean, high
        Smallest, mean and largest of the finite values.
    not_finite, at_top
        Values that are NaN or infinite, and values at the top of an integer type.
    edges, histogram
        Histogram of the finite values.
    """

    frames: tuple[int, int]
    dtype: str
    low: float
    mean: float
    high: float
    not_finite: int
    at_top: int
    edges: NDArray[np.float64]
    histogram: NDArray[np.int64]


@dataclass(frozen=True)
class PhotonTransfer:
    """Variance of the flat fields against their mean signal, pixels gathered by signal.

    Attributes
    ----------
    signal
        Mean counts above the dark level, (bin,).
    variance_all, variance_pairs
        Over all frames, and over neighbouring pairs scaled to the same mean, (bin,).
    slope, dark_variance
        Straight line through ``variance_pairs``, held at the dark variance for no signal.
    frames, pixels
        What went in.
    """

    signal: NDArray[np.float64]
    variance_all: NDArray[np.float64]
    variance_pairs: NDArray[np.float64]
    slope: float
    dark_variance: float
    frames: int
    pixels: int


@dataclass(frozen=True)
class ScanFacts:
    """What a look at a scan found.

    Attributes
    ----------
    path, layout
        The file and its layout.
    shape
        (views, rows, columns).
    counts
        ``"projections"``, ``"flats"``, ``"darks"`` -> counts, for what is there.
    angles_deg
        Angles, None where they or their unit are not known.
    pixel_nm, energy_kev
        None where not stated.
    views
        (view, image) of some projections.
    mean_flat, mean_dark
        (row, column), None where there are none.
    sinogram, sinogram_row
        Line integrals of one row, or its counts where there are no flats; (view, column).
    is_line_integral
        Which of the two it is.
    edge_flux
        Mean counts of the outer columns of that row in every view, which see the open beam where the sample fits.
    flat_flux
        The same of the flat fields.
    flat_views
        Number of projections before each flat field, None where not known.
    transfer
        Photon transfer, None with fewer than two flats.
    missing
        What the file does not have or state, and what is odd, in sentences.
    verdict
        Why the scan cannot be reconstructed as it is; empty where it can.
    notes
        What the reader found worth telling.
    """

    path: Path
    layout: str
    shape: tuple[int, int, int]
    counts: Mapping[str, Counts]
    angles_deg: NDArray[np.float64] | None
    pixel_nm: float | None
    energy_kev: float | None
    views: list[tuple[int, NDArray[np.float64]]]
    mean_flat: NDArray[np.float64] | None
    mean_dark: NDArray[np.float64] | None
    sinogram: NDArray[np.float64]
    sinogram_row: int
    is_line_integral: bool
    edge_flux: NDArray[np.float64]
    flat_flux: NDArray[np.float64] | None
    flat_views: NDArray[np.intp] | None
    transfer: PhotonTransfer | None
    missing: list[str]
    verdict: str
    notes: Mapping[str, str]


def inspect_scan(
    path: Path,
    *,
    pixel_nm: float | None = None,
    theta_unit: ThetaUnit | None = None,
    assume_normalised: bool = False,
    reading: Reading | None = None,
) -> ScanFacts:
    """Look at a scan.

    Parameters
    ----------
    path
        Scan of any layout that `npsi_twin.storage.formats.open_scan` reads.
    pixel_nm, theta_unit, assume_normalised, reading
        What the file does not state; see `open_scan`.

    Raises
    ------
    DataError
        When there are no projections to look at.
    ResourceError
        When what is looked at is larger than the memory, or than a caller allows (`npsi_twin.memory`).
    """
    reading = reading or Reading()
    layout, found = locate(path, reading)
    _refuse_more_than_memory(path, found)
    angles, missing = _angles_deg(found, theta_unit, reading)
    missing += _missing(found, assume_normalised or reading.line_integrals, pixel_nm)
    verdict = ""
    try:
        with catch_warnings():
            simplefilter("ignore")  # what it warns of is among `missing`
            open_scan(
                path, pixel_nm=pixel_nm, theta_unit=theta_unit, assume_normalised=assume_normalised, reading=reading
            )
    except (DataError, IncompatibleError, ParameterError) as error:
        verdict = str(error)
    views, rows, columns = found.projections.shape
    row = rows // 2
    kinds = {"projections": found.projections, "flats": found.flats, "darks": found.darks}
    flat, dark = _mean(found.flats, rows, columns), _mean(found.darks, rows, columns)
    band = range(row, row + 1)
    middle = np.asarray(found.projections.read(band)[:, 0], np.float64)
    flat_band = None if found.flats is None or flat is None else found.flats.read(band)[:, 0]
    edge = max(1, columns // 20)
    sinogram, is_line_integral = _line_integrals(middle, flat, dark, row)
    return ScanFacts(
        path,
        layout,
        (views, rows, columns),
        {name: _counts(frames) for name, frames in kinds.items() if frames is not None},
        angles,
        pixel_nm if pixel_nm is not None else found.pixel_nm,
        found.energy_kev,
        [(view, _finite(found.projections.frame(view))) for view in sorted({0, views // 2, views - 1})],
        flat,
        dark,
        sinogram,
        row,
        is_line_integral,
        np.concatenate([middle[:, :edge], middle[:, -edge:]], axis=1).mean(axis=1),
        None
        if flat_band is None
        else np.concatenate([flat_band[:, :edge], flat_band[:, -edge:]], axis=1).mean(axis=1, dtype=np.float64),
        found.flat_views,
        _photon_transfer(found.flats, found.darks) if found.flats is not None and flat is not None else None,
        missing,
        verdict,
        found.notes,
    )


def _angles_deg(
    found: Located, theta_unit: ThetaUnit | None, reading: Reading
) -> tuple[NDArray[np.float64] | None, list[str]]:
    if reading.theta:
        return np.degrees(spread_angles(reading.theta, found.projections.shape[0])), []
    if found.theta is None:
        return None, [f"no angles ({found.theta_place} is missing)"]
    factor = ANGLE.factor(theta_unit or found.theta_unit)
    if factor is None or found.theta.size != found.projections.shape[0] or not np.all(np.isfinite(found.theta)):
        return None, [
            f"angles ({found.theta.size} for {found.projections.shape[0]} projections, unit '{found.theta_unit}') "
            "cannot be used"
        ]
    angles = np.asarray(found.theta * factor, np.float64)
    odd = [f"angles: {word.rstrip('.')}" for word in unusual_angles(angles)]
    first, last = np.degrees(angles.min()), np.degrees(angles.max())
    for turn, view in ((180, "mirrored"), (360, "a full turn later")):
        # A hundredth of a step is more than encoders miss their marks by, and less than what an open end leaves.
        if len(angles) > 1 and abs(last - first - turn) < turn / len(angles) / 100:
            odd.append(f"both {first:.4g} and {last:.4g} degrees were recorded: one view is there twice, {view}")
    return np.degrees(angles), odd


def _missing(found: Located, normalised: bool, pixel_nm: float | None) -> list[str]:
    missing = []
    if found.flats is None and not normalised:
        missing.append("no flat fields")
    if found.darks is None and not normalised:
        missing.append("no dark fields")
    if found.flats is not None and found.flat_views is None:
        missing.append("when the flat fields were taken")
    if pixel_nm is None and found.pixel_nm is None:
        missing.append("no pixel size: a reconstruction would be per pixel")
    if found.energy_kev is None:
        missing.append("no photon energy")
    return missing


def _refuse_more_than_memory(path: Path, found: Located) -> None:
    """Refuse a scan whose frames, as large as the file claims, cannot be looked at, before any is read."""
    kinds = [frames for frames in (found.projections, found.flats, found.darks) if frames is not None]
    # Some frames as they are, in double precision, and their deviations; pictures; and a sinogram on its way.
    largest = max(
        math.prod(frames.shape[1:]) * (len(_some(frames)) * (frames.dtype.itemsize + 16) + 5 * 8) for frames in kinds
    )
    needed, memory = largest + 5 * 8 * found.projections.shape[0] * found.projections.shape[2], memory_there()
    if needed > memory.size_bytes:
        raise ResourceError(
            f"{path}: claims frames of {found.projections.shape[1:]} pixels; looking at some of them needs "
            f"{needed / 2**30:.3g} GiB of memory; {memory}. Cut the scan, give a larger --max-memory, or use a larger "
            "machine."
        )


def _finite(image: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _some(frames: Frames) -> list[int]:
    """Return numbers of some frames, evenly spread over all."""
    count = min(frames.shape[0], _MOST_FRAMES)
    return sorted({round(place) for place in np.linspace(0, frames.shape[0] - 1, count)})


def _mean(frames: Frames | None, rows: int, columns: int) -> NDArray[np.float64] | None:
    if frames is None or frames.shape[1:] != (rows, columns):
        return None
    chosen = _some(frames)
    total = np.zeros((rows, columns))
    for number in chosen:
        total += _finite(frames.frame(number))
    return total / len(chosen)


def _counts(frames: Frames) -> Counts:
    chosen = _some(frames)
    images = [frames.frame(number) for number in chosen]
    whole = frames.dtype.kind in "ui"
    finite = [image[np.isfinite(image)].astype(np.float64) for image in images]
    low, high = (
        float(pick([pick(part, initial=part[0]) for part in finite if part.size] or [0.0])) for pick in (np.min, np.max)
    )
    # Whole counts get bins of whole numbers, or the histogram would show beats.
    width = max(1.0, np.ceil((high - low + 1) / 200)) if whole else max((high - low) / 200, 1e-12)
    edges = low - (0.5 if whole else 0.0) + width * np.arange(int((high - low) / width) + 2)
    top = np.iinfo(frames.dtype.name).max if whole else np.inf
    return Counts(
        (frames.shape[0], len(chosen)),
        str(frames.dtype),
        low,
        float(np.mean([part.mean() for part in finite if part.size] or [0.0])),
        high,
        sum(image.size - part.size for image, part in zip(images, finite, strict=True)),
        int(sum(np.count_nonzero(part >= top) for part in finite)),
        np.asarray(edges, np.float64),
        np.asarray(sum(np.histogram(part, edges)[0] for part in finite), np.int64),
    )


def _line_integrals(
    middle: NDArray[np.float64], flat: NDArray[np.float64] | None, dark: NDArray[np.float64] | None, row: int
) -> tuple[NDArray[np.float64], bool]:
    middle = _finite(middle)
    if flat is None:
        return middle, False
    level = 0.0 if dark is None else dark[row]
    gain = np.maximum(flat[row] - level, 1.0)
    return -np.log(np.maximum((middle - level) / gain, 1 / gain)), True


def _photon_transfer(flats: Frames, darks: Frames | None) -> PhotonTransfer | None:
    frames, rows, columns = flats.shape
    if frames < 2:
        return None
    height = int(np.clip(_MOST_VALUES // (frames * columns), 1, rows))
    band = range((rows - height) // 2, (rows - height) // 2 + height)
    bright = np.asarray(flats.read(band), np.float64)
    dark = np.zeros((1, height, columns))
    if darks is not None and darks.shape[1:] == (rows, columns):
        dark = np.asarray(darks.read(band), np.float64)
    if not (np.all(np.isfinite(bright)) and np.all(np.isfinite(dark))):
        return None
    above = bright - dark.mean(axis=0)
    signal = above.mean(axis=0)
    if not (signal.mean() > 0 and above.mean(axis=(1, 2)).min() > 0):
        return None
    variance_pairs = _pair_variance(above * (above.mean() / above.mean(axis=(1, 2), keepdims=True)))
    dark_variance = float(np.median(_pair_variance(dark))) if len(dark) > 1 else 0.0
    # Dead and hot pixels sit at the ends of the range of signals and would be most of what is seen.
    edges = np.unique(np.quantile(signal, np.linspace(0.005, 0.995, _BINS + 1)))
    if len(edges) < 2:
        return None
    bins = np.digitize(signal.ravel(), edges) - 1
    inside = (bins >= 0) & (bins < len(edges) - 1)
    size = np.bincount(bins[inside], minlength=len(edges) - 1)

    def gathered(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.bincount(bins[inside], values.ravel()[inside], len(edges) - 1)
        return np.asarray(total[size > 0] / size[size > 0], np.float64)

    x, y = gathered(signal), gathered(variance_pairs)
    # Relative scatter is alike in all bins: the mean of the ratios is the best straight line.
    slope = float(np.average((y - dark_variance) / x, weights=size[size > 0]))
    variance_all = gathered(bright.var(axis=0, ddof=1))
    return PhotonTransfer(x, variance_all, y, slope, dark_variance, frames, int(inside.sum()))


def _pair_variance(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of every pixel from pairs of neighbouring frames, which slow drift does not reach."""
    pairs = len(frames) // 2
    difference = frames[0 : 2 * pairs : 2] - frames[1 : 2 * pairs : 2]
    return np.asarray((difference**2).mean(axis=0) / 2, np.float64)


def facts_text(facts: ScanFacts) -> list[str]:
    """Return the facts as lines for people."""
    views, rows, columns = facts.shape
    lines = [f"{facts.path}: {facts.layout}, {views} projections of {rows} x {columns} (rows x columns)"]
    for name, counts in facts.counts.items():
        seen = "" if counts.frames[0] == counts.frames[1] else f" (seen: {counts.frames[1]})"
        odd = f", {counts.not_finite} NaN or infinite" if counts.not_finite else ""
        odd += f", {counts.at_top} at the top of the type" if counts.at_top else ""
        lines.append(
            f"  {name:<12} {counts.frames[0]} frames{seen}, {counts.dtype}, {counts.low:g} to {counts.high:g}, mean "
            f"{counts.mean:.5g}{odd}"
        )
    if facts.angles_deg is not None:
        angles = facts.angles_deg
        step = float(np.median(np.abs(np.diff(angles)))) if angles.size > 1 else 0.0
        lines.append(f"  angles       {angles[0]:.4g} to {angles[-1]:.4g} degrees in steps of {step:.4g}")
    if facts.flat_views is not None:
        groups, sizes = np.unique(facts.flat_views, return_counts=True)
        words = ", ".join(f"{size} after view {place}" for place, size in zip(groups, sizes, strict=True))
        lines.append(f"  flats taken  {words}")
    if facts.pixel_nm is not None:
        lines.append(f"  pixel        {facts.pixel_nm:.5g} nm, field {columns * facts.pixel_nm / 1000:.4g} um across")
    if facts.energy_kev is not None:
        lines.append(f"  energy       {facts.energy_kev:.5g} keV")
    if facts.transfer is not None:
        transfer = facts.transfer
        signal = float(np.median(transfer.signal))
        lines.append(
            f"  noise        variance = {transfer.slope:.4g} x signal + {transfer.dark_variance:.4g} counts^2 (pairs "
            f"of {transfer.frames} flats); the open beam's {signal:.4g} counts have the noise of "
            f"{signal / transfer.slope:.3g} quanta"
            if transfer.slope > 0
            else "  noise        the flats vary less than the darks"
        )
    lines += [f"  {name:<12} {value}" for name, value in facts.notes.items()]
    lines += [f"  missing/odd  {sentence}" for sentence in facts.missing]
    lines.append(f"  NOT READY    {facts.verdict}" if facts.verdict else "  ready to be reconstructed")
    return lines
