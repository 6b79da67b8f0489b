"""Sizes and shapes of particles and agglomerates, and how their cores differ from their rims.

Takes -> gives: `Bodies` -> a table of them, their quantities, and the core-shell index of an attenuation volume.

The model. A body's **size** is the diameter of the ball of its volume; its **sphericity** the surface of that ball over
its own, counted along 13 directions (`pore_space`); its **aspect** the longest over the shortest axis of the ellipsoid
with its moments of inertia. Means are weighted by volume; the mean size of agglomerates is that of a ball of the
volume-weighted mean volume, as `comparison.truth_observables` has it for the truth. Bodies that the volume's faces or
the ends of the foil cut are left out of sizes and shapes.

The **core-shell index** is the attenuation of the deepest third of a body's voxels over that of the shallowest third,
all bodies together; depth is the distance to the nearest voxel that is not the body's, and voxels next to such a one,
which may be shared, are left out. It is 1 for bodies alike throughout.

Holds for bodies of a radius of 8 voxels and more within 2 % (sphericity) and 1 % (size, aspect).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.morphology.bodies import Bodies, Numbers, find_bodies
from npsi_twin.morphology.collector import BoolArray
from npsi_twin.morphology.measurement_recipe import MeasurementRecipe
from npsi_twin.morphology.pore_space import directions_of
from npsi_twin.morphology.profiles import AttenuationProfile
from npsi_twin.morphology.quantities import Measured, missing
from npsi_twin.morphology.regions import Regions, unresolved
from npsi_twin.volumes import FloatArray, Volume

Column = NDArray[np.float64]

#: Voxels that a third of a body must have to tell its core from its rim.
_FEWEST_VOXELS = 10
#: Classes of depth a voxel.
_DEPTH_CLASSES = 8


@dataclass(frozen=True)
class BodyShapes:
    """One row a body, in the order of their numbers.

    Attributes
    ----------
    volume_um3, sphericity, aspect
        Volume, surface of the ball of that volume over the body's, longest over shortest axis; (bodies,).
    cut
        Whether a face of the volume, or what is no space, cuts the body, bool (bodies,).
    """

    volume_um3: Column
    sphericity: Column
    aspect: Column
    cut: BoolArray

    def __post_init__(self) -> None:
        for name in ("volume_um3", "sphericity", "aspect", "cut"):
            getattr(self, name).flags.writeable = False

    @property
    def size_um(self) -> Column:
        """Diameter of the ball of each body's volume, um."""
        return np.asarray(np.cbrt(6 / np.pi * self.volume_um3))


def body_shapes(numbers: Numbers, voxel_nm: float, *, beyond: BoolArray | None = None) -> BodyShapes:
    """Measure every numbered body.

    Parameters
    ----------
    numbers
        Number of the body of every voxel, from 1, (z, y, x); 0 where there is none.
    voxel_nm
        Edge of a voxel, nm.
    beyond
        Columns, bool (z, x), in which nothing is known: bodies that touch them are cut, like those at the faces. The
        lower face (large y) is where the foil lies and cuts nothing if ``beyond`` is given.

    Examples
    --------
    >>> z, y, x = np.indices((28, 28, 28)) - 13.5
    >>> ball = (z**2 + y**2 + x**2 < 100).astype(np.int32)
    >>> shapes = body_shapes(ball, 50.0)
    >>> [round(float(v[0]), 2) for v in (shapes.size_um, shapes.sphericity, shapes.aspect)]
    [1.0, 1.0, 1.0]
    """
    count = int(numbers.max(initial=0))
    offsets, steps_nm, weights = directions_of(13, voxel_nm)
    moments, crossed = np.zeros((count + 1, 10), np.int64), np.zeros((count + 1, len(offsets)), np.int64)
    cut = np.zeros(count + 1, np.bool_)
    unknown = np.zeros((numbers.shape[0], numbers.shape[2]), np.bool_) if beyond is None else beyond
    _gather(numbers, offsets, unknown, beyond is None, moments, crossed, cut)
    moments, crossed, cut = moments[1:], crossed[1:], cut[1:]
    voxels = moments[:, 0].astype(np.float64)
    volume = voxels * (voxel_nm / 1000) ** 3
    area = 2e-6 * (crossed * (weights * voxel_nm**3 / steps_nm)).sum(axis=1)
    sphericity = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / np.maximum(area, 1e-300)
    return BodyShapes(volume, sphericity, _aspects(moments), cut)


