"""The 3-D pictures: silhouettes, light and colours against closed forms, and who hides whom."""

import math

import numba
import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError
from npsi_twin.report.ray_casting import BACKGROUND, BLOCK, FOIL, SILICON
from npsi_twin.report.rendering import Bodies, RenderingRecipe, _free_blocks, _lamp, render

VOXEL_NM = 100.0


def _recipe(**changes):
    """A camera that looks onto slice 0, one sample a voxel, hardly any smoothing."""
    return RenderingRecipe(
        **{"azimuth_deg": 0, "elevation_deg": 0, "pixel_nm": VOXEL_NM, "samples_per_edge": 1, "smoothing_nm": 50.0}
        | changes
    )


def _bodies(silicon, foil=None, light=None, attenuation=None):
    silicon = np.asarray(silicon, np.float32)
    foil = np.zeros_like(silicon) if foil is None else np.asarray(foil, np.float32)
    light = np.zeros_like(silicon) if light is None else np.asarray(light, np.float32)
    attenuation = 0.3 * silicon + foil if attenuation is None else attenuation
    return Bodies(silicon, foil, light, np.asarray(attenuation, np.float32), VOXEL_NM)


def _ball(radius, edge=56):
    axis = np.arange(edge) - (edge - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.clip(0.5 + radius - np.sqrt(z * z + y * y + x * x), 0, 1)


def test_a_ball_has_the_silhouette_of_a_disk():
    radius = 20.0
    seen = render(_bodies(_ball(radius)), _recipe(azimuth_deg=25.0, elevation_deg=33.0, pixel_nm=50.0))
    area = np.count_nonzero(seen.body == SILICON) * (seen.sample_nm / VOXEL_NM) ** 2
    # Smoothing by s moves the surface of a ball inwards by s^2 / r: 0.0125 voxels, 0.13 % of the area; counting samples
    # of half a voxel on a circle of 80 of them errs by about sqrt(80) samples in 5000, 0.2 %.
    assert area == pytest.approx(math.pi * radius**2, rel=4e-3)


def test_a_ball_that_smoothing_would_drown_keeps_its_volume():
    radius, drowned = 2.5, {"smoothing_nm": 2.0 * VOXEL_NM}
    ball = _bodies(_ball(radius))
    assert not (render(ball, _recipe(**drowned)).body == SILICON).any()
    seen = render(ball, _recipe(surface="volume", pixel_nm=25.0, **drowned))
    area = np.count_nonzero(seen.body == SILICON) * (seen.sample_nm / VOXEL_NM) ** 2
    # A smoothed ball is a ball: its volume decides its radius. Level and volume are found to a shell of the lattice,
    # 24 voxels of 65, which is a quarter of a voxel in the radius at the most.
    assert area == pytest.approx(math.pi * radius**2, rel=0.2)


@pytest.mark.parametrize("sky_share", [0.0, 0.4, 1.0])
def test_a_ball_is_lit_by_lambert_s_law(sky_share):
    radius, recipe = (
        20.0,
        _recipe(sky_share=sky_share, lamp_radius_deg=8.0, lamp_azimuth_deg=-30.0, smoothing_nm=VOXEL_NM),
    )
    seen = render(_bodies(_ball(radius)), recipe)
    rows, columns = seen.body.shape
    across = (np.arange(columns) + 0.5 - columns / 2)[None, :] / radius
    above = (rows / 2 - np.arange(rows) - 0.5)[:, None] / radius
    on = across**2 + above**2 < 0.9**2
    depth = np.sqrt(np.clip(1 - across**2 - above**2, 0, None))
    normal = np.stack([-depth, np.broadcast_to(-above, on.shape), np.broadcast_to(across, on.shape)], axis=-1)
    direct = np.clip(normal @ _lamp(recipe).T, 0, None).mean(axis=-1)
    # Nothing hides the sky from a convex body. Interpolation adds a variance of up to 3/4 voxel^2, in places, to an
    # edge of 1 + 1/12: normals lean by some hundredths; a gradient over two voxels of a ball of 20 errs by (1/20)^2.
    np.testing.assert_allclose(seen.light[on], (sky_share + (1 - sky_share) * direct)[on], atol=0.03)


def _step(height=30, edge=64):
    """A floor in the lower half, and on its right half a wall of some height."""
    silicon = np.zeros((edge, edge, edge))
    silicon[:, edge - 12 :] = 1
    silicon[:, edge - 12 - height :, edge // 2 :] = 1
    return _bodies(silicon)


def test_a_wall_hides_its_part_of_the_sky():
    reach = 16.0
    seen = render(_step(), _recipe(elevation_deg=90, sky_share=1.0, sky_reach_nm=reach * VOXEL_NM))
    row = seen.light[seen.light.shape[0] // 2]
    for column in (16, 20, 24, 28, 30):
        # Nusselt: weighted by the cosine, the sky is a uniform unit disk. Directions that meet the wall within reach
        # have a horizontal part above c, and cut off the segment beyond c.
        c = (31.5 - column) / reach
        hidden = (math.acos(c) - c * math.sqrt(1 - c * c)) / math.pi if c < 1 else 0.0
        # 32 directions stand for half a sphere (0.03 each, three of them at the segment's edge), the nearest voxel
        # blurs c by 0.03.
        assert row[column] == pytest.approx(1 - hidden, abs=0.1)
    assert row[8] == pytest.approx(1.0, abs=1e-6)


def test_a_wall_casts_a_shadow_of_its_length():
    height, elevation = 12, 40.0
    recipe = _recipe(
        elevation_deg=90, sky_share=0.0, lamp_azimuth_deg=90.0, lamp_elevation_deg=elevation, lamp_radius_deg=0.0
    )
    row = render(_step(height), recipe).light[32]
    dark = np.count_nonzero(row[:32] < 1e-6)
    # The lamp stands to the right, behind the wall; light starts one voxel off the floor and steps by one voxel.
    assert dark == pytest.approx(height / math.tan(math.radians(elevation)), abs=2.5)
    assert row[4] == pytest.approx(math.sin(math.radians(elevation)), abs=0.01)


def test_whoever_stands_in_front_is_seen():
    silicon, foil = np.zeros((24, 24, 24)), np.zeros((24, 24, 24))
    foil[4:8, 4:20, 4:20] = 1
    silicon[14:18, 6:18, 6:18] = 1
    front, back = (render(_bodies(silicon, foil), _recipe(azimuth_deg=a)) for a in (0, 180))
    assert front.body[12, 12] == FOIL
    assert front.normalised_attenuation[12, 12] == 1.0
    assert SILICON not in front.body
    assert back.body[12, 12] == SILICON
    assert back.body[12, 5] == FOIL  # its rim looks out behind the silicon
    assert back.normalised_attenuation[12, 12] == pytest.approx(0.3, abs=1e-5)


def test_axes_of_the_picture():
    silicon = np.zeros((20, 24, 28))
    silicon[2:6, 3:7, 4:9] = 1  # near slice 0, high, at small x
    v, u = np.nonzero(render(_bodies(silicon), _recipe()).body)
    assert (v.mean(), u.mean()) == pytest.approx((4.5, 6.0), abs=0.3)
    v, u = np.nonzero(render(_bodies(silicon), _recipe(azimuth_deg=90)).body)
    assert (v.mean(), u.mean()) == pytest.approx((4.5, 3.5), abs=0.3)
    v, u = np.nonzero(render(_bodies(silicon), _recipe(elevation_deg=90)).body)  # slice 0 is at the lower edge
    assert (v.mean(), u.mean()) == pytest.approx((19 - 3.5, 6.0), abs=0.3)


def test_nothing_is_seen_of_nothing():
    seen = render(_bodies(np.zeros((5, 6, 7))))
    assert (seen.body == BACKGROUND).all()
    assert not seen.light.any()
    assert not seen.normalised_attenuation.any()


def test_partial_volumes_do_not_look_less_dense():
    seen = render(_bodies(_ball(12.0, 40), attenuation=0.25 * _ball(12.0, 40)), _recipe(azimuth_deg=40.0))
    on = seen.body == SILICON
    np.testing.assert_allclose(seen.normalised_attenuation[on], 0.25, atol=1e-5)  # float32


def test_copper_in_a_shared_voxel_does_not_colour_silicon():
    share, foil = np.zeros((20, 20, 20)), np.zeros((20, 20, 20))
    share[:, 6:12], share[:, 12] = 1, 0.5
    foil[:, 12], foil[:, 13:] = 0.5, 1
    seen = render(_bodies(share, foil), _recipe())
    np.testing.assert_allclose(seen.normalised_attenuation[seen.body == SILICON], 0.3, atol=1e-5)


def test_haze_follows_beer_and_lambert():
    light = np.zeros((30, 20, 20))
    light[5:25] = 0.4
    seen = render(_bodies(np.zeros_like(light), light=light), _recipe(haze_per_um=0.5))
    # 20 voxels of 0.1 um; interpolation keeps the integral, and steps of one voxel add up its corners exactly.
    assert seen.haze[10, 10] == pytest.approx(1 - math.exp(-0.5 * 0.4 * 2.0), rel=1e-4)
    light[:] = 0
    assert not render(_bodies(np.zeros_like(light), light=light), _recipe(haze_per_um=0.5)).haze.any()


def test_haze_stops_at_the_body():
    silicon, light = np.zeros((30, 20, 20)), np.zeros((30, 20, 20))
    light[5:25], silicon[15:20] = 0.4, 1
    seen = render(_bodies(silicon, light=light), _recipe(haze_per_um=0.5))
    # One voxel of steps either way at the body's face.
    assert -math.log(1 - seen.haze[10, 10]) == pytest.approx(0.5 * 0.4 * 1.0, abs=0.5 * 0.4 * 0.1)


def test_no_leap_passes_a_surface():
    rng = np.random.default_rng(7)
    field = np.zeros((30, 27, 33), np.float32)
    field[tuple(rng.integers(0, n, 6) for n in field.shape)] = 1
    free = _free_blocks(field)
    filled = np.argwhere(field >= 0.5)
    for block in np.argwhere(free > 0):
        low, high = BLOCK * block, BLOCK * (block + 1)  # where a point of the block may be
        # Interpolation sees a filled voxel from less than one voxel away.
        gap = np.maximum(np.maximum(low - (filled + 1), (filled - 1) - high), 0).max(axis=1)
        assert gap.min() >= free[tuple(block)]


def test_threads_change_nothing():
    bodies = _bodies(_ball(9.0, 32))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = render(bodies)
    finally:
        numba.set_num_threads(before)
    two = render(bodies)
    for name in ("body", "light", "normalised_attenuation", "haze"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    "change",
    [
        {"azimuth_deg": 10.0},
        {"elevation_deg": 40.0},
        {"pixel_nm": 120.0},
        {"samples_per_edge": 2},
        {"smoothing_nm": 150.0},
        {"lamp_azimuth_deg": 20.0},
        {"lamp_elevation_deg": 20.0},
        {"lamp_radius_deg": 20.0},
        {"sky_share": 0.2},
        {"sky_reach_nm": 300.0},
        {"haze_per_um": 1.0},
    ],
)
def test_every_parameter_matters(change):
    scene = _step(8, 24)
    hazy = _bodies(scene.silicon, light=0.2 * (1 - scene.silicon))

    def picture(**changes):
        seen = render(
            hazy, _recipe(elevation_deg=25.0, **changes) if "elevation_deg" not in changes else _recipe(**changes)
        )
        return b"".join(a.tobytes() for a in (seen.body, seen.light, seen.normalised_attenuation, seen.haze))

    assert picture(**change) != picture()


def test_bodies_of_different_shapes_are_refused():
    with pytest.raises(IncompatibleError, match="one shape"):
        _bodies(np.zeros((3, 3, 3)), foil=np.zeros((3, 3, 4)), attenuation=np.zeros((3, 3, 3)))
