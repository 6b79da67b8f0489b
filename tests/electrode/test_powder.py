"""The powder: sizes, packing, and envelopes that never overlap."""

import numpy as np
import pytest

from npsi_twin.electrode.powder import PowderRecipe, Region, build_powder
from npsi_twin.electrode.surfaces import FoilRecipe, LayerRecipe, build_surfaces
from npsi_twin.errors import ParameterError
from npsi_twin.seeds import Seeds

REGION = Region(6000.0, 6000.0)


def powder(seed=1, layer=None, **changes):
    surfaces = build_surfaces(FoilRecipe(), layer or LayerRecipe(), 0.0, seeds=Seeds(seed))
    return build_powder(PowderRecipe(**changes), *surfaces, REGION, seeds=Seeds(seed)), surfaces


@pytest.fixture(scope="module")
def packed():
    return powder()


@pytest.mark.parametrize("fraction", [0.3, 0.55])
def test_envelopes_fill_their_share_of_the_layer(fraction):
    particles, (_, layer) = powder(envelope_fraction=fraction)
    lattice = np.arange(-5950.0, 6000, 100)
    layer_nm3 = layer.on_rows(lattice, lattice, 100.0).mean() * 12000.0**2
    # Two lattices integrate the same smooth surface: the difference is their quadrature, well below 1e-3.
    assert particles.envelope_nm3.sum() / layer_nm3 == pytest.approx(fraction, rel=2e-3)


def test_diameters_are_those_drawn_on_average(packed):
    # Growth keeps the mean volume: the drawn truncated lognormal has a volume-mean diameter between 1.40 and 1.50 um.
    diameter_um = np.cbrt((packed[0].diameter_nm ** 3).mean()) / 1e3
    assert diameter_um == pytest.approx(1.45, abs=0.06)
    assert np.percentile(packed[0].diameter_nm, 99) < 2300


def room_to_facets(particles, particle, points):
    facets = slice(particles.facet_start[particle], particles.facet_start[particle + 1])
    local = points - particles.centre_nm[particle]
    return particles.facet_distances_nm[facets] - local @ particles.facet_normals[facets].T


def inside(particles, particle, points):
    return (room_to_facets(particles, particle, points) >= 0).all(axis=1)


def test_no_point_lies_in_two_envelopes_and_gaps_hold_the_clearance(packed):
    particles, _ = packed
    points = np.random.default_rng(2).uniform((-6000, -500, -6000), (6000, 4000, 6000), (20_000, 3))
    owners = sum(inside(particles, i, points).astype(int) for i in range(particles.count))
    assert owners.max() == 1
    # Points beyond one face of a particle by less than half the clearance (40 nm), and inside its other faces, lie in
    # the gap: no other particle owns them.
    rng = np.random.default_rng(3)
    for i in range(0, particles.count, 7):
        mine = points[inside(particles, i, points)]
        if len(mine) == 0:
            continue
        face = rng.integers(np.diff(particles.facet_start)[i], size=len(mine))
        room = room_to_facets(particles, i, mine)
        normals = particles.facet_normals[particles.facet_start[i] + face]
        moved = mine + (room[np.arange(len(mine)), face] + 19.0)[:, None] * normals
        moved = moved[(room_to_facets(particles, i, moved) < 0).sum(axis=1) == 1]
        assert not any(inside(particles, j, moved).any() for j in range(particles.count))


def test_particles_lie_between_foil_and_top(packed):
    particles, (foil, layer) = packed
    centre = particles.centre_nm
    ground = foil.at(centre[:, 0], centre[:, 2])
    top = ground + layer.at(centre[:, 0], centre[:, 2])
    assert (centre[:, 1] > ground).all()
    assert (centre[:, 1] < top).all()
    # The tangent planes at the centre bound the height above and below it.
    for i in range(0, particles.count, 5):
        probe = centre[i] + np.array([[0.0, h, 0.0] for h in (top[i] - centre[i, 1] + 1, ground[i] - centre[i, 1] - 1)])
        assert not inside(particles, i, probe).any()


def test_a_share_that_cannot_be_packed_is_refused():
    with pytest.raises(ParameterError, match="envelope_fraction"):
        powder(envelope_fraction=0.7, clearance_nm=500.0)


def test_an_empty_range_of_diameters_is_refused():
    with pytest.raises(ParameterError, match="smallest_diameter_um"):
        powder(smallest_diameter_um=2.0, largest_diameter_um=2.0)
    with pytest.raises(ParameterError, match="median"):
        powder(median_diameter_um=0.5, diameter_spread=0.01)


def test_a_thin_layer_is_packed_too():
    particles, _ = powder(layer=LayerRecipe(mean_height_um=0.6, height_sd_um=0.2), median_diameter_um=0.5,
                          smallest_diameter_um=0.3, largest_diameter_um=0.8, envelope_fraction=0.4)  # fmt: skip
    assert particles.count > 300
