import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.bodies import find_bodies
from npsi_twin.morphology.body_shapes import body_shapes, core_shell_index
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.volumes import Phase, Volume


def balls(shape, centres, radius):
    z, y, x = np.indices(shape, sparse=True)
    return sum((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < radius**2 for a, b, c in centres) > 0


def test_balls_are_found_one_by_one():
    shape, radius = (40, 80, 80), 9.0
    centres = [(20.2, 15 + 24.3 * i, 15 + 24.6 * j) for i in range(3) for j in range(3)]
    mask = balls(shape, centres, radius)
    found = find_bodies(mask, mask, 50.0)
    assert found.count == 9
    assert sorted(found.agglomerate.tolist()) == list(range(10))
    assert np.array_equal(found.particle > 0, mask)
    shapes = body_shapes(found.particle, 50.0)
    assert not shapes.cut.any()
    # a digitised ball of 9 voxels: volume within 1 %, surface within 2 %
    assert shapes.size_um == pytest.approx(0.9, rel=0.01)
    assert shapes.sphericity == pytest.approx(1.0, abs=0.025)
    assert shapes.aspect == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("distance", "count"), [(8, 1), (14, 2), (17, 2), (19, 2)])
def test_a_neck_parts_two_balls_when_it_is_narrow(distance, count):
    # radius 10: the neck of two balls at a distance d is sqrt(100 - d^2 / 4) = 9.2, 7.1, 5.3, 3.1 deep: 0.8 is 8
    mask = balls((28, 28, 50), [(14, 14, 25 - distance / 2), (14, 14, 25 + distance / 2)], 10.0)
    found = find_bodies(mask, mask, 50.0)
    assert found.count == count
    assert found.agglomerate.max() == 1  # they touch
    assert find_bodies(mask, mask, 50.0, split_ratio=0.2).count == 1


def test_envelopes_that_meet_without_silicon_are_no_agglomerate():
    mask = balls((28, 28, 50), [(14, 14, 17), (14, 14, 33)], 10.0)
    silicon = mask.copy()
    silicon[:, :, 24:27] = False
    assert find_bodies(mask, silicon, 50.0).agglomerate.tolist() == [0, 1, 2]
    silicon[14, 14, 24:27] = True  # one strand over a border of some 100 faces
    assert find_bodies(mask, silicon, 50.0).agglomerate.tolist() == [0, 1, 2]
    assert find_bodies(mask, silicon, 50.0, contact_share=0.0).agglomerate.tolist() == [0, 1, 1]


def test_ellipsoids_have_their_axes():
    z, y, x = np.indices((36, 36, 64)) - np.array([17.5, 17.5, 31.5])[:, None, None, None]
    body = ((z**2 + y**2) / 12**2 + x**2 / 24**2 < 1).astype(np.int32)
    shapes = body_shapes(body, 100.0)
    assert shapes.aspect[0] == pytest.approx(2.0, rel=0.01)
    assert shapes.volume_um3[0] == pytest.approx(4 / 3 * np.pi * 1.2**2 * 2.4, rel=0.01)
    # area of a prolate spheroid: 2 pi a^2 (1 + c / (a e) asin e)
    e = np.sqrt(1 - 0.25)
    area = 2 * np.pi * 1.2**2 * (1 + 2 / e * np.arcsin(e))
    true = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * 1.2**2 * 2.4) ** (2 / 3) / area
    assert shapes.sphericity[0] == pytest.approx(true, rel=0.02)


def test_what_is_cut_is_known_to_be():
    mask = balls((20, 20, 60), [(10, 10, 10), (10, 10, 30), (2, 10, 50)], 6.0)
    found = find_bodies(mask, mask, 50.0)
    assert body_shapes(found.particle, 50.0).cut.tolist() == [True, False, False]
    unknown = np.zeros((20, 60), bool)
    unknown[:, :14] = True
    assert body_shapes(found.particle, 50.0, beyond=unknown).cut.sum() == 2
    standing = balls((20, 20, 20), [(10, 15, 10)], 6.0).astype(np.int32)
    assert body_shapes(standing, 50.0).cut[0]
    assert not body_shapes(standing, 50.0, beyond=np.zeros((20, 20), bool)).cut[0]  # a foil lies under it


