"""Residual bismuth: bright beads that the dealloying left in the pores.

`BismuthRecipe`, particles, pore networks, `Seeds` -> `BismuthBeads`. The model: equal spheres dropped at random into
each particle's pore space, clear of its walls, of its outline and of one another, until they fill the asked share of
the envelope. Bismuth takes the place of void, never of silicon. It holds for beads well below the mean pore.
"""

import math
from dataclasses import dataclass

import numpy as np

from npsi_twin.electrode.bicontinuous import PoreNetworks
from npsi_twin.electrode.polyhedra import Floats, Integers
from npsi_twin.electrode.powder import Particles
from npsi_twin.errors import ParameterError
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Random places tried for each bead before a particle counts as full.
_TRIES = 400


class BismuthRecipe(Recipe):
    """Residual bismuth of the liquid-metal dealloying; off by default."""

    envelope_fraction: float = parameter(
        0.0, "bismuth volume over envelope volume", source="assumed: none", ge=0, le=0.05
    )
    bead_diameter_nm: float = parameter(
        100.0, "diameter of a bead (matters when there is bismuth)", unit="nm", source="assumed", ge=20, le=500
    )


@dataclass(frozen=True)
class BismuthBeads:
    """Beads of all particles.

    Attributes
    ----------
    places_nm
        (beads, 3), nm, from the particle's centre.
    start
        Particle i owns the beads ``start[i]:start[i + 1]``.
    radius_nm
        Radius of every bead, nm.
    """

    places_nm: Floats
    start: Integers
    radius_nm: float

    def __post_init__(self) -> None:
        self.places_nm.flags.writeable = False
        self.start.flags.writeable = False


def build_bismuth(recipe: BismuthRecipe, particles: Particles, networks: PoreNetworks, *, seeds: Seeds) -> BismuthBeads:
    """Drop beads into the pores until bismuth fills its share of all envelopes.

    Raises
    ------
    ParameterError
        If the pores cannot hold the beads.
    """
    radius = recipe.bead_diameter_nm / 2
    bead_nm3 = 4 / 3 * math.pi * radius**3
    places, owed = [], 0.0
    for particle in range(particles.count):
        if recipe.envelope_fraction == 0:
            places.append(np.empty((0, 3)))
            continue
        owed += recipe.envelope_fraction * float(particles.envelope_nm3[particle]) / bead_nm3
        rng = seeds.stream("bismuth", particle)
        dropped = _drop(round(owed), radius, particle, particles, networks, rng)
        owed -= len(dropped)
        places.append(dropped)
    if owed > max(1.0, 0.05 * sum(map(len, places))):
        raise ParameterError(
            f"bismuth: {owed:.0f} beads of {recipe.bead_diameter_nm:g} nm found no place in pores of "
            f"{networks.mean_pore_nm.mean():g} nm on average; they must fit between the walls. "
            "Ask for smaller beads or less bismuth."
        )
    start = np.concatenate([[0], np.cumsum([len(p) for p in places])]).astype(np.int64)
    return BismuthBeads(np.concatenate(places) if places else np.empty((0, 3)), start, radius)


def _drop(
    count: int, radius: float, particle: int, particles: Particles, networks: PoreNetworks, rng: np.random.Generator
) -> Floats:
    """Return up to ``count`` places in one particle's pores, in the order of their drawing."""
    trial = rng.uniform(particles.lower_nm[particle], particles.upper_nm[particle], size=(_TRIES * count, 3))
    facets = slice(particles.facet_start[particle], particles.facet_start[particle + 1])
    normals, distances = particles.facet_normals[facets], particles.facet_distances_nm[facets]
    inside = np.ones(len(trial), bool)
    for normal, distance in zip(normals, distances, strict=True):
        inside &= (trial * normal).sum(axis=1) < distance - radius
    trial = trial[inside]
    field = networks.field(particle)
    steep = np.sqrt((field.gradient_at(trial) ** 2).sum(axis=1))
    trial = trial[networks.levels[particle] - field.at(trial) > radius * steep]
    kept: list[Floats] = []
    for place in trial:
        if len(kept) == count:
            break
        if all(((place - other) ** 2).sum() >= 4 * radius**2 for other in kept):
            kept.append(place)
    return np.asarray(kept).reshape(-1, 3)
