import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.errors import DataError
from npsi_twin.morphology.collector import find_collector, level_surface, longest_runs
from npsi_twin.volumes import Volume


def test_the_surface_is_found_at_sub_voxel_height(needle):
    found = find_collector(needle.attenuation)
    error = found.surface_nm - needle.surface_nm
    # the truth is a staircase of whole voxels, sd voxel / sqrt(12) = 14.7 nm and mean 0 a column; the phantom's 240
    # columns across cross the voxel's height a few times, so that the mean of the rounding is below a tenth of a voxel
    assert abs(np.nanmean(error)) < 5.1
    assert np.nanstd(error) < 1.3 * 50.8 / np.sqrt(12)
    assert np.isfinite(error).mean() > 0.8


def test_plateau_and_tilt(needle):
    found = find_collector(needle.attenuation)
    # median over 8e5 voxels with noise 0.003: standard error 1.25 * 0.003 / 9e2 = 4e-6
    assert found.attenuation_per_um == pytest.approx(0.0471, abs=3e-5)
    # the roughness, 100 nm over about four correlation lengths of 3 um in 11 um, can tilt the fitted plane by
    # 100 nm / 5 um = 1 degree at most
    assert found.tilt_deg == pytest.approx(2.0, abs=1.0)


@pytest.mark.parametrize("silicon", [0.0, 0.0151])
def test_a_blurred_edge_stays_where_it_is_under_void_and_under_silicon(silicon):
    profile = np.where(np.arange(60) < 30, silicon, 0.0471)
    profile[:15] = 0.0
    values = ndimage.gaussian_filter1d(np.broadcast_to(profile[None, :, None], (6, 60, 8)), 1.0, axis=1)
    surface = find_collector(Volume(values.astype(np.float32), 50.0)).surface_nm
    assert np.allclose(surface, 0.0, atol=2.0)  # linear interpolation of an erf over one voxel: below 0.04 voxel


def test_columns_that_show_the_flank_of_the_needle_are_left_out(build_needle):
    # foil above the needle's axis: beyond the foil's chord the top of the copper is the needle's flank
    deep = build_needle((24, 220, 240), surface_nm=2500.0, tilt_deg=0.0)
    found = find_collector(deep.attenuation)
    error = (found.surface_nm - deep.surface_nm)[np.isfinite(found.surface_nm)]
    assert np.abs(error).max() < 12 * 50.8  # the last kept columns lie less than 4 sd + 2 voxels below the plane
    assert abs(np.mean(error)) < 0.5 * 50.8


def test_slab_and_columns_of_foil_only_have_no_surface():
    solid = Volume(np.full((4, 20, 20), 0.047, np.float32), 50.0)
    with pytest.raises(DataError, match="tilted by nan"):
        find_collector(solid)


@pytest.mark.parametrize(
    ("turn", "side"), [(lambda v: v[:, ::-1], "below"), (lambda v: np.rot90(v, axes=(1, 2)), "left of|right of")]
)
def test_a_foil_that_is_not_below_its_layer_is_refused(needle, turn, side):
    with pytest.raises(DataError, match=f"layer lies ({side}) the foil"):
        find_collector(Volume(np.ascontiguousarray(turn(needle.attenuation.values)), 50.8))


def test_the_blur_of_a_flat_lens_of_foil_is_no_layer_beside_it():
    """A needle of 34 um that cuts its foil 1.5 um above its end: flanks so flat that blur reaches far sideways."""
    y, x = np.indices((260, 720))
    lens = (np.hypot(y + 140, x - 360) < 340) & (y >= 170)
    image = ndimage.gaussian_filter(np.where(lens, 0.0471, 0.0), 2.0)
    found = find_collector(Volume(np.repeat(image[None], 2, axis=0).astype(np.float32), 50.0))
    # blurred with air from both sides, a lens that runs out lies lower, in the median by less than a quarter of a voxel
    assert np.nanmedian(found.surface_nm) == pytest.approx((130 - 170) * 50.0, abs=12.5)


def test_a_steep_foil_is_refused(build_needle):
    with pytest.raises(DataError, match="degrees from"):
        find_collector(build_needle((16, 220, 220), tilt_deg=25.0, roughness_nm=0.0).attenuation)


def test_what_holds_no_foil_is_refused(needle, gaussian_field):
    rng = np.random.default_rng(3)
    field = gaussian_field((32, 64, 64), 8.0, rng)
    porous = np.where(field > np.quantile(field, 0.6), 0.0151, 0.0).astype(np.float32)
    for values in (porous, rng.normal(0, 0.003, (24, 48, 48)), np.zeros((4, 8, 8))):
        with pytest.raises(DataError, match="foil"):
            find_collector(Volume(values.astype(np.float32), 50.0))
    broken = np.array(needle.attenuation.values)
    broken[3, 4, 5] = np.nan
    with pytest.raises(DataError, match="NaN"):
        find_collector(Volume(broken, 50.8))


def test_bright_inclusions_do_not_pass_for_the_foil(needle):
    values = np.array(needle.attenuation.values)
    values[10:14, 60:64, 100:104] = 5 * 0.0471  # bismuth
    found = find_collector(Volume(values, 50.8))
    assert found.attenuation_per_um == pytest.approx(0.0471, abs=3e-5)


def test_longest_runs_and_planes():
    mask = np.zeros((1, 9, 3), bool)
    mask[0, [0, 1, 4, 5, 6], 0] = True
    mask[0, [0, 1, 5, 6], 1] = True  # two equal runs: the lower one
    start, length = longest_runs(mask)
    assert start.tolist() == [[4, 5, 0]]
    assert length.tolist() == [[3, 2, 0]]
    x = np.arange(50) * 50.0
    tilted = np.tile(np.tan(np.radians(3)) * x, (20, 1))
    tilted[:, -2:] -= 1000
    surface, plane, tilt = level_surface(tilted, 50.0)
    assert tilt == pytest.approx(3.0, abs=1e-6)
    assert np.isnan(surface[:, -2:]).all()
    assert np.allclose(plane[:, :-2], tilted[:, :-2])


def test_input_is_untouched_and_output_read_only_and_repeatable(needle):
    before = np.array(needle.attenuation.values)
    first, second = find_collector(needle.attenuation), find_collector(needle.attenuation)
    assert np.array_equal(before, needle.attenuation.values)
    assert first.surface_nm.tobytes() == second.surface_nm.tobytes()
    assert not first.foil.flags.writeable


def test_a_lump_beside_the_flank_of_a_bare_foil_is_no_layer():
    rng = np.random.default_rng(3)
    _, y, x = np.indices((8, 160, 160), sparse=True)
    foil = (y >= 100) & (((x - 80) / 60) ** 2 + ((y - 100) / 40) ** 2 <= 1)
    lump = (y >= 100) & (y < 116) & (x >= 144) & (x < 158)
    grey = 0.0471 * foil + 0.0151 * lump + rng.normal(0, 0.001, foil.shape)
    volume = Volume(grey.astype(np.float32), 50.0)
    assert find_collector(volume).tilt_deg < 1
    # on its side the same foil with a layer along all of it is still refused
    layer = (y >= 60) & (y < 100) & (abs(x - 80) < 60)
    turned = np.swapaxes(grey + 0.0151 * layer, 1, 2)
    with pytest.raises(DataError, match="left of"):
        find_collector(Volume(turned.astype(np.float32), 50.0))
