import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.morphology.distance import squared_distance
from npsi_twin.morphology.local_thickness import local_thickness_nm, thickness_quantity


def brute_force(mask):
    """Every centre, every voxel: 2 max r(c) over |p - c| < r(c), in voxels."""
    squared = np.rint(ndimage.distance_transform_edt(mask) ** 2).astype(int)
    places = np.argwhere(mask)
    found = np.zeros(mask.shape, int)
    for centre in places:
        covered = ((places - centre) ** 2).sum(axis=1) < squared[tuple(centre)]
        at = tuple(places[covered].T)
        found[at] = np.maximum(found[at], squared[tuple(centre)])
    return 2 * np.sqrt(found)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_its_definition(seed, gaussian_field):
    # skipping redundant centres and painting in slabs of 16 slices must change nothing
    mask = gaussian_field((40, 13, 12), 9.0, np.random.default_rng(seed)) > 0
    assert np.array_equal(local_thickness_nm(mask, 1.0), brute_force(mask).astype(np.float32))


@pytest.mark.parametrize(("edge", "read"), [(1, 2), (2, 2), (3, 4), (4, 4), (8, 8), (9, 10), (16, 16)])
def test_slabs(edge, read):
    mask = np.zeros((4, 30, 4), bool)
    mask[:, 6 : 6 + edge] = True
    diameter = local_thickness_nm(mask, 10.0)
    assert np.unique(diameter[mask]).tolist() == [10.0 * read]
    assert not diameter[~mask].any()


@pytest.mark.parametrize("diameter", [8, 12, 20, 40])
def test_rods_read_a_third_of_a_voxel_thin(diameter):
    # the rod's axis lies up to half a voxel's diagonal beside the nearest centre, 0.38 voxels in the mean; the nearest
    # outer voxel lies up to half a voxel beyond the surface
    y, x = np.indices((diameter + 6, diameter + 6)) - (diameter + 5) / 2
    shifts = np.random.default_rng(diameter).uniform(-0.5, 0.5, (6, 2))
    means = []
    for dy, dx in shifts:
        rod = np.broadcast_to(np.hypot(y - dy, x - dx) < diameter / 2, (4, *y.shape))
        means.append(local_thickness_nm(rod, 1.0)[rod].mean())
    assert np.mean(means) == pytest.approx(diameter - 0.35, abs=0.3)


def test_small_features_read_what_fine_voxels_read(gaussian_field):
    """One periodic field on two grids: the mean may not depend on the voxel, down to features of 5 voxels."""
    coarse = gaussian_field((64, 64, 64), 8.0, np.random.default_rng(1))
    means = {}
    for factor in (1, 2):
        n = 64 * factor
        spectrum = np.fft.rfftn(coarse)
        wider = np.zeros((n, n, n // 2 + 1), complex)
        kept = np.r_[0:31, -31:0]
        wider[np.ix_(kept, kept, range(32))] = spectrum[np.ix_(kept, kept, range(32))]
        field = np.fft.irfftn(wider, (n, n, n), axes=(0, 1, 2))
        for name, mask in {"pore": field < np.quantile(field, 0.6), "solid": field > np.quantile(field, 0.6)}.items():
            means[name, factor] = local_thickness_nm(mask, 1 / factor)[mask].mean()
    for name in ("pore", "solid"):
        # measured 0.5 and 1.5 %; radii in whole voxels would read 15 % thin here
        assert means[name, 1] == pytest.approx(means[name, 2], rel=0.02)


def test_distribution_and_degenerate_masks():
    mask = np.zeros((6, 30, 6), bool)
    mask[:, 2:6] = mask[:, 10:18] = True
    found, curve = thickness_quantity(mask, 50.0, "example")
    assert found.value == pytest.approx((4 * 200 + 8 * 400) / 12)
    assert curve[0, curve[1] > 0].tolist() == [200.0, 400.0]
    assert curve[1].sum() == pytest.approx(1.0)
    for degenerate in (np.zeros((2, 2, 2), bool), np.ones((1, 3, 3), bool)):
        found, curve = thickness_quantity(degenerate, 50.0, "example")
        assert np.isnan(found.value)
        assert found.note
        assert curve.shape == (2, 0)
    assert np.isinf(local_thickness_nm(np.ones((3, 3, 3), bool), 50.0)).all()
    assert (local_thickness_nm(np.zeros((3, 3, 3), bool), 50.0) == 0).all()


def test_squared_distances_are_those_of_scipy(gaussian_field):
    mask = gaussian_field((20, 31, 17), 11.0, np.random.default_rng(4)) > -0.5
    assert np.array_equal(squared_distance(mask), np.rint(ndimage.distance_transform_edt(mask) ** 2))
    assert np.isinf(squared_distance(np.ones((1, 2, 2), bool))).all()
