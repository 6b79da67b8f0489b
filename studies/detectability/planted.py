"""Objects of known size, planted in a layer on copper, and whether labels show them.

The layer is solid silicon on one side and empty on the other: round pores and flat gaps are planted in the silicon,
round particles in the void. An object is found where at least half of its volume, voxel by voxel, has its phase in the
labels; a voxel that it fills in part counts by that part, so that objects below a voxel are judged as well.
"""

from dataclasses import dataclass

import numpy as np

from npsi_twin.materials.compounds import attenuation_per_um
from npsi_twin.volumes import Phase

#: Heights, nm above the rotation axis: the foil's surface, and the layer's top.
FOIL_NM, TOP_NM = -2000.0, 1500.0
#: Samples along an edge of a voxel that an object fills in part.
SAMPLES = 5
KINDS = ("pore", "gap", "particle")


@dataclass(frozen=True)
class Planted:
    """An object, or a place that stayed empty.

    Attributes
    ----------
    kind
        Of `KINDS`.
    size_nm
        Diameter, or width of a gap, nm.
    middle_nm
        Along the axis, upwards, across the foil, nm.
    half_nm
        Half the extent along the same, nm.
    blank
        Whether the place stayed empty.
    """

    kind: str
    size_nm: float
    middle_nm: tuple[float, float, float]
    half_nm: tuple[float, float, float]
    blank: bool

    def share_of_voxels(self, grid):
        """Return the voxels near the object, as slices, and the share of each that it fills."""
        axes = []
        for coordinates, middle, half in zip(
            (grid.along_nm, grid.height_nm, grid.across_nm), self.middle_nm, self.half_nm, strict=True
        ):
            near = np.flatnonzero(np.abs(coordinates - middle) < half + grid.voxel_nm)
            axes.append((slice(near[0], near[-1] + 1), coordinates[near] - middle))
        inner = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
        fine = [(places[:, None] + grid.voxel_nm * inner).ravel() for _, places in axes]
        z, y, x = np.meshgrid(*fine, indexing="ij", sparse=True)
        if self.kind == "gap":
            inside = (np.abs(z) < self.half_nm[0]) & (np.abs(y) < self.half_nm[1]) & (np.abs(x) < self.half_nm[2])
        else:
            inside = z**2 + y**2 + x**2 < self.half_nm[0] ** 2
        shape = [size for _, places in axes for size in (len(places), SAMPLES)]
        return tuple(cut for cut, _ in axes), inside.reshape(shape).mean(axis=(1, 3, 5))


def plant(design, specimen, length_nm, rng):
    """Draw objects on a jittered lattice in the needle."""
    radius_nm, up_nm, across_nm = needle_nm(specimen)
    pitch, objects = design["pitch_nm"], []
    low, high = np.log(design["sizes_nm"])
    reach = 0.5 * pitch

    def places(start, stop):
        return np.arange(start + reach, stop - reach + 1e-9, pitch)

    for along in places(-length_nm / 2, length_nm / 2):
        for up in places(FOIL_NM + 200, TOP_NM):
            for across in places(across_nm - radius_nm, across_nm + radius_nm):
                middle = np.array([along, up, across]) + rng.uniform(-1, 1, 3) * design["jitter_nm"]
                size = float(np.exp(rng.uniform(low, high)))
                kind = "particle" if across > 0 else ("pore", "gap")[int(rng.integers(2))]
                half = np.full(3, size / 2)
                if kind == "gap":
                    half[:2] = design["slit_nm"] / 2
                # Neither in both sides of the layer nor out of the needle.
                if (
                    abs(across) < pitch / 2
                    or np.hypot(middle[1] - up_nm, middle[2] - across_nm) > radius_nm - pitch / 2
                ):
                    continue
                blank = len(objects) % design["blank_every"] == 0
                objects.append(Planted(kind, size, tuple(middle.tolist()), tuple(half.tolist()), blank))
    return objects


def needle_nm(specimen):
    """Return radius and middle of the needle, upwards and across the foil, nm."""
    return (
        500 * specimen.width_um,
        1000 * specimen.needle_offset_height_um,
        1000 * specimen.needle_offset_across_um,
    )


def attenuation_of(objects, grid, specimen, energy_kev):
    """Return the attenuation of layer, foil and objects on a grid, 1/um, float32 (z, y, x)."""
    radius_nm, up_nm, across_nm = needle_nm(specimen)
    silicon, copper = attenuation_per_um("Si", 2.329, energy_kev), attenuation_per_um("Cu", 8.96, energy_kev)
    up, across = grid.height_nm[:, None], grid.across_nm[None, :]
    slice_per_um = np.where(up <= FOIL_NM, copper, np.where((up <= TOP_NM) & (across < 0), silicon, 0.0))
    slice_per_um = np.where(np.hypot(up - up_nm, across - across_nm) <= radius_nm, slice_per_um, 0.0).astype(np.float32)
    found = np.repeat(slice_per_um[None], grid.shape[0], axis=0)
    for planted in objects:
        if not planted.blank:
            where, share = planted.share_of_voxels(grid)
            own = silicon if planted.kind == "particle" else 0.0
            found[where] += (share * (own - found[where])).astype(np.float32)
    return found


def shares_found(objects, labels):
    """Return for every object the share of its volume that has its phase in the labels."""
    found = []
    for planted in objects:
        where, share = planted.share_of_voxels(labels.grid)
        wanted = Phase.SILICON if planted.kind == "particle" else Phase.VOID
        found.append(float((share * (labels.values[where] == wanted)).sum() / share.sum()))
    return found
