"""Nanoporous silicon inside the particles: a level cut through a random field of nearly one wavelength.

`SiliconRecipe`, particles, `Seeds` -> `PoreNetworks`: for every particle its own plane waves and its own level. The
model: solid = {f > level} with f a sum of waves of wave number q (Cahn 1965). For a Gaussian field with <k^2> = q^2
and the normalised level xi = sqrt(2) erfinv(2 porosity - 1),

    S_V = (2 / pi) sqrt(<k^2> / 3) exp(-xi^2 / 2),   mean pore = 4 porosity / S_V,
    mean ligament = 4 (1 - porosity) / S_V,

where S_V is the internal pore-silicon area per particle volume, envelope faces left out, so that 400 nm pores at a
porosity of 0.604 mean a wavelength of 369 nm and 262 nm ligaments. Both phases percolate between porosities of 0.16
and 0.84. The level is solved on each particle's own field inside its own envelope, so every particle has the asked
pore fraction.

References
----------
J. W. Cahn, J. Chem. Phys. 42 (1965) 93, doi:10.1063/1.1695731;
C. Soyarslan, S. Bargmann, M. Pradas, J. Weissmueller, Acta Mater. 149 (2018) 326, doi:10.1016/j.actamat.2018.01.005.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.special import erfinv

from npsi_twin.electrode.particle_lattice import core_share, fill_particle_lattice, solid_share, step_of
from npsi_twin.electrode.polyhedra import Floats, Integers
from npsi_twin.electrode.powder import Particles
from npsi_twin.electrode.waves import Singles, WaveField, shell_waves
from npsi_twin.materials import alloy
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds

#: Porosity up to which a particle's pores count as closed.
_CLOSED = 1e-5
#: Lattice on which levels are solved: samples per wavelength; least and most samples across a particle.
_SAMPLES_PER_WAVELENGTH, _LEAST_SAMPLES, _MOST_SAMPLES = 14, 40, 120


class SiliconRecipe(Recipe):
    """The pore network inside the particles."""

    porosity_fraction: float = parameter(
        0.604, "pore volume over envelope volume of a particle", source="Zhao 2018, section 2.1: stated", ge=0.3, le=0.8
    )
    mean_pore_nm: float = parameter(
        400.0, "4 x pore volume / internal pore-silicon area", unit="nm",
        source="Zhao 2018, section 2.1: stated (definition assumed)", ge=100, le=2000,
    )  # fmt: skip
    wavelength_spread_fraction: float = parameter(
        0.05, "standard deviation of the wave number over its mean", source="assumed", ge=0, le=0.25
    )
    waves: int = parameter(
        128, "plane waves summed in each particle's field", source="assumed", ge=32, le=1024, multiple_of=4
    )

    @property
    def wavelength_nm(self) -> float:
        """2 pi over the mean wave number, nm, that gives the asked mean pore."""
        xi = normalised_level(self.porosity_fraction)
        surface_per_nm = 4 * self.porosity_fraction / self.mean_pore_nm
        root_mean_square = surface_per_nm * (math.pi / 2) * math.sqrt(3) * math.exp(xi**2 / 2)
        return 2 * math.pi / root_mean_square * math.sqrt(1 + self.wavelength_spread_fraction**2)

    @property
    def mean_ligament_nm(self) -> float:
        """4 x silicon volume / internal pore-silicon area, nm."""
        return self.mean_pore_nm * (1 - self.porosity_fraction) / self.porosity_fraction


@dataclass(frozen=True)
class PoreNetworks:
    """The random fields of all particles.

    Attributes
    ----------
    wavevectors_per_nm
        (particles, waves, 3), rad/nm, along (along, height, across).
    phases_rad
        (particles, waves), rad, at the particle's centre.
    levels
        (particles,); silicon is where the field is above its particle's level.
    wavelength_nm
        2 pi over the mean wave number, (particles,), nm.
    mean_pore_nm, mean_ligament_nm
        Expected mean chords of the two phases, (particles,), nm; 0 and infinity where the pores are closed.
    solid_fraction
        Silicon volume over envelope volume, (particles,), integrated on each particle's own field; where a core and a
        shell hold different lithium, the mean that weighs each with the silicon it stands for.
    """

    wavevectors_per_nm: Floats
    phases_rad: Floats
    levels: Floats
    wavelength_nm: Floats
    mean_pore_nm: Floats
    mean_ligament_nm: Floats
    solid_fraction: Floats

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False

    def field(self, particle: int) -> WaveField:
        """Return one particle's field; positions count from its centre."""
        return WaveField(self.wavevectors_per_nm[particle], self.phases_rad[particle])


