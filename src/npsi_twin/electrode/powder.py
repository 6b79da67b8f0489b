"""The powder: faceted np-Si particles packed between the foil and the top of the layer.

`PowderRecipe`, the two surfaces, the built region, `Seeds` -> `Particles`: places and convex envelopes. The model:
crushed grains pressed into a layer. Spheres with drawn diameters start at random places and push each other apart
(soft-sphere relaxation) between the foil and the top. Each grain is then a convex polyhedron with random facets of
its own (its volume that of its sphere), cut by contact facets: the radical planes against its neighbours, pulled back
by half the clearance, and the tangent planes of foil and top. Radical planes make overlap impossible. All grains grow
by one common factor until envelopes fill the asked share of the layer, so that the mean volume is that of the drawn
diameters.

It holds while envelopes fill less than about 0.65 of the layer: beyond it a powder becomes a mosaic.
`bicontinuous` fills the envelopes with pores, `binder` the room between them.
"""

import math
from dataclasses import dataclass
from itertools import count as counting

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from npsi_twin.electrode.polyhedra import Floats, Integers, gather, measure_polyhedra
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Steps of the relaxation; overlaps change by less than 1 nm a step well before its end.
_RELAXATION_STEPS = 250
#: Range of the common growth factor: beyond it the asked share of the layer cannot be met by these grains.
_GROWTH = (0.6, 1.6)


class PowderRecipe(Recipe):
    """Sizes, shapes and packing of the particles."""

    median_diameter_um: float = parameter(
        1.4,
        "median diameter of the sphere of a particle's volume",
        unit="um",
        source="assumed: fits a 2 um layer",
        ge=0.2,
        le=20,
    )
    diameter_spread: float = parameter(
        0.25, "standard deviation of the logarithm of the diameter", source="assumed", ge=0, le=1
    )
    smallest_diameter_um: float = parameter(
        1.0, "drawn diameters below this are drawn again", unit="um", source="assumed", ge=0.1, le=20
    )
    largest_diameter_um: float = parameter(
        2.0, "drawn diameters above this are drawn again", unit="um", source="assumed", ge=0.2, le=40
    )
    envelope_fraction: float = parameter(
        0.55, "volume of all particle envelopes over the volume of the layer", source="assumed", ge=0.05, le=0.7
    )
    facets: int = parameter(14, "facets of a free particle", source="assumed: crushed grains", ge=6, le=40)
    facet_irregularity: float = parameter(
        0.2, "relative scatter of the facets' distances and directions", source="assumed", ge=0, le=0.4
    )
    clearance_nm: float = parameter(
        40.0,
        "smallest gap between touching particles, filled by carbon and binder",
        unit="nm",
        source="assumed",
        ge=0,
        le=1000,
    )


@dataclass(frozen=True)
class Particles:
    """Places and envelopes of the particles; particle ids in a truth volume are these indices plus one.

    Attributes
    ----------
    centre_nm
        (particles, 3), nm, along (along, height, across).
    facet_normals, facet_distances_nm, facet_start
        Facet planes: unit normals (facets, 3), distances from the centre (facets,) nm; particle i owns the facets
        ``facet_start[i]:facet_start[i + 1]``.
    lower_nm, upper_nm
        Bounding box of each envelope, from its centre, (particles, 3), nm.
    envelope_nm3
        Exact volume of each envelope, (particles,), nm3.
    lithium_per_silicon
        x in LixSi of each particle's silicon, (particles,).
    silicon_volume_ratio
        Volume of each particle's silicon as drawn over its lithium-free volume, (particles,); 1 until it swells.
    core_distances_nm
        Planes of a core within each envelope, parallel to its facets, (facets,) nm; minus infinity: no core.
    core_lithium_per_silicon
        x in LixSi of the core's silicon, (particles,); ``lithium_per_silicon`` is then that of the shell.
    """

    centre_nm: Floats
    facet_normals: Floats
    facet_distances_nm: Floats
    facet_start: Integers
    lower_nm: Floats
    upper_nm: Floats
    envelope_nm3: Floats
    lithium_per_silicon: Floats
    silicon_volume_ratio: Floats
    core_distances_nm: Floats
    core_lithium_per_silicon: Floats

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False

    @property
    def count(self) -> int:
        """Number of particles."""
        return int(self.envelope_nm3.size)

    @property
    def diameter_nm(self) -> Floats:
        """Diameters of the spheres of the envelopes' volumes, (particles,), nm."""
        return np.asarray(np.cbrt(6 / math.pi * self.envelope_nm3))


@dataclass(frozen=True)
class Region:
    """The block in which a scene is built: half extents along and across, nm."""

    half_along_nm: float
    half_across_nm: float


