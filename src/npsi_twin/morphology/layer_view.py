"""What a reconstruction itself says of where silicon can be: heights above the foil, where the layer ends.

Takes -> gives: attenuation, smoothed attenuation and the foil that was found -> a `LayerView`, which every method of
`segmentation` sees, and which holds nothing else.

The model. The height of a voxel's centre is counted from the foil's local surface. Copper's blurred **flank** is what
falls from the foil without a break; the layer's peak lies beyond it, where the mean falls farthest on its way outwards.
(Eight voxels from the foil the flank still outshines a layer of sparse lithiated silicon; what is bright up to the rim
of the field, an artefact of the reconstruction, falls nowhere.)
Where nothing rises beyond the flank, the layer is thin and falls into air together with it: its peak is at the foil.
Where the flank has fallen below half of the peak, the layer **has lifted**, and begins beyond it.

Beyond the peak the mean attenuation is lowest in air. A height carries signal where its mean exceeds that by
`SIGNAL_ENDS_AT` of the way to the peak and by two standard errors of the difference of two heights of air. The layer
ends where the signal does that begins at the peak, or, beyond a gap, one that reaches `LIFTED_REACHES` of the peak and
`LIFTED_ERRORS`. Air begins where, from there outwards, the mean cannot be told from the lowest any more, by the same
two standard errors. They come from the means of blocks: smoothed noise is correlated, and the spread over voxels would
make its errors half as large.

Holds for a layer on a foil at the bottom of the slices, with air in view above it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError
from npsi_twin.morphology.collector import Collector, HeightMap
from npsi_twin.volumes import FloatArray, Volume

#: Share of the layer's peak above air at which the layer is said to end.
SIGNAL_ENDS_AT = 0.05
#: Share of the peak that a layer beyond a gap reaches; artefacts along the foil reach a tenth in unsmoothed noise.
LIFTED_REACHES = 0.15
#: Standard errors of the difference from the lowest mean by which it does so too. The means of some hundred heights
#: of air range over six of their errors, the lowest three below and the highest three above: 6 / sqrt(2) = 4.2.
LIFTED_ERRORS = 5.0
#: Errors of the lowest mean by which a peak exceeds it where there is a layer: more than the six of air.
SHOWS_ERRORS = 8.0
#: Slices and columns of the blocks whose means give the error of a height's mean: as far as a smoothing reaches along,
#: some times as far across. With fewer than `_ENOUGH` of them, blocks are of single slices.
_BLOCK = (4, 16)
_ENOUGH = 16


@dataclass(frozen=True)
class LayerView:
    """A reconstruction, seen from its foil.

    Attributes
    ----------
    attenuation
        As it was reconstructed, 1/um.
    smooth
        The same after smoothing, 1/um, (z, y, x).
    collector
        The foil.
    guard_voxels
        Width of the band at the foil in which the grey is not trusted.
    """

    attenuation: Volume
    smooth: FloatArray
    collector: Collector
    guard_voxels: float

    @cached_property
    def surface_row(self) -> HeightMap:
        """Row coordinate of the foil's surface, (z, x); the fitted plane stands in where the foil has none."""
        collector = self.collector
        surface = np.where(np.isfinite(collector.surface_nm), collector.surface_nm, collector.plane_nm)
        return np.asarray((collector.foil.shape[1] - 1) / 2 - surface / collector.voxel_nm)

    @cached_property
    def extent(self) -> tuple[float, float, float]:
        """Where above the foil the layer begins and ends, and where air begins, voxels; see `layer_extent`."""
        return layer_extent(self.smooth, self.collector, self.guard_voxels, self.surface_row)

    @property
    def reach(self) -> tuple[float, float]:
        """How far above the foil the layer's signal reaches, and where air begins, voxels."""
        return self.extent[1:]

    @property
    def rows(self) -> slice:
        """Rows between the air above the layer and the lowest part of the foil's surface."""
        last = min(self.smooth.shape[1], int(np.ceil(self.surface_row.max())) + 1)
        first = int(np.floor(self.surface_row.min() - self.reach[1]))
        return slice(min(max(0, first), max(0, last - 1)), max(1, last))

    def heights(self, z: int) -> HeightMap:
        """Height of the voxels of a slice above the local surface of the foil, voxels, (y, x)."""
        return np.asarray(self.surface_row[z][None, :] - np.arange(self.smooth.shape[1])[:, None])

    def samples(self) -> Iterator[NDArray[Any]]:
        """Yield the smoothed attenuation of every slice's layer: what a histogram without air and foil is made of.

        Nor has it the foil's flank, where the layer has lifted from it.
        """
        begin, end, _ = self.extent
        for z, image in enumerate(self.smooth):
            inside = self.inside(z, end)
            if begin > self.guard_voxels:
                inside &= self.heights(z) > begin
            yield image[inside]

    def inside(self, z: int, reach_voxels: float) -> NDArray[np.bool_]:
        """Tell which voxels of a slice lie in the layer up to a height, above the guard band, bool (y, x)."""
        known = np.isfinite(self.collector.surface_nm[z])
        row = np.where(known, self.surface_row[z], -1.0)[None, :]
        height = row - np.arange(self.smooth.shape[1])[:, None]
        return np.asarray((height > self.guard_voxels) & (height <= reach_voxels) & ~self.collector.foil[z])


