"""Attenuation against the distance to the local surface of the foil, and what follows from it.

Takes -> gives: labels' foil surface and an attenuation volume -> an `AttenuationProfile` (foil 1, air 0), its plateau,
and the silicon areal inventory.

The model. With the attenuation of the foil a_foil and of air a_air both measured in the same data,

    g = (a - a_air) / (a_foil - a_air)

is the paper's normalised attenuation, averaged over all columns at equal distance h from the *local* surface (from a
mean plane, a rough foil would mix copper into the layer). Lithium hardly attenuates, so the areal inventory

    gT(column) = integral of g dh over the layer, in um of copper

is a mass balance of silicon, the same for any lithiation and swelling; carbon, binder and electrolyte add up to about a
tenth. In the guard band at the foil g holds blurred copper: there it is replaced by the column's mean over the next
band of the same width.

Holds where air is in view above the layer; without it a_air is unknown and everything normalised is NaN.

References
----------
C. Zhao et al., Nano Energy 52 (2018) 381-390, section 3.3.1 and figure 4 (normalisation and profile).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.collector import HeightMap, IntArray
from npsi_twin.morphology.quantities import Blocks
from npsi_twin.morphology.thickness import FoilSurface
from npsi_twin.volumes import Phase, Volume

Curve = NDArray[np.float64]

#: Height of the band of air, above the layer, that the profile covers, nm.
AIR_BAND_NM = 2000.0


@dataclass(frozen=True)
class AttenuationProfile:
    """Attenuation as columns above (and below) the local surface of the foil.

    Attributes
    ----------
    distance_nm
        Distance of the voxel centres to the local surface, nm, negative inside the foil, (k,).
    columns_per_um
        Attenuation of every column at these distances, 1/um, float32 (k, z, x); NaN outside the volume and in columns
        without a foil.
    foil_per_um, foil_spread_per_um
        Mean over columns of the foil's attenuation and its standard deviation, 1/um; NaN when unknown.
    air_per_um
        Attenuation of air above the layer, 1/um; NaN when no air is in view.
    layer_top_nm
        Distance up to which the layer reaches, nm.
    """

    distance_nm: Curve
    columns_per_um: NDArray[np.float32]
    foil_per_um: float
    foil_spread_per_um: float
    air_per_um: float
    layer_top_nm: float

    def __post_init__(self) -> None:
        for name in ("distance_nm", "columns_per_um"):
            view: NDArray[np.floating] = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def normalised(self) -> Curve:
        """Normalised attenuation (foil 1, air 0) averaged over columns at each distance, (k,); NaN without any."""
        return self.normalise(np.array([_mean(columns) for columns in self.columns_per_um]))

    def curve(self, blocks: int) -> Curve:
        """Return distance, normalised attenuation, its spread and the share of columns that reach there, (4, k).

        Parameters
        ----------
        blocks
            Blocks of slices whose standard deviation is the spread (NaN where not every block has a value, or there
            is but one).

        Returns
        -------
        ndarray
            Distance in nm, then three numbers without a unit. Where few columns reach, a mean is that of few places,
            for example of the rim of the volume.
        """
        columns = self.columns_per_um
        seen, total = np.zeros((2, *columns.shape[:2]))
        for number, plane in enumerate(columns):
            finite = np.isfinite(plane)
            seen[number] = finite.sum(axis=1)
            total[number] = np.where(finite, plane, 0.0).sum(axis=1, dtype=np.float64)
        parts = Blocks(columns.shape[1], blocks).parts
        n, sums = (np.stack([values[:, part].sum(axis=1) for part in parts]) for values in (seen, total))
        spread = np.where((n > 0).all(axis=0) & (len(parts) > 1), (sums / np.maximum(n, 1)).std(axis=0), np.nan)
        known = max(1, np.count_nonzero(np.isfinite(columns).any(axis=0))) if columns.size else 1
        scale = abs(self.foil_per_um - self.air_per_um)
        return np.stack([self.distance_nm, self.normalised, spread / scale, seen.sum(axis=1) / known])

    def normalise(self, attenuation_per_um: Curve) -> Curve:
        """Return attenuation in units of the foil's above air."""
        return np.asarray((attenuation_per_um - self.air_per_um) / (self.foil_per_um - self.air_per_um))

    def plateau_map(self, low_nm: float, high_nm: float) -> HeightMap:
        """Return the normalised attenuation of every column, averaged over a band of distances, (z, x)."""
        band = (self.distance_nm >= low_nm) & (self.distance_nm <= high_nm)
        return self.normalise(_mean_along(self.columns_per_um[band]))

    def inventory_map_um(self, guard_nm: float) -> HeightMap:
        """Return the areal inventory g T of every column, um of foil material, (z, x).

        Parameters
        ----------
        guard_nm
            Width of the band at the foil whose attenuation is replaced by that of the next band of equal width.
        """
        voxel_um = float(self.distance_nm[1] - self.distance_nm[0]) / 1000 if self.distance_nm.size > 1 else 0.0
        layer = (self.distance_nm > guard_nm) & (self.distance_nm <= self.layer_top_nm)
        within = self.columns_per_um[layer]
        if within.shape[0] == 0:
            return np.full(self.columns_per_um.shape[1:], np.nan)
        guarded = np.count_nonzero((self.distance_nm > 0) & (self.distance_nm <= guard_nm))
        total = within.sum(axis=0, dtype=np.float64) - self.air_per_um * within.shape[0]
        next_band = within[: max(1, guarded)].mean(axis=0, dtype=np.float64) - self.air_per_um
        return np.asarray((total + guarded * next_band) * voxel_um / (self.foil_per_um - self.air_per_um))


