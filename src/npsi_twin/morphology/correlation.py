"""Two-point correlation of a phase: how likely a voxel and another one a lag away both belong to it.

Takes -> gives: a bool volume and the region to look at -> `Correlation`, S2 at every distance that the grid has.

The model. With I the phase's indicator and M the region's,

    S2(r) = sum I(p) I(p + r) M(p) M(p + r) / sum M(p) M(p + r)

where both sums come from Fourier transforms padded by the largest lag, so that nothing wraps around, and are then added
over all lags of one length: no classes, hence no distance that stands for others. Volumes are cut into blocks of slices
of at least twice the largest lag, which bounds memory and gives S2 its spread; pairs across blocks are not counted.

From S2: the **correlation length**, where (S2 - phi^2) / (phi - phi^2) first falls to 1 / e, and the specific surface
from the slope at the origin, S_V = -4 S2'(0), fitted up to three voxels as phi - S2 = (S_V / 4) r (1 - b r^2): a smooth
surface has no term in r^2 (Kirste and Porod).

Holds in stationary structures; in a layer of finite height long lags are lateral ones.

References
----------
P. Debye, H. R. Anderson and H. Brumberger, J. Appl. Phys. 28 (1957) 679, doi:10.1063/1.1722830 (slope).
R. Kirste and G. Porod, Kolloid-Z. 184 (1962) 1, doi:10.1007/BF01510722 (no term in r^2).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.quantities import Blocks, Curve, Measured, missing
from npsi_twin.morphology.regions import ONE_PHASE, Regions

#: Threads of a transform. Fixed, so that its bytes depend on no machine.
_FFT_THREADS = 2
#: Lags up to this many voxels give the slope at the origin.
_SLOPE_VOXELS = 3


@dataclass(frozen=True)
class Correlation:
    """Pairs by squared lag, for every block of slices.

    Attributes
    ----------
    squared_lag
        Squared lengths of the lags in voxels, ascending from 0, (k,).
    both, pairs
        Pairs whose two voxels belong to the phase, and all pairs inside the region, (block, k).
    voxel_nm
        Edge of a voxel, nm.
    """

    squared_lag: NDArray[np.int64]
    both: NDArray[np.float64]
    pairs: NDArray[np.float64]
    voxel_nm: float

    def __post_init__(self) -> None:
        for name in ("squared_lag", "both", "pairs"):
            getattr(self, name).flags.writeable = False

    @property
    def lag_nm(self) -> Curve:
        """Lags, nm, (k,)."""
        return np.asarray(np.sqrt(self.squared_lag) * self.voxel_nm, np.float64)

    def s2(self, blocks: slice = slice(None)) -> Curve:
        """Return S2 at every lag, (k,); NaN where the region has no pair."""
        pairs = self.pairs[blocks].sum(axis=0)
        both = self.both[blocks].sum(axis=0)
        return np.asarray(np.where(pairs > 0, both / np.maximum(pairs, 1), np.nan))

    def correlation_length_nm(self, blocks: slice = slice(None)) -> float:
        """Return where (S2 - phi^2) / (phi - phi^2) first falls to 1 / e, nm; NaN where it does not."""
        s2 = self.s2(blocks)
        known = np.isfinite(s2)
        s2, lag = s2[known], self.lag_nm[known]
        if s2.size < 2 or not 0 < s2[0] < 1:
            return float("nan")
        normalised = (s2 - s2[0] ** 2) / (s2[0] - s2[0] ** 2)
        below = np.flatnonzero(normalised <= np.exp(-1))
        if below.size == 0:
            return float("nan")
        k = int(below[0])
        return float(np.interp(np.exp(-1), normalised[[k, k - 1]], lag[[k, k - 1]]))

    def specific_surface_per_um(self, blocks: slice = slice(None)) -> float:
        """Return -4 S2'(0), 1/um; NaN where there are no two short lags."""
        near = (self.squared_lag > 0) & (self.squared_lag <= _SLOPE_VOXELS**2)
        s2, lag = self.s2(blocks), self.lag_nm / 1000
        weight = np.where(near, self.pairs[blocks].sum(axis=0), 0.0)
        near &= weight > 0
        if np.count_nonzero(near) < 2:
            return float("nan")
        drop, weight, lag = (s2[0] - s2[near]) / lag[near], weight[near], lag[near]
        # weighted straight line of the drop against r^2, read at r = 0
        square = lag**2
        total, mean = weight.sum(), (weight * square).sum() / weight.sum()
        slope = (weight * (square - mean) * drop).sum() / (weight * (square - mean) ** 2).sum()
        return float(4 * ((weight * drop).sum() / total - slope * mean))


