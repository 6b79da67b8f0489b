"""A small scene, and what a scene adds up to when all of it is voxelised."""

from dataclasses import replace

import numpy as np
import pytest

from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.materials.alloy import volume_ratio
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import VoxelGrid


@pytest.fixture(scope="session")
def pristine():
    """A block of 2 x 1 um with its margins: some 20 particles."""
    specimen = SpecimenRecipe(shape="block", width_um=2.0, length_um=1.0)
    return build_electrode(ElectrodeRecipe(specimen=specimen), seeds=Seeds(5))


@pytest.fixture(scope="session")
def totals():
    """Give a function: volumes of silicon and of the silicon without its lithium, and its lithium, in nm3."""

    def add_up(scene, voxel_nm=40.0):
        particles = scene.particles
        reach = np.maximum(particles.upper_nm, -particles.lower_nm).max(axis=0)
        half = np.ceil((np.abs(particles.centre_nm) + reach).max(axis=0) / voxel_nm).astype(int) + 1
        edges_um = 2e-3 * voxel_nm * half
        whole = SpecimenRecipe(shape="block", width_um=float(edges_um[2]), length_um=float(edges_um[0]))
        all_of_it = replace(scene, specimen=whole)
        grid = VoxelGrid(tuple(2 * int(n) for n in half), voxel_nm)
        sums = np.zeros(3)
        for first in range(0, grid.shape[0], 32):
            slab = voxelise(all_of_it, grid, range(first, min(first + 32, grid.shape[0])))
            silicon, x = slab.silicon_fraction.astype(float), slab.lithium_per_silicon.astype(float)
            free = silicon / (1 + (volume_ratio(1.0) - 1) * x)
            sums += silicon.sum(), free.sum(), (free * x).sum()
        return sums * voxel_nm**3

    return add_up