def build_powder(recipe: PowderRecipe, foil: HeightMap, layer: HeightMap, region: Region, *, seeds: Seeds) -> Particles:
    """Pack and facet the powder.

    Parameters
    ----------
    recipe
        Sizes, shapes, packing.
    foil, layer
        The foil's surface and the layer's height above it.
    region
        Where to pack.
    seeds
        Root of the streams ``powder-diameters``, ``powder-places`` and ``(powder-facets, particle)``.

    Returns
    -------
    Particles
        In the order of their drawing.

    Raises
    ------
    ParameterError
        If no particle fits, or if envelopes cannot fill the asked share of the layer.
    """
    if recipe.smallest_diameter_um >= recipe.largest_diameter_um:
        raise ParameterError(
            f"powder: smallest_diameter_um = {recipe.smallest_diameter_um:g} um is not below largest_diameter_um = "
            f"{recipe.largest_diameter_um:g} um; the drawn diameters lie between them. Widen the range."
        )
    volume_nm3 = _layer_volume_nm3(layer, region)
    radii = _draw_radii(recipe, recipe.envelope_fraction * volume_nm3, seeds.stream("powder-diameters"))
    places = _draw_places(radii.size, foil, layer, region, seeds.stream("powder-places"))
    places = _relax(places, radii, foil, layer, region)
    facets = _own_facets(recipe, radii, seeds)
    return _grow(recipe, places, radii, facets, foil, layer, volume_nm3)


def _layer_volume_nm3(layer: HeightMap, region: Region) -> float:
    cell = 250.0
    n_along, n_across = (math.ceil(2 * half / cell) for half in (region.half_along_nm, region.half_across_nm))
    along = np.linspace(-1, 1, 2 * n_along + 1)[1::2] * region.half_along_nm
    across = np.linspace(-1, 1, 2 * n_across + 1)[1::2] * region.half_across_nm
    return float(layer.on_rows(along, across, cell).mean()) * 4 * region.half_along_nm * region.half_across_nm


def _draw_radii(recipe: PowderRecipe, envelope_nm3: float, rng: np.random.Generator) -> Floats:
    """Draw truncated lognormal diameters until their spheres have the asked volume; return radii in nm."""
    low, high = 1e3 * recipe.smallest_diameter_um, 1e3 * recipe.largest_diameter_um
    radii, volume = [], 0.0
    for draws in counting(1):
        diameter = 1e3 * recipe.median_diameter_um * math.exp(recipe.diameter_spread * rng.normal())
        if low <= diameter <= high:
            radii.append(diameter / 2)
            volume += math.pi / 6 * diameter**3
            if volume >= envelope_nm3:
                break
        if draws > 1000 * (len(radii) + 1):
            raise ParameterError(
                f"powder: diameters about {recipe.median_diameter_um:g} um almost never lie between "
                f"{recipe.smallest_diameter_um:g} and {recipe.largest_diameter_um:g} um. Move the median between "
                "the limits."
            )
    return np.asarray(radii)


def _draw_places(count: int, foil: HeightMap, layer: HeightMap, region: Region, rng: np.random.Generator) -> Floats:
    """Draw places uniform in the layer's volume, (count, 3), nm."""
    tallest = layer.mean_nm + 5 * layer.sd_nm
    places = np.empty((0, 3))
    while len(places) < count:
        trial = rng.uniform(-1, 1, size=(count, 3)) * (region.half_along_nm, 0, region.half_across_nm)
        trial[:, 1] = rng.uniform(0, tallest, count)
        trial = trial[trial[:, 1] < layer.at(trial[:, 0], trial[:, 2])]
        trial[:, 1] += foil.at(trial[:, 0], trial[:, 2])
        places = np.concatenate([places, trial])
    return places[:count]