def attenuation_profile(
    labels: Volume,
    attenuation: Volume,
    foil: FoilSurface,
    layer_top_nm: float,
    *,
    foil_band_nm: tuple[float, float] = (300.0, 2000.0),
    air_gap_nm: float = 500.0,
) -> AttenuationProfile:
    """Sort the attenuation by its distance to the local surface of the foil.

    Parameters
    ----------
    labels, attenuation
        Phases and attenuation (1/um) on the same voxels.
    foil
        Surface of the foil in the labels.
    layer_top_nm
        Distance above the foil at which the layer ends everywhere, nm.
    foil_band_nm
        Depths below the surface between which the foil's own attenuation is taken, nm.
    air_gap_nm
        Distance between the layer's top and the region that is taken for air, nm.

    Raises
    ------
    IncompatibleError
        Labels and attenuation do not share shape and voxel size.

    Examples
    --------
    >>> labels = np.zeros((2, 60, 4), np.uint8)
    >>> labels[:, 40:] = Phase.CURRENT_COLLECTOR
    >>> values = np.where(labels > 0, 0.05, 0.0).astype(np.float32)
    >>> values[:, 30:40] = 0.01
    >>> from npsi_twin.morphology.thickness import foil_surface
    >>> volume = Volume(labels, 50.0)
    >>> profile = attenuation_profile(volume, Volume(values, 50.0), foil_surface(volume), 500.0)
    >>> profile.plateau_map(100.0, 400.0).round(3)[0].tolist()
    [0.2, 0.2, 0.2, 0.2]
    """
    if labels.grid != attenuation.grid:
        raise IncompatibleError(
            f"attenuation_profile: labels are {labels.values.shape} of {labels.voxel_nm:g} nm, attenuation is "
            f"{attenuation.values.shape} of "
            f"{attenuation.voxel_nm:g} nm; both must lie on the same voxels. Segment or voxelise at the "
            f"attenuation's grid."
        )
    voxel = labels.voxel_nm
    deepest = int(np.ceil(foil_band_nm[1] / voxel))
    air_ends = int(np.ceil((layer_top_nm + air_gap_nm + AIR_BAND_NM) / voxel))
    highest = min(air_ends, int(np.max(foil.row[foil.valid]))) if foil.valid.any() else 0
    steps = np.arange(-deepest, highest)
    distance = np.asarray((steps + 0.5) * voxel, np.float64)
    columns = np.full((steps.size, *foil.row.shape), np.nan, np.float32)
    depth = (distance <= -foil_band_nm[0]) & (distance >= -foil_band_nm[1])
    foil_columns = np.full((np.count_nonzero(depth), *foil.row.shape), np.nan, np.float32)
    deep = 0
    air_sum, air_count = 0.0, 0
    for number, step in enumerate(steps):
        row = foil.row - 1 - int(step)
        inside = foil.valid & (row >= 0) & (row < labels.values.shape[1])
        grey = _gather(attenuation.values, row)
        phase = _gather(labels.values, row)
        columns[number] = np.where(inside, grey, np.nan)
        if depth[number]:
            foil_columns[deep] = np.where(inside & (phase == Phase.CURRENT_COLLECTOR), grey, np.nan)
            deep += 1
        if distance[number] > layer_top_nm + air_gap_nm:
            air = grey[inside & (phase == Phase.VOID)]
            air_sum, air_count = air_sum + float(air.sum(dtype=np.float64)), air_count + air.size
    per_column = _mean_along(foil_columns)
    known = per_column[np.isfinite(per_column)]
    foil_level = float(known.mean()) if known.size else float("nan")
    foil_spread = float(known.std()) if known.size else float("nan")
    air_level = air_sum / air_count if air_count else float("nan")
    return AttenuationProfile(distance, columns, foil_level, foil_spread, air_level, layer_top_nm)


def _gather(values: NDArray[np.generic], row: IntArray) -> NDArray[np.generic]:
    clipped = np.clip(row, 0, values.shape[1] - 1)
    return np.take_along_axis(values, clipped[:, None, :], axis=1)[:, 0]


def _mean(values: NDArray[np.float32], axis: int | None = None) -> Curve:
    """Mean of what is finite, in float64; NaN where nothing is, without numpy's warning."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis, dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _mean_along(columns: NDArray[np.float32]) -> HeightMap:
    """Mean of every column's finite values, (k, z, x) -> (z, x), slice by slice."""
    found = np.empty(columns.shape[1:])
    for z, row in enumerate(found):
        row[:] = _mean(columns[:, z], 0)
    return found
