import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.profiles import attenuation_profile
from npsi_twin.morphology.thickness import SILICON, foil_surface, layer_voxels, thickness_map, top_rows
from npsi_twin.volumes import Phase, Volume


def staircase():
    """Foil and layer with a known height in every column."""
    heights = np.arange(24)[None, :] % 7 + 5 + np.zeros((4, 1), int)
    foil = 40 - np.arange(24)[None, :] // 8 + np.zeros((4, 1), int)
    y = np.arange(60)[None, :, None]
    values = np.zeros((4, 60, 24), np.uint8)
    values[(y >= (foil - heights)[:, None]) & (y < foil[:, None])] = Phase.SILICON
    values[np.broadcast_to(y >= foil[:, None], values.shape)] = Phase.CURRENT_COLLECTOR
    return Volume(values, 50.0), heights * 50.0


def test_heights_follow_the_local_surface():
    labels, heights = staircase()
    assert np.array_equal(thickness_map(labels, SILICON, foil_surface(labels)), heights)


def test_specks_are_no_surface_and_gaps_do_not_hide_one():
    labels, heights = staircase()
    values = np.array(labels.values)
    values[:, 5, ::2] = Phase.SILICON  # one-voxel specks high above
    values[:, 37, :] = Phase.VOID  # a gap above the foil
    speckled = Volume(values, 50.0)
    assert np.array_equal(thickness_map(speckled, SILICON, foil_surface(speckled)), heights)
    raised = thickness_map(speckled, SILICON, foil_surface(speckled), minimum_run_nm=0.0)
    assert (raised[:, ::2] > heights[:, ::2]).all()
    with pytest.raises(ParameterError, match="minimum_run_nm"):
        top_rows(labels, SILICON, foil_surface(labels), minimum_run_nm=-1.0)


def test_the_edge_margin_leaves_out_the_flanks_and_only_those():
    values = np.zeros((3, 20, 40), np.uint8)
    values[:, 12:, 10:] = Phase.CURRENT_COLLECTOR
    valid = foil_surface(Volume(values, 50.0), edge_margin_nm=200.0).valid
    assert not valid[:, :14].any()  # four columns at the cut end of the foil
    assert valid[:, 14:].all()  # none where the foil runs out of the volume


def test_layer_voxels_have_the_area_of_the_map():
    labels, heights = staircase()
    region = layer_voxels(labels, foil_surface(labels))
    assert np.array_equal(region.sum(axis=1) * 50.0, heights)


def test_a_tilted_foil_does_not_leak_into_the_profile():
    labels, _ = staircase()
    grey = np.array([0.0, 0.01, 0.0, 0.05], np.float32)[labels.values]
    profile = attenuation_profile(labels, Volume(grey, 50.0), foil_surface(labels), 600.0, foil_band_nm=(50.0, 500.0))
    inside = (profile.distance_nm > 0) & (profile.distance_nm < 250)
    assert np.allclose(profile.normalised[inside], 0.2, atol=1e-6)
    assert np.allclose(profile.normalised[profile.distance_nm < 0], 1.0, atol=1e-6)
    with pytest.raises(IncompatibleError, match="same voxels"):
        attenuation_profile(labels, Volume(grey[:2], 50.0), foil_surface(labels), 600.0)


def test_the_guard_replaces_blurred_copper_in_the_inventory():
    labels = np.zeros((2, 80, 6), np.uint8)
    labels[:, 60:] = Phase.CURRENT_COLLECTOR
    labels[:, 40:60] = Phase.SILICON
    grey = np.array([0.0, 0.01, 0.0, 0.05], np.float32)[labels]
    grey[:, 58:60] = 0.03  # the foil's blurred edge
    volume = Volume(labels, 50.0)
    profile = attenuation_profile(volume, Volume(grey, 50.0), foil_surface(volume), 1000.0, foil_band_nm=(50.0, 900.0))
    assert np.allclose(profile.inventory_map_um(100.0), 0.2 * 1.0, rtol=1e-5)
    assert np.allclose(profile.inventory_map_um(0.0), 0.2 * 1.0 + 2 * 0.4 * 0.05, rtol=1e-5)


def test_a_profile_says_how_it_scatters_and_how_many_columns_see_a_height():
    labels = np.zeros((4, 40, 6), np.uint8)
    labels[:, 20:] = Phase.CURRENT_COLLECTOR
    labels[:, 8:, :2] = np.where(np.arange(8, 40)[:, None] < 14, Phase.VOID, Phase.CURRENT_COLLECTOR)
    grey = np.where(labels == Phase.CURRENT_COLLECTOR, 0.05, 0.0).astype(np.float32)
    grey[:2][labels[:2] == Phase.VOID] += np.float32(0.01)
    volume = Volume(labels, 50.0)
    profile = attenuation_profile(volume, Volume(grey, 50.0), foil_surface(volume), 0.0, foil_band_nm=(50.0, 500.0))
    distance, normalised, spread, share = profile.curve(2)
    assert np.array_equal(distance, profile.distance_nm)
    assert np.array_equal(normalised, profile.normalised, equal_nan=True)
    # Air reads 0.01 in one block and 0 in the other: 0.005 about their mean, in units of foil above air.
    above = (distance > 0) & (distance < 600)
    assert spread[above] == pytest.approx(0.005 / (0.05 - 0.005), rel=1e-5)
    assert spread[(distance < 0) & (distance > -900)] == pytest.approx(0, abs=1e-7)
    # Over the higher third of the foil the volume ends after 14 voxels, over the rest after 20.
    assert share[(distance > 0) & (distance < 14 * 50)] == pytest.approx(1)
    assert share[distance > 14 * 50] == pytest.approx(2 / 3)
    assert np.isnan(profile.curve(1)[2]).all()