def normalised_level(porosity_fraction: float) -> float:
    """Return the level below which a unit Gaussian field stays with the given probability.

    Examples
    --------
    >>> normalised_level(0.5)
    0.0
    >>> round(normalised_level(0.604), 3)
    0.264
    """
    return math.sqrt(2) * float(erfinv(2 * porosity_fraction - 1))


def build_pore_networks(recipe: SiliconRecipe, particles: Particles, *, seeds: Seeds) -> PoreNetworks:
    """Draw every particle's waves and solve every particle's level.

    Parameters
    ----------
    recipe
        Porosity and pore size.
    particles
        Envelopes.
    seeds
        Root of the streams ``("particle-pores", particle)``.

    Returns
    -------
    PoreNetworks
        One field and one level a particle; the pore fraction of each envelope is the asked one to 0.1 % of its silicon.
    """
    count = particles.count
    wavevectors, phases = np.empty((count, recipe.waves, 3)), np.empty((count, recipe.waves))
    for particle in range(count):
        rng = seeds.stream("particle-pores", particle)
        field = shell_waves(rng, recipe.waves, recipe.wavelength_nm, recipe.wavelength_spread_fraction)
        wavevectors[particle], phases[particle] = field.wavevectors_per_nm, field.phases_rad
    networks = PoreNetworks(
        wavevectors_per_nm=wavevectors,
        phases_rad=phases,
        levels=np.zeros(count),
        wavelength_nm=np.full(count, recipe.wavelength_nm),
        mean_pore_nm=np.full(count, recipe.mean_pore_nm),
        mean_ligament_nm=np.full(count, recipe.mean_ligament_nm),
        solid_fraction=np.zeros(count),
    )
    return solve_levels(networks, particles, np.full(count, recipe.porosity_fraction))


def swollen_pore_networks(
    networks: PoreNetworks, particles: Particles, linear_growth: Floats, porosity_fraction: Floats
) -> PoreNetworks:
    """Keep every particle's field in its own growing coordinates, and cut it at a new level.

    Parameters
    ----------
    networks
        Fields before swelling.
    particles
        Envelopes after swelling.
    linear_growth
        Cube root of each envelope's volume ratio, (particles,).
    porosity_fraction
        Share of each grown envelope that is pore, (particles,); 0 where the pores are closed.

    Returns
    -------
    PoreNetworks
        The same skeletons, larger and thicker; mean chords follow the Gaussian field's formulas at the new levels.
    """
    before = networks.mean_pore_nm / (networks.mean_pore_nm + networks.mean_ligament_nm)
    pore, ligament = np.zeros(particles.count), np.full(particles.count, np.inf)
    for i in np.nonzero(porosity_fraction > _CLOSED)[0]:
        porosity = float(porosity_fraction[i])
        # mean pore = 4 porosity / S_V, and S_V falls with exp(-xi^2 / 2) and with the growth.
        rarer = math.exp((normalised_level(porosity) ** 2 - normalised_level(before[i]) ** 2) / 2)
        pore[i] = networks.mean_pore_nm[i] * linear_growth[i] * rarer * porosity / before[i]
        ligament[i] = pore[i] * (1 - porosity) / porosity
    grown = replace(
        networks,
        wavevectors_per_nm=networks.wavevectors_per_nm / linear_growth[:, None, None],
        wavelength_nm=networks.wavelength_nm * linear_growth,
        mean_pore_nm=pore,
        mean_ligament_nm=ligament,
    )
    return solve_levels(grown, particles, porosity_fraction)


