"""Let packed particles grow: every envelope reaches its new volume without running into its neighbours.

`Particles`, their new places and volumes, the two surfaces -> `Particles`. The model: every envelope is scaled about
its place to its new volume. Where it then meets a neighbour, the two flatten against each other at a plane between
them (the radical plane of two spheres, pulled back by half the clearance), as at the tangent planes of foil and top;
what a contact takes from a particle, its free faces give back. A particle that has no room left pushes its contact
planes outwards (its sphere grows) until every particle has its volume. Places are not moved here.

It holds while the layer has room: beyond about nine tenths of it the planes find no arrangement, and the error says so.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npsi_twin.electrode.polyhedra import Floats, Integers, gather, measure_polyhedra
from npsi_twin.electrode.powder import Particles, bounded_particles, contact_planes, wall_planes
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.errors import NotConvergedError

#: Factors by which free faces move to make up for contacts.
_LEAST_GROWTH, _LARGEST_GROWTH = 0.5, 1.5
#: Rounds in which crowded particles push; halvings that find a particle's growth to 1e-9.
_ROUNDS, _HALVINGS = 400, 30
#: Cosine from which on two facets look at each other: the two sides of a contact are parallel to rounding.
_FACING = 1 - 1e-9


def repack(
    particles: Particles,
    centre_nm: Floats,
    envelope_nm3: Floats,
    foil: HeightMap,
    layer: HeightMap,
    clearance_nm: float,
    agglomerate: Integers | None = None,
) -> Particles:
    """Give every particle a new place and a new envelope volume.

    Parameters
    ----------
    particles
        Envelopes as they are.
    centre_nm
        New places (particles, 3), nm.
    envelope_nm3
        New volumes (particles,), nm3.
    foil, layer
        The foil's surface and the layer's new height above it.
    clearance_nm
        Smallest gap between two particles, nm.
    agglomerate
        Number of each particle's agglomerate, (particles,); members touch. None: nobody does.

    Returns
    -------
    Particles
        The same particles in the same order, with the asked volumes to 1e-6, lithium untouched.

    Raises
    ------
    NotConvergedError
        If the particles cannot have these volumes without overlap.
    """
    owner = np.repeat(np.arange(particles.count), np.diff(particles.facet_start))
    scale = np.cbrt(envelope_nm3 / particles.envelope_nm3)
    distances_nm = particles.facet_distances_nm * scale[owner]
    if agglomerate is not None:
        # Members' faces follow each other: far outside, the contact plane takes their place.
        distances_nm = np.where(shared_faces(particles, agglomerate), 10 * distances_nm, distances_nm)
    faces = (owner, particles.facet_normals, distances_nm)
    corners = measure_polyhedra(particles.facet_normals, particles.facet_distances_nm, particles.facet_start)
    reach = corners.reach_nm * scale
    walls = wall_planes(centre_nm, foil, layer)
    radii = np.cbrt(3 / (4 * np.pi) * envelope_nm3)
    largest = np.full(particles.count, _LARGEST_GROWTH)
    for _ in range(_ROUNDS):
        cuts = _joined(contact_planes(centre_nm, radii, reach * _LARGEST_GROWTH, clearance_nm, agglomerate), walls)
        found = measure_polyhedra(*_planes(faces, cuts, largest)).volume_nm3
        short = found < envelope_nm3
        if not short.any():
            break
        radii = np.where(short, radii * np.cbrt(envelope_nm3 / np.maximum(found, 0.5 * envelope_nm3)) * 1.002, radii)
    else:
        raise NotConvergedError(
            f"repacking: {int(short.sum())} of {particles.count} swollen particles find no room in a layer of "
            f"{layer.mean_nm:.0f} nm; envelopes must fit between foil and top with {clearance_nm:g} nm between them. "
            "Allow more accommodation in the pores, less clearance or less capacity, or build with a smaller "
            "powder.envelope_fraction."
        )
    low, high = np.full(particles.count, _LEAST_GROWTH), largest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        full = measure_polyhedra(*_planes(faces, cuts, middle)).volume_nm3 >= envelope_nm3
        low, high = np.where(full, low, middle), np.where(full, middle, high)
    normals, distances, start = _planes(faces, cuts, high)
    packed = bounded_particles(centre_nm, start, normals, distances)
    return replace(
        packed,
        lithium_per_silicon=particles.lithium_per_silicon,
        silicon_volume_ratio=particles.silicon_volume_ratio,
    )


_Planes = tuple[Integers, Floats, Floats]


def _joined(some: _Planes, others: _Planes) -> _Planes:
    return (
        np.concatenate([some[0], others[0]]),
        np.concatenate([some[1], others[1]]),
        np.concatenate([some[2], others[2]]),
    )


def _planes(faces: _Planes, cuts: _Planes, growth: Floats) -> tuple[Floats, Floats, Integers]:
    """Return normals, distances and start of all planes, every particle's own faces moved out by its growth."""
    owner, normals, distances = _joined((faces[0], faces[1], faces[2] * growth[faces[0]]), cuts)
    start, (normals, distances) = gather(owner, growth.size, normals, distances)
    return normals, distances, start


def shared_faces(particles: Particles, agglomerate: Integers) -> NDArray[np.bool_]:
    """Say for every facet whether it looks at one of another member of its particle's agglomerate, (facets,)."""
    shared = np.zeros(particles.facet_distances_nm.size, bool)
    body = np.repeat(agglomerate, np.diff(particles.facet_start))
    members = np.bincount(agglomerate, minlength=particles.count)
    for number in np.nonzero(members > 1)[0]:
        facets = np.nonzero(body == number)[0]
        normals = particles.facet_normals[facets]
        shared[facets] = (normals @ normals.T < -_FACING).any(axis=1)
    return shared