def test_a_core_shell_index_of_a_linear_profile():
    z, y, x = np.indices((44, 44, 44)) - 21.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    body = (radius < 20).astype(np.int32)
    grey = 1 + radius / 20
    # voxels within one of the surface are left out: thirds by volume of a ball of 19, mean radius 3/4 of the inner
    # third's, of the outer third 3/4 (1 - (2/3)^(4/3)) 3 of 19; in units of 20 the ratio follows
    inner = 1 + 0.75 * (1 / 3) ** (1 / 3) * 19 / 20
    outer = 1 + 0.75 * 3 * (1 - (2 / 3) ** (4 / 3)) * 19 / 20
    assert core_shell_index(body, grey) == pytest.approx(inner / outer, rel=0.01)
    assert core_shell_index(body, np.ones(body.shape)) == pytest.approx(1.0, rel=1e-6)
    assert np.isnan(core_shell_index(np.zeros_like(body), grey))
    assert np.isnan(core_shell_index(np.ones_like(body), grey))


def test_degenerate_envelopes_and_bad_requests():
    nothing, everything = np.zeros((4, 5, 6), bool), np.ones((4, 5, 6), bool)
    assert find_bodies(nothing, nothing, 50.0).count == 0
    assert find_bodies(everything, everything, 50.0).count == 1
    line = np.ones((1, 1, 9), bool)
    line[0, 0, 4] = False
    assert find_bodies(line, line, 50.0).count == 2
    with pytest.raises(IncompatibleError, match="Crop them alike"):
        find_bodies(nothing, nothing[1:], 50.0)
    with pytest.raises(ParameterError, match="shares"):
        find_bodies(nothing, nothing, 50.0, split_ratio=0.0)


def test_particles_on_a_foil_through_measure():
    values = np.zeros((60, 70, 90), np.uint8)
    centres = [(20, 35, 22), (40, 35, 22), (20, 35, 60), (40, 34, 78)]
    values[balls(values.shape, centres, 9.0)] = Phase.SILICON
    # two of them are welded
    values[balls(values.shape, [(30, 35, 22)], 5.0)] = Phase.SILICON
    values[:, 60:] = Phase.CURRENT_COLLECTOR
    recipe = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=60.0)
    grey = np.where(values == Phase.SILICON, 0.01, np.where(values == 0, 0.0, 0.047)).astype(np.float32)
    found = measure(Volume(values, 50.0), Volume(grey, 50.0), recipe)
    assert found["particle_size_um"].n == 4
    assert found["particle_size_um"].value == pytest.approx(0.9, rel=0.04)  # half a weld each
    assert found["agglomerated_share"].value == pytest.approx(0.52, abs=0.02)
    assert found["agglomerate_size_um"].n == found["agglomerate_aspect"].n == 3
    # two balls of radius R, 20 voxels from middle to middle: by their moments about (R^2/5 + 100) / (R^2/5), and by
    # volume half of all; the weld makes it a little less long
    pair = np.sqrt((9**2 / 5 + 100) / (9**2 / 5))
    assert found["agglomerate_aspect"].value == pytest.approx((pair + 1) / 2, rel=0.06)
    assert found["particle_aspect"].value < 1.1
    # they have twice the surface of one, and 2^(2/3) of it as one ball would
    assert found["agglomerate_sphericity"].value == pytest.approx((2 ** (-1 / 3) + 1) / 2, rel=0.06)
    assert found["core_shell_index"].value == pytest.approx(1.0, rel=1e-3)
    assert found["foil_contact_share"].value == 0.0
    assert found["detached_share"].value == 1.0
    assert found["foil_gap_um"].value > 16 * 0.05
    off = measure(Volume(values, 50.0), None, recipe.model_copy(update={"bodies": False}))
    assert off["particle_size_um"].note == "not asked for (bodies = false)"
