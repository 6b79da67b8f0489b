"""What a reconstruction itself says of where silicon can be: heights above the foil, where the layer ends.

Takes -> gives: attenuation, smoothed attenuation and the foil that was found -> a `LayerView`, which every method of
`segmentation` sees, and which holds nothing else.

The model. The height of a voxel's centre is counted from the foil's local surface. The mean attenuation at a height is
lowest in air, which may also lie under a layer that has lifted. A height carries signal where its mean exceeds that by
`SIGNAL_ENDS_AT` of the way to the peak. The layer ends where the signal does that begins at the peak, or, beyond a gap,
one that reaches `LIFTED_REACHES` of the peak; what is bright up to the rim of the field is an artefact. Air begins
where, from there outwards, the mean cannot be told from the lowest any more: two standard errors of their difference.

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
    def reach(self) -> tuple[float, float]:
        """How far above the foil the layer's signal reaches, and where air begins, voxels; see `layer_reach`."""
        return layer_reach(self.smooth, self.collector, self.guard_voxels, self.surface_row)

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
        """Yield the smoothed attenuation of every slice's layer: what a histogram without air and foil is made of."""
        reach, _ = self.reach
        for z, image in enumerate(self.smooth):
            inside = self.inside(z, reach)
            yield image[inside]

    def inside(self, z: int, reach_voxels: float) -> NDArray[np.bool_]:
        """Tell which voxels of a slice lie in the layer up to a height, above the guard band, bool (y, x)."""
        known = np.isfinite(self.collector.surface_nm[z])
        row = np.where(known, self.surface_row[z], -1.0)[None, :]
        height = row - np.arange(self.smooth.shape[1])[:, None]
        return np.asarray((height > self.guard_voxels) & (height <= reach_voxels) & ~self.collector.foil[z])


def layer_reach(
    smooth: NDArray[Any], collector: Collector, guard_voxels: float, surface_row: HeightMap
) -> tuple[float, float]:
    """Return how far above the foil the layer's signal reaches, and where air begins, in voxels.

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
        sample = np.take_along_axis(smooth, np.maximum(top - k, 0)[:, None, :], axis=1)[:, 0][inside]
        means.append(float(sample.mean(dtype=np.float64)))
        errors.append(float(sample.std(dtype=np.float64)) / sample.size**0.5)
    profile = np.array(means)
    peak = int(np.argmax(profile)) if profile.size else 0
    if profile.size < 2 or profile[peak] - profile.min() <= 10 * errors[int(np.argmin(profile))]:
        raise DataError(
            "segment: nothing above the foil attenuates more than the noise; a layer of silicon is needed to "
            "set a threshold. "
            "Check the volume, or give a fixed threshold_per_um."
        )
    lowest = int(np.argmin(profile[peak:]))
    above, error = profile[peak:] - profile[peak + lowest], np.array(errors[peak:])
    uncertain = np.hypot(error, error[lowest])
    signal = above > SIGNAL_ENDS_AT * above[0]
    starts = np.flatnonzero(signal & ~np.append(False, signal[:-1]))
    ends = 1 + np.flatnonzero(signal[:-1] & ~signal[1:])  # a run up to the rim has none
    bright = LIFTED_REACHES * above[0]
    end = max(int(b) for a, b in zip(starts, ends, strict=False) if above[a:b].max() >= bright)
    air = end + np.flatnonzero(above[end:] <= 2 * uncertain[end:])
    begin = int(air[0]) if air.size else end + int(np.argmin(above[end:]))
    return float(first + peak + end), float(first + peak + begin)