def two_point_correlation(
    phase: BoolArray, voxel_nm: float, largest_lag_nm: float, *, within: BoolArray | None = None, blocks: int = 8
) -> Correlation:
    """Correlate a phase with itself.

    Parameters
    ----------
    phase
        bool (z, y, x).
    voxel_nm
        Edge of a voxel, nm.
    largest_lag_nm
        Lags up to this length, nm, at least one voxel. Longer ones than the volume has are left out.
    within
        Both voxels of a pair must belong to this region, bool, same shape; all when None.
    blocks
        Most blocks of slices.

    Returns
    -------
    Correlation
        Counts for every length of lag.

    Raises
    ------
    ParameterError
        A largest lag below one voxel.
    IncompatibleError
        Shapes differ.

    Examples
    --------
    Noise without any structure: S2 is phi at 0 and phi^2 elsewhere.

    >>> noise = np.random.default_rng(1).random((64, 64, 64)) < 0.4
    >>> found = two_point_correlation(noise, 50.0, 500.0)
    >>> found.s2()[:3].round(2).tolist()
    [0.4, 0.16, 0.16]
    """
    if not largest_lag_nm >= voxel_nm:
        raise ParameterError(
            f"two_point_correlation: got a largest lag of {largest_lag_nm:g} nm; at least one voxel ({voxel_nm:g} nm) "
            "is needed to have a lag at all. Give some correlation lengths, for example 1500."
        )
    if within is not None and within.shape != phase.shape:
        raise IncompatibleError(
            f"two_point_correlation: the phase is {phase.shape}, the region {within.shape}; both must cover the same "
            "voxels. Crop them alike."
        )
    lag = int(largest_lag_nm / voxel_nm + 1e-6)
    nz = phase.shape[0]
    parts = Blocks(nz, max(1, min(blocks, nz // (2 * lag)))).parts
    squared = _squared_lags(lag)
    length, number = np.unique(squared, return_inverse=True)
    kept = length <= lag * lag
    both, pairs = np.zeros((2, len(parts), length.size))
    for k, part in enumerate(parts):
        inside = None if within is None else within[part]
        here = phase[part] if inside is None else phase[part] & inside
        both[k] = np.bincount(number.ravel(), _self_overlap(here, lag).ravel(), length.size)
        shared = _box_overlap(here.shape, lag) if inside is None else _self_overlap(inside, lag)
        pairs[k] = np.bincount(number.ravel(), shared.ravel(), length.size)
    return Correlation(length[kept].astype(np.int64), both[:, kept], pairs[:, kept], voxel_nm)


def _squared_lags(lag: int) -> NDArray[np.int64]:
    """Return the squared lengths of the lags of half the cube: the other half repeats them."""
    whole = np.arange(-lag, lag + 1) ** 2
    half = np.arange(lag + 1) ** 2
    return np.asarray(whole[:, None, None] + whole[None, :, None] + half[None, None, :], np.int64)


def _self_overlap(mask: BoolArray, lag: int) -> NDArray[np.float64]:
    """Count, for all lags of half the cube, the pairs of voxels that both belong to a mask."""
    import scipy.fft

    shape = [scipy.fft.next_fast_len(n + lag, real=True) for n in mask.shape]
    padded = np.zeros(shape, np.float32)
    padded[: mask.shape[0], : mask.shape[1], : mask.shape[2]] = mask
    spectrum = scipy.fft.rfftn(padded, workers=_FFT_THREADS, overwrite_x=True)
    del padded
    np.square(spectrum.real, out=spectrum.real)
    np.square(spectrum.imag, out=spectrum.imag)
    spectrum.real += spectrum.imag
    spectrum.imag = 0
    overlap = scipy.fft.irfftn(spectrum, s=shape, workers=_FFT_THREADS, overwrite_x=True)
    ahead = np.arange(-lag, lag + 1)
    sheets = overlap[np.ix_(ahead % shape[0], ahead % shape[1], ahead[lag:] % shape[2])]
    return np.asarray(np.rint(sheets.astype(np.float64)))  # counts: lags without a pair are 0, not rounding noise


def _box_overlap(shape: tuple[int, ...], lag: int) -> NDArray[np.float64]:
    """Count the pairs that a whole box has at all lags of half the cube."""
    whole = [np.maximum(n - np.abs(np.arange(-lag, lag + 1)), 0.0) for n in shape]
    return np.asarray(whole[0][:, None, None] * whole[1][None, :, None] * whole[2][lag:][None, None, :])


def correlation_quantities(regions: Regions, recipe: MeasurementRecipe) -> tuple[dict[str, Measured], Curve]:
    """Correlate the layer's silicon; return its quantities and the curve (2, k): lag in nm, S2."""
    units = {"correlation_length_nm": "nm", "specific_surface_from_s2_per_um": "1/um"}
    nothing = np.empty((2, 0))
    lag, silicon = recipe.correlation_lag_nm, regions.silicon & regions.layer
    reason = ""
    if lag == 0:
        reason = "not asked for (correlation_lag_nm = 0)"
    elif lag < regions.voxel_nm:
        reason = f"correlation_lag_nm = {lag:g} nm is below one voxel ({regions.voxel_nm:g} nm)"
    elif not silicon.any() or np.array_equal(silicon, regions.layer):
        reason = ONE_PHASE
    if reason:
        return {name: missing(unit, reason) for name, unit in units.items()}, nothing
    found = two_point_correlation(silicon, regions.voxel_nm, lag, within=regions.layer, blocks=recipe.blocks)
    parts = Blocks(found.both.shape[0], found.both.shape[0])
    quantities = {
        "correlation_length_nm": parts.of(
            found.correlation_length_nm,
            "nm",
            f"silicon's S2 falls to 1/e of its excess; {regions.note}",
            f"no fall to 1/e up to correlation_lag_nm = {lag:g} nm",
        ),
        "specific_surface_from_s2_per_um": parts.of(
            found.specific_surface_per_um, "1/um", f"-4 S2'(0) of silicon; {regions.note}", "no lags of up to 3 voxels"
        ),
    }
    return quantities, np.stack([found.lag_nm, found.s2()])
