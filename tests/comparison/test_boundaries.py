import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.comparison.boundaries import _corner_areas, boundary_distances
from npsi_twin.errors import DataError, IncompatibleError


def ball(radius, centre=(0.0, 0.0, 0.0), n=40):
    z, y, x = (np.arange(n) - (n - 1) / 2 - c for c in centre)
    return z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < radius**2


def blobs(seed, n=32):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((n, n, n)), 2.0, mode="wrap")
    inside = np.zeros((n, n, n), bool)
    inside[4:-4, 4:-4, 4:-4] = True
    return (field > 0) & inside


def test_equal_masks_are_nowhere_apart():
    found = boundary_distances(ball(10), ball(10), 50.0)
    assert (found.mean_nm, found.hausdorff_nm, found.hausdorff_95_nm, found.surface_dice) == (0, 0, 0, 1)


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_shifted_by_whole_voxels_are_so_far_apart(shift, axis):
    truth = np.zeros((12, 13, 14), bool)
    truth[(slice(None),) * axis + (slice(6, None),)] = True
    found = np.roll(truth, shift, axis)
    found[(slice(None),) * axis + (slice(0, 6),)] = False
    between = boundary_distances(truth, found, 40.0)
    assert between.mean_nm == between.hausdorff_95_nm == between.hausdorff_nm == pytest.approx(40.0 * shift)
    assert between.surface_dice == (1.0 if shift == 1 else 0.0)
    assert boundary_distances(truth, found, 40.0, tolerance_nm=40.0 * shift).surface_dice == 1.0
    # faces between voxel centres: the plane's pieces at corners inside the volume
    others = [n for a, n in enumerate(truth.shape) if a != axis]
    assert between.area_truth_um2 == pytest.approx((others[0] - 1) * (others[1] - 1) * 0.04**2, rel=1e-6)


def test_concentric_balls_are_their_difference_apart():
    between = boundary_distances(ball(10), ball(13), 50.0)
    # the nearest corner of a curved surface is up to half a voxel nearer than the surface
    assert 2.5 * 50 < between.mean_nm <= 3 * 50
    assert between.hausdorff_nm == pytest.approx(150.0, abs=1.2 * 50)
    assert between.surface_dice == 0.0


def test_a_ball_moved_by_one_voxel():
    between = boundary_distances(ball(12), ball(12, (0, 0, 1)), 50.0)
    # the distance of the two spheres at angle t from the shift is |cos t| voxels: mean 1/2, largest 1; oblique pieces
    # find a corner that is nearer
    assert 0.2 * 50 < between.mean_nm <= 0.5 * 50
    assert between.hausdorff_nm == pytest.approx(50.0)
    assert between.surface_dice == 1.0


def test_missed_and_invented_surfaces_are_told_apart():
    truth = ball(8, (0, 0, -9)) | ball(4, (0, 0, 10))
    between = boundary_distances(truth, ball(8, (0, 0, -9)), 50.0)
    assert between.from_recovered_nm == 0
    assert between.from_truth_nm > 50
    back = boundary_distances(ball(8, (0, 0, -9)), truth, 50.0)
    assert (back.from_truth_nm, back.from_recovered_nm) == (0, between.from_truth_nm)
    assert back.mean_nm == pytest.approx(between.mean_nm)


def test_areas_of_corner_pieces():
    areas = _corner_areas()
    assert areas[0] == areas[255] == 0
    assert areas[1] == pytest.approx(np.sqrt(3) / 8)  # a triangle between the middles of three edges
    assert areas[0b00001111] == pytest.approx(1.0)  # a plane
    assert np.array_equal(areas, areas[::-1])  # a cube and its complement have the same surface
    # marching cubes on a raw mask read a ball 7 to 9 % large (validation/07)
    found = boundary_distances(ball(14), ball(14), 1000.0)
    assert found.area_truth_um2 / (4 * np.pi * 14**2) == pytest.approx(1.08, abs=0.02)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize("seed", [1, 2])
def test_surface_distance_finds_the_same(seed):
    theirs = pytest.importorskip("surface_distance", reason="surface-distance (the extra 'test') is not installed")
    truth, found = blobs(seed), ndimage.binary_dilation(blobs(seed)) & ~blobs(seed + 10)
    ours = boundary_distances(truth, found, 50.0)
    distances = theirs.compute_surface_distances(truth, found, (50.0, 50.0, 50.0))
    from_truth, from_found = theirs.compute_average_surface_distance(distances)
    # areas are in single precision here
    assert ours.from_truth_nm == pytest.approx(from_truth, rel=1e-6)
    assert ours.from_recovered_nm == pytest.approx(from_found, rel=1e-6)
    assert ours.surface_dice == pytest.approx(theirs.compute_surface_dice_at_tolerance(distances, 50.0), rel=1e-6)
    assert ours.hausdorff_95_nm == pytest.approx(theirs.compute_robust_hausdorff(distances, 95.0), abs=1e-3)
    assert ours.hausdorff_nm == pytest.approx(theirs.compute_robust_hausdorff(distances, 100.0), abs=1e-3)


@pytest.mark.parametrize("seed", [3, 4])
def test_scikit_image_finds_the_same_largest_distance(seed):
    from skimage.metrics import hausdorff_distance

    truth, found = blobs(seed), ndimage.binary_dilation(blobs(seed), iterations=2)
    ours = boundary_distances(truth, found, 1.0)

    def corners(mask):
        whole = np.stack([mask[z : z + 31, y : y + 31, x : x + 31] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
        return whole.any(axis=0) & ~whole.all(axis=0)

    assert ours.hausdorff_nm == pytest.approx(hausdorff_distance(corners(truth), corners(found)))


def test_what_has_no_surface_is_refused():
    nothing, everything = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    half = nothing.copy()
    half[:2] = True
    with pytest.raises(DataError, match="recovered mask holds nothing"):
        boundary_distances(half, nothing, 50.0)
    with pytest.raises(DataError, match="true mask holds everything"):
        boundary_distances(everything, half, 50.0)
    with pytest.raises(DataError, match="two each way"):
        boundary_distances(half[:1], half[:1], 50.0)
    with pytest.raises(IncompatibleError, match="same voxels"):
        boundary_distances(half, half[:3], 50.0)