def _relax(places: Floats, radii: Floats, foil: HeightMap, layer: HeightMap, region: Region) -> Floats:
    """Push overlapping spheres apart, within foil, top and the region's sides; every step is a fixed-order sum."""
    places = places.copy()
    sides = np.stack([region.half_along_nm - radii, region.half_across_nm - radii], axis=1).clip(min=0)
    walls = _SampledWalls(foil, layer, region)
    for _ in range(_RELAXATION_STEPS):
        push = np.zeros_like(places)
        pairs = _sorted_pairs(places, 2 * radii.max())
        apart = places[pairs[:, 0]] - places[pairs[:, 1]]
        distance = np.sqrt((apart**2).sum(axis=1)).clip(min=1e-6)
        overlap = (radii[pairs[:, 0]] + radii[pairs[:, 1]] - distance).clip(min=0)
        step = apart * (0.3 * overlap / distance)[:, None]
        for axis in range(3):
            push[:, axis] += np.bincount(pairs[:, 0], step[:, axis], len(radii))
            push[:, axis] -= np.bincount(pairs[:, 1], step[:, axis], len(radii))
        ground, top, top_slope = walls.at(places)
        steep = np.sqrt(1 + (top_slope**2).sum(axis=1))
        below = (ground + radii - places[:, 1]).clip(min=0)
        above = (places[:, 1] + radii - top).clip(min=0) / steep
        push[:, 1] += 0.5 * below - 0.5 * above
        push[:, [0, 2]] += (0.5 * above)[:, None] * top_slope
        places += push
        places[:, [0, 2]] = np.clip(places[:, [0, 2]], -sides, sides)
    ground, top, _ = walls.at(places)
    margin = np.minimum(0.5 * radii, 0.5 * (top - ground))
    places[:, 1] = np.clip(places[:, 1], ground + margin, top - margin)
    return places


class _SampledWalls:
    """Foil and top on a fine lattice, for the relaxation's many look-ups; contact planes use the exact surfaces."""

    def __init__(self, foil: HeightMap, layer: HeightMap, region: Region) -> None:
        self._cell = 200.0
        halves = np.array([region.half_along_nm, region.half_across_nm])
        along, across = (np.arange(-half, half + 2 * self._cell, self._cell) for half in halves)
        ground = foil.on_rows(along, across, 0.0)
        top = ground + layer.on_rows(along, across, 0.0)
        self._halves = halves
        self._maps = (ground, top, *np.gradient(top, self._cell))

    def at(self, places: Floats) -> tuple[Floats, Floats, Floats]:
        """Return ground (n,), top (n,) and the top's slopes (n, 2) at places."""
        where = (places[:, [0, 2]] + self._halves).T / self._cell
        ground, top, down_along, down_across = (map_coordinates(m, where, order=1) for m in self._maps)
        return ground, top, np.stack([down_along, down_across], axis=1)


def _sorted_pairs(places: Floats, reach_nm: float) -> Integers:
    pairs = cKDTree(places).query_pairs(reach_nm, output_type="ndarray").astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@dataclass(frozen=True)
class _Facets:
    """Facet planes of free particles: owners, unit normals, distances; and the circumscribed radii."""

    owner: Integers
    normals: Floats
    distances_nm: Floats
    reach_nm: Floats


def _own_facets(recipe: PowderRecipe, radii: Floats, seeds: Seeds) -> _Facets:
    """Draw every particle's own facets; the free polyhedron has the volume of its sphere."""
    turn = np.arange(recipe.facets)
    polar = np.arccos(1 - (2 * turn + 1) / recipe.facets)
    azimuth = math.pi * (1 + math.sqrt(5)) * turn
    even = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)
    normals, distances = [], []
    for particle in range(radii.size):
        rng = seeds.stream("powder-facets", particle)
        frame, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        directions = (even[:, :, None] * frame[None]).sum(axis=1)
        directions += recipe.facet_irregularity * rng.normal(size=directions.shape)
        normals.append(directions / np.sqrt((directions**2).sum(axis=1, keepdims=True)))
        scatter = np.clip(rng.normal(size=recipe.facets), -2, 2)
        distances.append(radii[particle] * (1 + recipe.facet_irregularity * scatter))
    # Six distant planes close the few polyhedra whose random facets leave a side open.
    box = np.concatenate([np.eye(3), -np.eye(3)])
    owner = np.repeat(np.arange(radii.size), recipe.facets + 6)
    planes = np.concatenate([np.concatenate([own, box]) for own in normals])
    offsets = np.concatenate(
        [np.concatenate([own, np.full(6, 1.5 * r)]) for own, r in zip(distances, radii, strict=True)]
    )
    start = np.arange(radii.size + 1) * (recipe.facets + 6)
    free = measure_polyhedra(planes, offsets, start)
    scale = radii * np.cbrt(4 * math.pi / 3 / free.volume_nm3)
    return _Facets(owner, planes, offsets * scale[owner], free.reach_nm * scale)


