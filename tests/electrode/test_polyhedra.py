"""Convex polyhedra against closed forms and against scipy's geometry."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull, HalfspaceIntersection
from scipy.spatial.transform import Rotation

from npsi_twin.electrode.polyhedra import gather, measure_polyhedra


def test_a_regular_tetrahedron():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    found = measure_polyhedra(-corners, np.full(4, 1.0), np.array([0, 4]))
    # Inradius r: volume 8 sqrt(3) r^3, circumradius 3 r, faces 6 sqrt(3) r^2 each.
    assert found.volume_nm3[0] == pytest.approx(8 * np.sqrt(3), rel=1e-12)
    assert found.reach_nm[0] == pytest.approx(3.0, rel=1e-12)
    np.testing.assert_allclose(found.area_nm2, 6 * np.sqrt(3), rtol=1e-12)


def test_random_polyhedra_agree_with_qhull():
    rng = np.random.default_rng(6)
    normals, distances, expected, bounds = [], [], [], []
    for _ in range(20):
        n = rng.normal(size=(25, 3))
        n /= np.linalg.norm(n, axis=1, keepdims=True)
        n = np.concatenate([n, np.eye(3), -np.eye(3)])
        d = np.concatenate([rng.uniform(200, 900, 25), np.full(6, 1000.0)])
        hull = ConvexHull(HalfspaceIntersection(np.c_[n, -d], np.zeros(3)).intersections)
        normals.append(n)
        distances.append(d)
        expected.append(hull.volume)
        bounds.append((hull.min_bound, hull.max_bound))
    found = measure_polyhedra(np.concatenate(normals), np.concatenate(distances), np.arange(21) * 31)
    np.testing.assert_allclose(found.volume_nm3, expected, rtol=1e-9)
    np.testing.assert_allclose(found.lower_nm, [b[0] for b in bounds], atol=1e-5)
    np.testing.assert_allclose(found.upper_nm, [b[1] for b in bounds], atol=1e-5)


def test_planes_that_bound_nothing_have_no_area_and_empty_ones_no_volume():
    cube = np.concatenate([np.eye(3), -np.eye(3), [[1.0, 0, 0]], np.eye(3), -np.eye(3), [[-1.0, 0, 0]]])
    distances = np.array([1.0] * 6 + [1.5] + [1.0] * 6 + [-1.5])
    found = measure_polyhedra(cube, distances, np.array([0, 7, 14]))
    assert found.volume_nm3.tolist() == pytest.approx([8.0, 0.0])
    assert found.area_nm2[6] == 0


def test_gather_keeps_the_order_within_an_owner():
    start, (values,) = gather(np.array([2, 0, 2, 1]), 4, np.array([10, 11, 12, 13]))
    assert start.tolist() == [0, 1, 2, 4, 4]
    assert values.tolist() == [11, 13, 10, 12]


def test_a_plane_given_twice_bounds_once():
    turned = Rotation.from_rotvec([0.3, 0.7, -0.2]).apply(np.concatenate([np.eye(3), -np.eye(3)]))
    normals, distances = np.concatenate([turned, turned]), np.full(12, 0.5)
    # The second set off by rounding, as contact planes of particles that are packed again are.
    distances[6:] *= 1 + 1e-16 * np.arange(-3, 3)
    found = measure_polyhedra(normals, distances, np.array([0, 12]))
    assert found.volume_nm3[0] == pytest.approx(1.0, rel=1e-12)
    assert (found.area_nm2 > 0).sum() == 6