def clumped_networks(
    networks: PoreNetworks, particles: Particles, period_nm: float, clump_share: float
) -> PoreNetworks:
    """Gather every particle's silicon in clumps, cut from its own field on a larger scale.

    Parameters
    ----------
    networks
        Fields before.
    particles
        Envelopes after they were drawn out.
    period_nm
        2 pi over the mean wave number of the clumps' field, nm.
    clump_share
        Clumps over envelope, by volume; their silicon stays as dense as it was.

    Returns
    -------
    PoreNetworks
        Levels and mean chords are those of the clumps and the space between them.
    """
    waves = networks.wavevectors_per_nm * (networks.wavelength_nm / period_nm)[:, None, None]
    root_mean_square = np.sqrt((waves**2).sum(axis=2).mean(axis=1))
    surface_per_nm = (
        2 / (math.pi * math.sqrt(3)) * root_mean_square * math.exp(-(normalised_level(clump_share) ** 2) / 2)
    )
    clumps = solve_levels(
        replace(
            networks,
            wavevectors_per_nm=waves,
            wavelength_nm=np.full(particles.count, period_nm),
            mean_pore_nm=4 * (1 - clump_share) / surface_per_nm,
            mean_ligament_nm=4 * clump_share / surface_per_nm,
        ),
        particles,
        np.full(particles.count, 1 - clump_share),
    )
    return replace(clumps, solid_fraction=clumps.solid_fraction * networks.solid_fraction)


def solve_levels(
    networks: PoreNetworks, particles: Particles, porosity_fraction: Floats, changed: NDArray[np.bool_] | None = None
) -> PoreNetworks:
    """Cut the fields at the levels where pores fill ``porosity_fraction`` (particles,) of their own envelope.

    Where nothing but silicon is left, the level lies below anything that the sum of waves can reach. Where a core and a
    shell hold different lithium, each weighs as much as the lithium-free silicon in it. Particles that are not
    ``changed`` (particles,) keep what they have; None: all are.
    """
    changed = np.ones(particles.count, bool) if changed is None else changed
    closed = porosity_fraction <= _CLOSED
    levels = np.where(closed, -1 - math.sqrt(2 * networks.phases_rad.shape[1]), 0.0)
    for i in np.nonzero(~closed)[0]:
        levels[i] = normalised_level(float(porosity_fraction[i]))
    levels = np.where(changed, levels, networks.levels)
    solid = networks.solid_fraction.copy()
    wanted = np.where(closed, -1.0, 1 - porosity_fraction)
    if particles.count:
        core = 1 / core_volume_ratio(particles)
        _visit_lattices(
            networks.wavevectors_per_nm, networks.phases_rad, particles.facet_normals, particles.facet_distances_nm,
            particles.core_distances_nm, particles.facet_start, particles.lower_nm, particles.upper_nm, core,
            _lattice_nm(networks, particles), np.where(changed, wanted, np.nan), levels, solid,
        )  # fmt: skip
    return replace(networks, levels=levels, solid_fraction=solid)


def core_volume_ratio(particles: Particles) -> Floats:
    """Return the volume ratio of each core's silicon over that of its shell, (particles,); 1 where there is no core."""
    cored = np.isfinite(np.maximum.reduceat(particles.core_distances_nm, particles.facet_start[:-1]))
    ratio = alloy.volume_ratios(particles.core_lithium_per_silicon) / alloy.volume_ratios(particles.lithium_per_silicon)
    return np.where(cored, ratio, 1.0)


def _lattice_nm(networks: PoreNetworks, particles: Particles) -> Floats:
    size = np.cbrt(particles.envelope_nm3)
    spacing = np.minimum(networks.wavelength_nm / _SAMPLES_PER_WAVELENGTH, size / _LEAST_SAMPLES)
    return np.asarray(np.maximum(spacing, size / _MOST_SAMPLES))