def _aspects(moments: NDArray[np.int64]) -> Column:
    """Return the longest over the shortest axis of the ellipsoid with each body's second moments."""
    voxels = np.maximum(moments[:, 0], 1).astype(np.float64)
    mean = moments[:, 1:4] / voxels[:, None]
    tensor = np.empty((moments.shape[0], 3, 3))
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        central = moments[:, 4 + column] / voxels - mean[:, a] * mean[:, b]
        tensor[:, a, b] = tensor[:, b, a] = central + (a == b) / 12  # a voxel has a width
    axes = np.linalg.eigvalsh(tensor)
    return np.asarray(np.sqrt(axes[:, 2] / axes[:, 0]))


@njit(cache=True, nogil=True)
def _gather(
    numbers: Numbers,
    offsets: NDArray[np.int64],
    unknown: BoolArray,
    foot_cuts: bool,
    moments: NDArray[np.int64],
    crossed: NDArray[np.int64],
    cut: BoolArray,
) -> None:
    """Add up every body's moments and surface crossings, and mark those that are cut."""
    nz, ny, nx = numbers.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                here = numbers[z, y, x]
                if here == 0:
                    continue
                sums = moments[here]
                sums[0] += 1
                sums[1] += z
                sums[2] += y
                sums[3] += x
                sums[4] += z * z
                sums[5] += y * y
                sums[6] += x * x
                sums[7] += z * y
                sums[8] += z * x
                sums[9] += y * x
                at_face = z == 0 or y == 0 or x == 0 or z == nz - 1 or x == nx - 1 or (foot_cuts and y == ny - 1)
                if at_face or unknown[z - 1, x] or unknown[z + 1, x] or unknown[z, x - 1] or unknown[z, x + 1]:
                    cut[here] = True
                for d in range(offsets.shape[0]):
                    w, v, u = z + offsets[d, 0], y + offsets[d, 1], x + offsets[d, 2]
                    inside = 0 <= w < nz and 0 <= v < ny and 0 <= u < nx
                    if not inside or numbers[w, v, u] != here:
                        crossed[here, d] += 1
                    w, v, u = z - offsets[d, 0], y - offsets[d, 1], x - offsets[d, 2]
                    inside = 0 <= w < nz and 0 <= v < ny and 0 <= u < nx
                    if not inside or numbers[w, v, u] != here:
                        crossed[here, d] += 1