def _grow(
    recipe: PowderRecipe,
    places: Floats,
    radii: Floats,
    facets: _Facets,
    foil: HeightMap,
    layer: HeightMap,
    layer_nm3: float,
) -> Particles:
    """Cut the contacts and grow all grains by one factor until envelopes fill their share of the layer."""
    wanted = recipe.envelope_fraction * layer_nm3
    walls = wall_planes(places, foil, layer)

    def planes_at(growth: float) -> tuple[Integers, Floats, Floats]:
        contacts = contact_planes(places, radii * growth, facets.reach_nm * growth, recipe.clearance_nm)
        owner = np.concatenate([facets.owner, contacts[0], walls[0]])
        normals = np.concatenate([facets.normals, contacts[1], walls[1]])
        distances = np.concatenate([facets.distances_nm * growth, contacts[2], walls[2]])
        start, (normals, distances) = gather(owner, radii.size, normals, distances)
        return start, normals, distances

    def excess(growth: float) -> float:
        start, normals, distances = planes_at(growth)
        return float(measure_polyhedra(normals, distances, start).volume_nm3.sum()) / wanted - 1

    least, most = excess(_GROWTH[0]), excess(_GROWTH[1])
    if least > 0 or most < 0:
        reachable = recipe.envelope_fraction * (1 + most)
        raise ParameterError(
            f"powder: envelope_fraction = {recipe.envelope_fraction:g} cannot be packed; at most {reachable:.2f} is "
            "reached "
            f"with these diameters, this clearance and this layer, since touching grains leave gaps. Ask for less, for "
            "smaller particles or for less clearance."
        )
    growth = float(brentq(excess, *_GROWTH, xtol=1e-5))
    return bounded_particles(places, *planes_at(growth))


def bounded_particles(places: Floats, start: Integers, normals: Floats, distances: Floats) -> Particles:
    """Drop planes that bound nothing and particles that the contacts left empty."""
    found = measure_polyhedra(normals, distances, start)
    owner = np.repeat(np.arange(found.volume_nm3.size), np.diff(start))
    kept = found.volume_nm3 > 0
    number = np.cumsum(kept) - 1
    faces = (found.area_nm2 > 0) & kept[owner]
    start, (normals, distances) = gather(number[owner[faces]], int(kept.sum()), normals[faces], distances[faces])
    return Particles(
        centre_nm=places[kept],
        facet_normals=normals,
        facet_distances_nm=distances,
        facet_start=start,
        lower_nm=found.lower_nm[kept],
        upper_nm=found.upper_nm[kept],
        envelope_nm3=found.volume_nm3[kept],
        lithium_per_silicon=np.zeros(int(kept.sum())),
        silicon_volume_ratio=np.ones(int(kept.sum())),
        core_distances_nm=np.full(distances.size, -np.inf),
        core_lithium_per_silicon=np.zeros(int(kept.sum())),
    )


def contact_planes(
    places: Floats, radii: Floats, reach: Floats, clearance_nm: float, agglomerate: Integers | None = None
) -> tuple[Integers, Floats, Floats]:
    """Return owner, normal and distance of both sides of every radical plane within reach.

    Particles of one agglomerate share their planes; others keep a clearance.
    """
    pairs = _sorted_pairs(places, 2 * reach.max())
    apart = places[pairs[:, 1]] - places[pairs[:, 0]]
    distance = np.sqrt((apart**2).sum(axis=1)).clip(min=1e-6)
    i, j = pairs[:, 0], pairs[:, 1]
    towards = apart / distance[:, None]
    from_i = (distance**2 + radii[i] ** 2 - radii[j] ** 2) / (2 * distance)
    owner = np.concatenate([i, j])
    apart_nm = np.full(i.size, clearance_nm)
    if agglomerate is not None:
        apart_nm[agglomerate[i] == agglomerate[j]] = 0.0
    planes = np.concatenate([from_i, distance - from_i]) - np.concatenate([apart_nm, apart_nm]) / 2
    cutting = planes < reach[owner]
    return owner[cutting], np.concatenate([towards, -towards])[cutting], planes[cutting]


def wall_planes(places: Floats, foil: HeightMap, layer: HeightMap) -> tuple[Integers, Floats, Floats]:
    """Return owner, normal and distance of the tangent planes of foil and top at each particle."""
    along, height, across = places.T
    ground, room = foil.at(along, across), layer.at(along, across)
    ground_slope, top_slope = foil.slope_at(along, across), layer.slope_at(along, across)
    top_slope = top_slope + ground_slope
    ids = np.arange(len(places))
    down = np.stack([ground_slope[:, 0], -np.ones_like(along), ground_slope[:, 1]], axis=1)
    up = np.stack([-top_slope[:, 0], np.ones_like(along), -top_slope[:, 1]], axis=1)
    lengths = [np.sqrt((normal**2).sum(axis=1)) for normal in (down, up)]
    return (
        np.concatenate([ids, ids]),
        np.concatenate([down / lengths[0][:, None], up / lengths[1][:, None]]),
        np.concatenate([(height - ground) / lengths[0], (ground + room - height) / lengths[1]]),
    )