def _error_of_mean(sample: FloatArray, inside: NDArray[np.bool_]) -> float:
    """Return the standard error of a height's mean, from the means of blocks, since smoothed noise is correlated."""
    for slices, enough in ((_BLOCK[0], _ENOUGH), (1, 2)):
        count, total = (_block_sums(of, (slices, _BLOCK[1])) for of in (inside, np.where(inside, sample, 0.0)))
        full = 2 * count >= slices * _BLOCK[1]
        number = int(np.count_nonzero(full))
        if number >= enough:
            return float((total[full] / count[full]).std() / np.sqrt(number))
    return float(sample[inside].std(dtype=np.float64) / np.sqrt(np.count_nonzero(inside)))


def _block_sums(values: NDArray[Any], block: tuple[int, int]) -> NDArray[np.float64]:
    """Sum the blocks of a map (z, x)."""
    along, across = (np.arange(0, n, step) for n, step in zip(values.shape, block, strict=True))
    rows = np.add.reduceat(values, across, axis=1, dtype=np.float64)
    return np.asarray(np.add.reduceat(rows, along, axis=0))


def _peak(profile: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[int, int]:
    """Return where the foil's flank ends, and the height beyond it from which the mean falls farthest.

    Both are 0 where nothing rises beyond the flank.
    """
    if profile.size >= 2:
        rises = np.flatnonzero(np.diff(profile) > 0)
        valley = int(rises[0]) if rises.size else profile.size - 1
        # by how much each height exceeds what lies beyond it: an artefact that rises up to the rim does not fall again,
        # and a gap under the layer, which may be darker than air, does not count
        fall = profile - np.minimum.accumulate(profile[::-1])[::-1]
        for flank, peak in ((valley, valley + int(np.argmax(fall[valley:]))), (0, 0)):
            if fall[peak] > SHOWS_ERRORS * errors[peak + int(np.argmin(profile[peak:]))]:
                return flank, peak
    raise DataError(
        "segment: nothing above the foil attenuates more than the noise; a layer of silicon is needed to "
        "set a threshold. "
        "Check the volume, or give a fixed threshold_per_um."
    )


def layer_extent(
    smooth: NDArray[Any], collector: Collector, guard_voxels: float, surface_row: HeightMap
) -> tuple[float, float, float]:
    """Return where above the foil the layer begins, how far its signal reaches, and where air begins, in voxels.

    A layer that has not lifted begins at the guard band.

    Parameters
    ----------
    smooth
        Smoothed attenuation, 1/um, (z, y, x).
    collector
        The foil.
    guard_voxels
        Width of the band at the foil that is left out.
    surface_row
        Row coordinate of the foil's surface, (z, x).

    Raises
    ------
    DataError
        Nothing above the foil attenuates more than noise does.
    """
    with_foil = np.isfinite(collector.surface_nm)
    top = np.floor(surface_row).astype(np.intp)
    means: list[float] = []
    errors: list[float] = []
    first = int(np.ceil(guard_voxels))
    for k in range(first, smooth.shape[1]):
        inside = with_foil & (top - k >= 0)
        if int(np.count_nonzero(inside)) < max(1, int(np.count_nonzero(with_foil)) // 2):
            break
        sample = np.take_along_axis(smooth, np.maximum(top - k, 0)[:, None, :], axis=1)[:, 0]
        means.append(float(sample[inside].mean(dtype=np.float64)))
        errors.append(_error_of_mean(sample, inside))
    profile = np.array(means)
    valley, peak = _peak(profile, np.array(errors))
    lowest = int(np.argmin(profile[peak:]))
    above = profile[peak:] - profile[peak + lowest]
    # of two heights of air; the error of a height with few particles is theirs, and would hide them
    uncertain = 2**0.5 * errors[peak + lowest]
    signal = above > max(SIGNAL_ENDS_AT * above[0], 2 * uncertain)
    signal[0] = True
    starts = np.flatnonzero(signal & ~np.append(False, signal[:-1]))
    ends = 1 + np.flatnonzero(signal[:-1] & ~signal[1:])  # a run up to the rim has none
    bright = min(above[0], max(LIFTED_REACHES * above[0], LIFTED_ERRORS * uncertain))
    end = max(int(b) for a, b in zip(starts, ends, strict=False) if above[a:b].max() >= bright)
    air = end + np.flatnonzero(above[end:] <= 2 * uncertain)
    clear = int(air[0]) if air.size else end + int(np.argmin(above[end:]))
    lifted = profile[valley] - profile[peak + lowest] < above[0] / 2
    return (
        float(first + valley) if lifted else guard_voxels,
        float(first + peak + end),
        float(first + peak + clear),
    )