def core_shell_index(numbers: Numbers, attenuation_per_um: NDArray[np.floating], *, air_per_um: float = 0.0) -> float:
    """Return the attenuation of the bodies' deepest third over that of their shallowest; see the head of this module.

    Parameters
    ----------
    numbers
        Number of the body of every voxel, from 1, (z, y, x); 0 where there is none.
    attenuation_per_um
        Attenuation, 1/um, same shape.
    air_per_um
        That of air, which is taken off, 1/um.

    Returns
    -------
    float
        NaN without a body of enough voxels, or where rims do not attenuate.

    Examples
    --------
    >>> z, y, x = np.indices((28, 28, 28)) - 13.5
    >>> radius = np.sqrt(z**2 + y**2 + x**2)
    >>> core_shell_index((radius < 12).astype(np.int32), np.where(radius < 9, 0.01, 0.02))
    0.5
    """
    import edt

    if not numbers.any():
        return float("nan")
    depth = edt.edt(np.require(numbers, np.int32, ["C", "W"]).view(np.uint32))
    if not np.isfinite(depth).all():  # one body fills the volume and has no rim
        return float("nan")
    deepest = np.full(int(numbers.max()) + 1, -1, np.int64)
    _deepest(numbers, depth, deepest)
    start = np.concatenate([[0], np.cumsum(deepest + 1)])
    voxels, total = np.zeros(int(start[-1]), np.int64), np.zeros(int(start[-1]))
    attenuation = np.asarray(attenuation_per_um, np.float32)
    _sort_by_depth(numbers, depth, attenuation, np.float32(air_per_um), start, voxels, total)
    inner = outer = 0.0
    for body in range(1, deepest.size):
        n, s = voxels[start[body] : start[body + 1]], total[start[body] : start[body + 1]]
        third = n.sum() / 3
        if third >= _FEWEST_VOXELS:
            outer, inner = outer + _first(n, s, third), inner + _first(n[::-1], s[::-1], third)
    return float(inner / outer) if outer > 0 else float("nan")


def _first(voxels: NDArray[np.int64], total: Column, wanted: float) -> float:
    """Sum the attenuation of the first so many voxels; of the class in which they end, an equal share."""
    before = np.concatenate([[0], np.cumsum(voxels)[:-1]])
    taken = np.clip(wanted - before, 0, voxels)
    return float((total * taken / np.maximum(voxels, 1)).sum())


@njit(cache=True, nogil=True)
def _deepest(numbers: Numbers, depth: FloatArray, deepest: NDArray[np.int64]) -> None:
    for z in range(numbers.shape[0]):
        for y in range(numbers.shape[1]):
            for x in range(numbers.shape[2]):
                here = numbers[z, y, x]
                if here > 0 and depth[z, y, x] > 1:
                    deepest[here] = max(deepest[here], int(depth[z, y, x] * _DEPTH_CLASSES))


@njit(cache=True, nogil=True)
def _sort_by_depth(
    numbers: Numbers,
    depth: FloatArray,
    attenuation: FloatArray,
    air: np.float32,
    start: NDArray[np.int64],
    voxels: NDArray[np.int64],
    total: Column,
) -> None:
    for z in range(numbers.shape[0]):
        for y in range(numbers.shape[1]):
            for x in range(numbers.shape[2]):
                if numbers[z, y, x] > 0 and depth[z, y, x] > 1:
                    place = start[numbers[z, y, x]] + int(depth[z, y, x] * _DEPTH_CLASSES)
                    voxels[place] += 1
                    total[place] += attenuation[z, y, x] - air


_UNITS = {
    "particle_size_um": "um",
    "particle_aspect": "",
    "particle_sphericity": "",
    "agglomerate_size_um": "um",
    "agglomerate_aspect": "",
    "agglomerate_sphericity": "",
    "agglomerated_share": "",
    "core_shell_index": "",
}


