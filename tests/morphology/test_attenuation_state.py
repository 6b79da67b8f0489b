import numpy as np
import pytest

from npsi_twin.materials import alloy, compounds
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.volumes import Phase, Volume

RECIPE = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=120.0, minimum_run_nm=0.0, foil_band_nm=(100.0, 400.0))
COPPER = 0.047


def lamellar(ratio):
    """Silicon on half of the volume of a layer, attenuating as dense silicon diluted by a volume ratio."""
    labels = np.zeros((12, 90, 32), np.uint8)
    labels[:, 70:] = Phase.CURRENT_COLLECTOR
    labels[:, 40:70, 2:30][:, :, np.arange(28) % 4 < 2] = Phase.SILICON
    grey = np.array([0.0, RECIPE.silicon_over_foil * COPPER / ratio, 0, COPPER], np.float32)[labels]
    return Volume(labels, 50.0), Volume(grey, 50.0)


@pytest.mark.parametrize("lithium", [0.0, 1.0, 3.75])
def test_lithium_comes_back_with_all_that_looks_like_it(lithium):
    found = measure(*lamellar(1 + RECIPE.volume_per_lithium * lithium), RECIPE)
    # the porosity of the labels is exact here, and so is everything that follows
    assert found["lithium_per_silicon"].value == pytest.approx(lithium, abs=1e-5)
    porosity = found["porosity_particles"].value
    ratio = 1 + RECIPE.volume_per_lithium * lithium
    bare = 1 - (1 - porosity) / ratio
    # guard and layer do not share all rows: their porosities are alike, since lamellae are alike at every height
    assert found["porosity_without_lithium"].value == pytest.approx(bare, abs=2e-3)
    line = found.curves["lithium_degeneracy"]
    assert (line[0] >= 0).all()
    s, v = RECIPE.silicon_over_foil, RECIPE.volume_per_lithium
    g = (1 - line[0]) * s / (1 + v * line[1])
    assert g == pytest.approx(found["normalised_attenuation_particles"].value, rel=1e-6)
    assert f"{found['porosity_without_lithium'].value:.3f}" in found["lithium_per_silicon"].note


def test_the_numbers_behind_it_are_those_of_the_materials():
    copper, silicon = (compounds.attenuation_per_um(*m, 8.0) for m in (("Cu", 8.96), ("Si", 2.329)))
    recipe = MeasurementRecipe()
    assert silicon / copper == pytest.approx(recipe.silicon_over_foil, rel=2e-3)
    assert alloy.volume_ratio(1.0) - 1 == pytest.approx(recipe.volume_per_lithium, rel=1e-3)


def test_texture_is_what_noise_does_not_explain():
    rng = np.random.default_rng(3)
    labels = np.zeros((40, 120, 40), np.uint8)
    labels[:, 90:] = Phase.CURRENT_COLLECTOR
    labels[:, 60:90] = Phase.SILICON
    grey = np.array([0.0, 0.006, 0, COPPER])[labels]
    noise = rng.normal(0, 0.002, labels.shape)
    texture = rng.normal(0, 0.001, labels.shape) * (labels == Phase.SILICON)
    plain = measure(Volume(labels, 50.0), Volume((grey + noise).astype(np.float32), 50.0), RECIPE)
    rough = measure(Volume(labels, 50.0), Volume((grey + noise + texture).astype(np.float32), 50.0), RECIPE)
    # some 1500 cubes of 27 voxels: variances are known to sqrt(2 / 26 / 1500) = 0.7 %, their roots to half of it
    assert plain["texture_over_noise"].value == pytest.approx(1.0, abs=0.015)
    assert rough["texture_over_noise"].value == pytest.approx(np.sqrt(1.25), abs=0.02)
    assert rough["texture_per_um"].value == pytest.approx(0.001, rel=0.1)
    clean = measure(Volume(labels, 50.0), Volume(grey.astype(np.float32), 50.0), RECIPE)
    assert clean["texture_over_noise"].note == "air has no noise"
    assert clean["texture_per_um"].value == pytest.approx(0.0, abs=1e-9)


def test_texture_below_the_noise_is_unknown_and_not_zero():
    rng = np.random.default_rng(5)
    labels = np.zeros((24, 120, 40), np.uint8)
    labels[:, 90:] = Phase.CURRENT_COLLECTOR
    labels[:, 60:90] = Phase.SILICON
    grey = np.array([0.0, 0.006, 0, COPPER])[labels]
    # a fifth less noise in silicon than in air: far more than the 2 % that some 500 cubes of 64 voxels scatter by
    noise = rng.normal(0, 0.002, labels.shape) * np.where(labels == Phase.SILICON, 0.8, 1.0)
    found = measure(Volume(labels, 50.0), Volume((grey + noise).astype(np.float32), 50.0), RECIPE)
    assert np.isnan(found["texture_per_um"].value)
    assert "not above the noise" in found["texture_per_um"].note
    assert found["texture_over_noise"].value == pytest.approx(0.8, rel=0.02)


def test_a_mean_foil_mixes_copper_into_the_layer():
    labels = np.zeros((8, 90, 40), np.uint8)
    bumps = 70 + 6 * (np.arange(40) // 5 % 2)
    y = np.arange(90)[:, None]
    labels[:, y >= bumps] = Phase.CURRENT_COLLECTOR
    labels[:, (y < bumps) & (y >= bumps - 40)] = Phase.SILICON
    grey = np.array([0.0, 0.006, 0, COPPER], np.float32)[labels]
    recipe = RECIPE.model_copy(update={"plateau_band_nm": (0.0, 400.0)})
    found = measure(Volume(labels, 50.0), Volume(grey, 50.0), recipe)
    level = 0.006 / COPPER
    assert found["normalised_attenuation_plateau"].value == pytest.approx(level, rel=1e-5)
    # the plane lies half-way; half of the columns hold three voxels of copper above it, of eight
    mixed = level + 0.5 * 3 / 8 * (1 - level)
    assert found["normalised_attenuation_plateau_mean_foil"].value == pytest.approx(mixed, rel=0.05)


def test_contact_detachment_and_gap():
    labels = np.zeros((10, 60, 40), np.uint8)
    labels[:, 50:] = Phase.CURRENT_COLLECTOR
    labels[:, 30:50, :10] = Phase.SILICON  # sits on the foil
    labels[:, 30:42, 10:30] = Phase.SILICON  # hangs eight voxels above it; ten columns are bare
    found = measure(Volume(labels, 50.0), None, RECIPE)
    assert found["foil_contact_share"].value == pytest.approx(10 / 40)
    assert found["silicon_coverage"].value == pytest.approx(30 / 40)
    # the closing ball of 2.4 voxels rounds the inner corner: one or two columns beside the seat read half a gap
    assert found["detached_share"].value == pytest.approx(20 / 30, abs=0.05)
    assert found["foil_gap_um"].value == pytest.approx(0.4, rel=0.06)
