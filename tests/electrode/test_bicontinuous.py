"""The pore network: theory of level-cut Gaussian fields, and levels that give the asked porosity."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from npsi_twin.electrode.bicontinuous import SiliconRecipe, build_pore_networks, normalised_level
from npsi_twin.electrode.bismuth import BismuthBeads
from npsi_twin.electrode.polyhedra import measure_polyhedra
from npsi_twin.electrode.powder import Particles
from npsi_twin.electrode.states import pristine_states
from npsi_twin.electrode.surfaces import HeightMap
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.electrode.waves import WaveField, shell_waves
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import VoxelGrid


def cubes(edge_nm, centres):
    """Return cubic particles, turned as a powder's would be."""
    count = len(centres)
    turned = Rotation.from_rotvec([0.5, -0.3, 0.9]).apply(np.concatenate([np.eye(3), -np.eye(3)]))
    distances = np.full(6 * count, edge_nm / 2)
    start = 6 * np.arange(count + 1)
    normals = np.tile(turned, (count, 1))
    found = measure_polyhedra(normals, distances, start)
    return Particles(
        np.asarray(centres, float), normals, distances, start, found.lower_nm, found.upper_nm, found.volume_nm3,
        np.zeros(count), np.ones(count), np.full(6 * count, -np.inf), np.zeros(count),
    )  # fmt: skip


def test_the_papers_pores_mean_a_wavelength_of_369_nm_and_ligaments_of_262_nm():
    recipe = SiliconRecipe(wavelength_spread_fraction=0.0)
    assert recipe.wavelength_nm == pytest.approx(369, abs=0.5)
    assert recipe.mean_ligament_nm == pytest.approx(262.3, abs=0.1)


@pytest.mark.parametrize("porosity", [0.3, 0.604, 0.8])
def test_mean_pore_by_counting_crossings(porosity):
    # A straight line through a random set crosses the interface S_V / 2 times a unit length (Crofton), so that
    # 4 porosity / S_V = 2 porosity length / crossings. 24 fields of 256 waves, 150 lines of 20 wavelengths each.
    recipe = SiliconRecipe(porosity_fraction=porosity, waves=256)
    rng = np.random.default_rng(7)
    step, crossings, length, pores, samples = 5.0, 0, 0.0, 0, 0
    level = normalised_level(porosity)
    for _ in range(24):
        field = shell_waves(rng, recipe.waves, recipe.wavelength_nm, recipe.wavelength_spread_fraction)
        t = np.arange(0, 20 * recipe.wavelength_nm, step)
        for axis in range(3):
            points = np.tile(rng.uniform(0, 1e5, 3), (t.size, 1))
            points[:, axis] += t
            solid = field.at(points) > level
            crossings += int((solid[1:] != solid[:-1]).sum())
            length += t[-1]
            pores += int((~solid).sum())
            samples += t.size
    # About 24 x 3 x 20 x 1.1 crossings with sub-Poisson scatter, porosity scatter alike: 4 % is three standard errors.
    assert 2 * porosity * length / crossings == pytest.approx(400.0, rel=0.05)
    assert pores / samples == pytest.approx(porosity, abs=0.02)


@pytest.mark.parametrize("porosity", [0.3, 0.604, 0.8])
def test_every_particle_has_the_asked_porosity(block, porosity):
    # Three cubes side by side, alone in open space; what is voxelised at 20 nm is their silicon and nothing else.
    particles = cubes(1000.0, [(0, 0, -1600.0), (0, 0, 0), (0, 0, 1600.0)])
    pores = build_pore_networks(SiliconRecipe(porosity_fraction=porosity), particles, seeds=Seeds(8))
    alone = replace(
        block, particles=particles, pores=pores, states=pristine_states(3),
        bismuth=BismuthBeads(np.empty((0, 3)), np.zeros(4, np.int64), 50.0),
        foil=flat(-3000.0), layer=flat(0.0),
    )  # fmt: skip
    grid = VoxelGrid((90, 90, 250), 20.0)
    found = voxelise(alone, grid, range(90))
    for particle in range(3):
        here = np.abs(grid.across_nm - particles.centre_nm[particle, 2]) < 800
        silicon = found.silicon_fraction[:, :, here].sum(dtype=float) * grid.voxel_nm**3
        assert silicon / 1e9 == pytest.approx(1 - porosity, rel=1e-3)


def flat(height_nm):
    """Return a level surface."""
    return HeightMap(height_nm, 0.0, WaveField(np.zeros((4, 3)), np.zeros(4)))


def test_unresolved_pores_keep_their_mean(block):
    # Voxels of 150 nm hold more than a third of a wavelength; sub-sampling keeps the silicon to 1 %.
    particles = cubes(1200.0, [(0, 0, 0)])
    pores = build_pore_networks(SiliconRecipe(), particles, seeds=Seeds(9))
    beads = BismuthBeads(np.empty((0, 3)), np.zeros(2, np.int64), 50.0)
    alone = replace(
        block, particles=particles, pores=pores, bismuth=beads, foil=flat(-3000.0), layer=flat(0.0),
        states=pristine_states(particles.count),
    )  # fmt: skip
    for voxel in (50.0, 100.0, 150.0):
        size = int(2400 / voxel)
        found = voxelise(alone, VoxelGrid((size, size, size), voxel), range(size))
        silicon = found.silicon_fraction.sum(dtype=float) * voxel**3
        assert silicon == pytest.approx(0.396 * 1200.0**3, rel=2e-3)