def body_quantities(
    regions: Regions,
    attenuation: Volume | None,
    profile: AttenuationProfile | None,
    why_no_attenuation: str,
    recipe: MeasurementRecipe,
) -> dict[str, Measured]:
    """Measure particles and agglomerates of the layer; the profile says what air attenuates."""
    reason = ""
    if not recipe.bodies:
        reason = "not asked for (bodies = false)"
    elif unresolved(regions, recipe):
        reason = unresolved(regions, recipe)
    elif not regions.particles.any():
        reason = "no silicon"
    elif regions.particles.all():
        reason = "silicon fills the volume, hence no body has a rim"
    if reason:
        return {name: missing(unit, reason) for name, unit in _UNITS.items()}
    bodies = find_bodies(
        regions.particles,
        regions.silicon & regions.particles,
        regions.voxel_nm,
        split_ratio=recipe.split_ratio,
        contact_share=recipe.contact_share,
    )
    beyond = ~regions.foil.valid if regions.has_foil else None
    smallest = np.pi / 6 * (recipe.smallest_body_nm / 1000) ** 3
    shapes = body_shapes(bodies.particle, regions.voxel_nm, beyond=beyond)
    whole = (shapes.volume_um3 >= smallest) & ~shapes.cut
    few = f"no whole particle of {recipe.smallest_body_nm:g} nm or more in view"
    found = _shape_quantities("particle", shapes, whole, few)
    group, volume = bodies.agglomerate[1:], shapes.volume_um3
    of_group, members = (np.bincount(group, of)[1:] for of in (volume, volume >= smallest))  # they count from 1
    numbers = _of_agglomerates(bodies)
    shapes = body_shapes(numbers, regions.voxel_nm, beyond=beyond)
    whole = (shapes.volume_um3 >= smallest) & ~shapes.cut
    found |= _shape_quantities("agglomerate", shapes, whole, "no whole agglomerate in view")
    found["agglomerate_size_um"] = _agglomerate_size(shapes.volume_um3[whole])
    share = float(of_group[members > 1].sum() / of_group.sum())
    found["agglomerated_share"] = Measured(
        share, float("nan"), bodies.count, "", "volume of agglomerates of two or more particles over that of all bodies"
    )
    if attenuation is None or profile is None:
        found["core_shell_index"] = missing("", why_no_attenuation)
    elif not np.isfinite(profile.air_per_um):
        found["core_shell_index"] = missing("", "no air in view above the layer")
    else:
        found["core_shell_index"] = _core_shell(numbers, attenuation.values[:, regions.rows], profile.air_per_um)
    return found


def _shape_quantities(name: str, shapes: BodyShapes, whole: BoolArray, reason: str) -> dict[str, Measured]:
    """Return mean size, aspect and sphericity of the bodies that count."""
    return {
        f"{name}_{part}": _weighted(values[whole], shapes.volume_um3[whole], unit, words, reason)
        for part, values, unit, words in (
            ("size_um", shapes.size_um, "um", f"diameter of the ball of the {name}'s volume"),
            ("aspect", shapes.aspect, "", f"the {name}'s longest over its shortest axis"),
            ("sphericity", shapes.sphericity, "", f"surface of the ball of the {name}'s volume over its own"),
        )
    }


def _weighted(values: Column, volume: Column, unit: str, words: str, reason: str) -> Measured:
    if values.size == 0:
        return missing(unit, reason)
    mean = float((volume * values).sum() / volume.sum())
    spread = float(np.sqrt((volume * (values - mean) ** 2).sum() / volume.sum())) if values.size > 1 else float("nan")
    return Measured(mean, spread, values.size, unit, f"{words}, weighted by volume; whole ones in view")


def _agglomerate_size(volume: Column) -> Measured:
    if volume.size == 0:
        return missing("um", "no whole agglomerate in view")
    mean = float(np.cbrt(6 / np.pi * (volume**2).sum() / volume.sum()))
    spread = float(np.cbrt(6 / np.pi * volume).std()) if volume.size > 1 else float("nan")
    return Measured(mean, spread, volume.size, "um", "ball of the volume-weighted mean volume; whole agglomerates")


def _of_agglomerates(bodies: Bodies) -> Numbers:
    """Return the number of the agglomerate of every voxel."""
    numbers = np.empty(bodies.particle.shape, np.int32)
    for agglomerate, particle in zip(numbers, bodies.particle, strict=True):
        agglomerate[:] = bodies.agglomerate[particle]
    return numbers


def _core_shell(numbers: Numbers, attenuation: NDArray[Any], air_per_um: float) -> Measured:
    index = core_shell_index(numbers, attenuation, air_per_um=air_per_um)
    note = "attenuation of the agglomerates' deepest third over their shallowest"
    if not np.isfinite(index):
        return missing("", "no body of enough voxels, or none whose rim attenuates")
    return Measured(index, float("nan"), int(numbers.max()), "", note)
