"""Growing particles: every one has its volume, none runs into another."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from npsi_twin.electrode.repacking import repack
from npsi_twin.errors import NotConvergedError


def gap_nm(particles, i, j):
    """Return by how much two convex bodies together must grow outwards to touch, a lower bound of their gap.

    Some point lies at least t inside every plane of both, for the largest such t (a linear programme); t is negative
    where the bodies are apart, and moving all planes outwards by -t makes them touch.
    """
    planes = [slice(particles.facet_start[k], particles.facet_start[k + 1]) for k in (i, j)]
    normals = np.concatenate([particles.facet_normals[p] for p in planes])
    places = [particles.facet_distances_nm[p] + particles.facet_normals[p] @ particles.centre_nm[k]
              for p, k in zip(planes, (i, j), strict=True)]  # fmt: skip
    found = linprog(
        [0, 0, 0, -1.0], A_ub=np.c_[normals, np.ones(len(normals))], b_ub=np.concatenate(places), bounds=(None, None)
    )
    return 2 * found.fun


@pytest.mark.parametrize("ratio", [1.0, 1.8, 2.5])
def test_particles_have_their_volume_and_do_not_overlap(block, ratio):
    stretch = 1 + 0.55 * (ratio - 1)
    layer = replace(
        block.layer, mean_nm=stretch * block.layer.mean_nm, sd_nm=stretch * block.layer.sd_nm, floor_nm=stretch * 200.0
    )
    particles = block.particles
    places = particles.centre_nm.copy()
    ground = block.foil.at(places[:, 0], places[:, 2])
    places[:, 1] = ground + stretch * (places[:, 1] - ground)
    # Every particle its own share, 20 % either way.
    wanted = particles.envelope_nm3 * ratio * np.random.default_rng(1).uniform(0.8, 1.2, particles.count)
    packed = repack(particles, places, wanted, block.foil, layer, 30.0)
    np.testing.assert_allclose(packed.envelope_nm3, wanted, rtol=1e-6)
    np.testing.assert_array_equal(packed.centre_nm, places)
    for i in range(packed.count):
        reach = np.sqrt(((places[i + 1 :] - places[i]) ** 2).sum(axis=1))
        for j in i + 1 + np.nonzero(reach < 2500)[0]:
            # Two parallel contact planes, each half the clearance from the radical plane.
            assert gap_nm(packed, i, j) >= 30.0 - 1e-3


def test_more_than_the_layer_holds_is_refused(block):
    particles = block.particles
    with pytest.raises(NotConvergedError, match="find no room"):
        repack(particles, particles.centre_nm, 3 * particles.envelope_nm3, block.foil, block.layer, 30.0)