@njit(cache=True, parallel=True)
def _visit_lattices(
    wavevectors: Floats,
    phases: Floats,
    normals: Floats,
    distances: Floats,
    core_distances: Floats,
    start: Integers,
    lower: Floats,
    upper: Floats,
    core_weights: Floats,
    spacings: Floats,
    wanted: Floats,
    levels: Floats,
    solid: Floats,
) -> None:
    """Solve the levels of particles whose ``wanted`` solid fraction is not negative, and measure them in ``solid``.

    A negative one leaves the level as it is; NaN leaves level and solid fraction.
    """
    for i in prange(levels.size):
        if np.isnan(wanted[i]):
            continue
        spacing = spacings[i]
        low = np.floor(lower[i] / spacing)
        size = np.ceil(upper[i] / spacing) - low + 1
        along = (low[0] - 1 + np.arange(size[0] + 2)) * spacing
        height = (low[1] - 1 + np.arange(size[1] + 2)) * spacing
        across = (low[2] - 1 + np.arange(size[2] + 2)) * spacing
        field = np.zeros((along.size, height.size, across.size), np.float32)
        envelope = np.zeros((along.size, height.size, across.size), np.float32)
        first, last = start[i], start[i + 1]
        fill_particle_lattice(
            wavevectors[i], phases[i], normals[first:last], distances[first:last], along, height, across, spacing,
            field, envelope,
        )  # fmt: skip
        if core_weights[i] != 1:
            _weigh_core(
                normals[first:last], core_distances[first:last], along, height, across, core_weights[i], envelope
            )
        levels[i], solid[i] = _level_and_solid(field, envelope, wanted[i], levels[i])


@njit(cache=True)
def _weigh_core(
    normals: Floats,
    distances: Floats,
    along: Floats,
    height: Floats,
    across: Floats,
    weight: float,
    envelope: Singles,
) -> None:
    """Multiply the shares of cells in the core by its weight."""
    spacing = across[1] - across[0]
    for z in range(along.size):
        for y in range(height.size):
            for x in range(across.size):
                if envelope[z, y, x] > 0:
                    inside = core_share(normals, distances, along[z], height[y], across[x], spacing)
                    envelope[z, y, x] *= np.float32(1 + (weight - 1) * inside)


@njit(cache=True)
def _level_and_solid(field: Singles, envelope: Singles, solid_fraction: float, level: float) -> tuple[float, float]:
    """Return the level at which the solid fills its share of the envelope, and that share.

    Newton's steps inside a shrinking bracket; a negative ``solid_fraction`` leaves the level as it is.
    """
    count, total = 0, 0.0
    values, steps, weights = np.empty(field.size), np.empty(field.size), np.empty(field.size)
    for z in range(1, field.shape[0] - 1):
        for y in range(1, field.shape[1] - 1):
            for x in range(1, field.shape[2] - 1):
                if envelope[z, y, x] > 0:
                    values[count], steps[count] = field[z, y, x], step_of(field, z, y, x)
                    weights[count] = envelope[z, y, x]
                    total += weights[count]
                    count += 1
    low, high = level - 3.0, level + 3.0
    if solid_fraction < 0:
        low = high = level
    excess = 0.0
    for _ in range(60):
        excess, slope = -solid_fraction * total, 0.0
        for i in range(count):
            share = solid_share(values[i] - level, steps[i])
            excess += weights[i] * share
            if 0 < share < 1:
                slope += weights[i] / steps[i]
        if low == high or abs(excess) <= 1e-6 * solid_fraction * total:
            break
        if excess > 0:
            low = level
        else:
            high = level
        level = level + excess / slope if slope > 0 else (low + high) / 2
        if not low < level < high:
            level = (low + high) / 2
    return level, solid_fraction + excess / total
