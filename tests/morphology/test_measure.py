import pickle

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology import slabs
from npsi_twin.morphology.measure import MeasurementRecipe, measure, relabel
from npsi_twin.morphology.segmentation import segment
from npsi_twin.volumes import Phase, Volume


@pytest.fixture(scope="module")
def true(needle):
    return measure(needle.labels, needle.clean)


@pytest.fixture(scope="module")
def recovered(needle):
    return measure(segment(needle.attenuation).labels, needle.attenuation)


@pytest.fixture(scope="module")
def crop(needle):
    return Volume(needle.labels.values[:12], 50.8), Volume(needle.attenuation.values[:12], 50.8)


@pytest.fixture(scope="module")
def plain(crop):
    return measure(*crop).quantities


def slab(pattern, foil=True):
    values = np.zeros((8, 60, 24), np.uint8)
    if foil:
        values[:, 50:] = Phase.CURRENT_COLLECTOR
    values[:, 10:50] = pattern
    return Volume(values, 50.0)


def test_a_lamellar_layer_has_its_closed_form_numbers():
    pattern = np.where(np.arange(24) % 4 < 2, Phase.SILICON, Phase.VOID)[None, None, :]
    found = measure(slab(pattern), None, MeasurementRecipe(minimum_run_nm=0.0, edge_margin_nm=0.0))
    assert found["thickness_silicon_um"].value == 2.0
    assert found["thickness_silicon_um"].spread == 0.0
    assert found["silicon_coverage"].value == 0.5
    assert found["porosity_layer"].value == 0.0  # columns without silicon have no top, hence no layer
    # closing fills every gap of two voxels; 24 columns end with a gap that closing at the face leaves open
    assert found["porosity_particles"].value == pytest.approx(0.5, abs=0.05)
    assert np.isnan(found["thickness_solids_um"].value)
    assert found["thickness_solids_um"].note == "labels hold no carbon-binder"
    assert found["foil_roughness_um"].value == 0.0


def test_what_is_no_silicon_is_pore_of_the_particles_or_macropore():
    row = np.arange(40)[None, :, None]
    pattern = np.where((row < 5) | (row >= 20), Phase.SILICON, Phase.VOID)  # a gap of 15 of 40 rows
    # a ball that fits into the gap leaves it between particles, one that does not closes it to a pore of them
    for radius_nm, macropores, pores in ((100.0, 0.375, 0.0), (400.0, 0.0, 0.375)):
        recipe = MeasurementRecipe(minimum_run_nm=0.0, edge_margin_nm=0.0, closing_radius_nm=radius_nm)
        found = measure(slab(pattern), None, recipe)
        assert found["porosity_layer"].value == 0.375
        assert found["porosity_macropores"].value == pytest.approx(macropores, abs=0.01)
        assert found["porosity_particles"].value == pytest.approx(pores, abs=0.01)


def test_normalised_attenuation_and_inventory_of_a_uniform_layer():
    labels = slab(np.full((1, 1, 1), Phase.SILICON, np.uint8))
    values = np.array([0.0, 0.010, 0, 0.050], np.float32)[labels.values] + np.float32(0.002)
    tall = Volume(np.concatenate([np.zeros((8, 20, 24), np.uint8), labels.values], axis=1), 50.0)
    grey = Volume(np.concatenate([np.full((8, 20, 24), 0.002, np.float32), values], axis=1), 50.0)
    found = measure(tall, grey, MeasurementRecipe(foil_band_nm=(100.0, 400.0)))
    assert found["air_attenuation_per_um"].value == pytest.approx(0.002, rel=1e-6)
    assert found["foil_attenuation_per_um"].value == pytest.approx(0.052, rel=1e-6)
    assert found["normalised_attenuation_plateau"].value == pytest.approx(0.2, rel=1e-5)
    assert found["silicon_areal_inventory_um"].value == pytest.approx(0.2 * 2.0, rel=1e-5)
    near = np.abs(found.profile_distance_nm) < 500
    assert np.allclose(found.profile_normalised[near & (found.profile_distance_nm > 0)], 0.2, atol=1e-5)
    assert np.allclose(found.profile_normalised[near & (found.profile_distance_nm < 0)], 1.0, atol=1e-5)


def test_truth_is_measured_as_it_was_made(needle, true):
    made = needle.thickness_nm[np.isfinite(true.thickness_map_nm)] / 1000
    # the top of the silicon lies below the particles' cut: 60.4 % of the columns are cut in a pore, which goes on for
    # <l^2> / 2<l> = 0.5 to 1 mean chords of 0.4 um: 0.12 to 0.24 um, and a run shorter than 100 nm is passed over
    assert 0.12 < made.mean() - true["thickness_silicon_um"].value < 0.30
    assert true["porosity_particles"].value == pytest.approx(0.604, abs=0.02)
    assert true["pore_size_nm"].value == pytest.approx(400, rel=0.05)
    assert true["ligament_size_nm"].value == pytest.approx(400 * 0.396 / 0.604, rel=0.05)
    assert true["foil_attenuation_per_um"].value == pytest.approx(0.0471, rel=1e-6)
    assert true["air_attenuation_per_um"].value == 0.0
    # areal inventory: 39.6 % silicon of 0.32 plus the binder's few thousandths
    inventory = 0.396 * 0.0151 / 0.0471 * made.mean()
    assert true["silicon_areal_inventory_um"].value == pytest.approx(inventory, rel=0.04)


def test_noise_and_blur_leave_the_robust_quantities_where_they_are(true, recovered):
    for name, tolerance in {
        "thickness_silicon_um": 0.05,
        "foil_roughness_um": 0.01,
        "foil_attenuation_per_um": 1e-4,
        "air_attenuation_per_um": 1e-4,
        "normalised_attenuation_plateau": 0.005,
        "silicon_areal_inventory_um": 0.01,
    }.items():
        assert abs(recovered[name].value - true[name].value) < tolerance, name


def test_thresholding_a_blurred_image_has_a_bias_and_it_is_seen(true, recovered):
    assert recovered["porosity_particles"].value < true["porosity_particles"].value - 0.02


def test_names_are_complete_and_the_input_is_untouched(needle, true, recovered):
    assert list(true.quantities) == list(recovered.quantities)
    again = measure(needle.labels, needle.clean)
    for name in true.quantities:
        one, two = true[name], again[name]
        assert np.array([one.value, one.spread]).tobytes() == np.array([two.value, two.spread]).tobytes()
    copy = pickle.loads(pickle.dumps(true))  # noqa: S301
    assert copy.thickness_map_nm.tobytes() == true.thickness_map_nm.tobytes()
    assert copy.made_by == true.made_by
    assert {name: curve.tobytes() for name, curve in copy.curves.items()} == {
        name: curve.tobytes() for name, curve in true.curves.items()
    }


@pytest.mark.parametrize(
    "change", [{"bodies": False}, {"split_ratio": 0.3}, {"contact_share": 1.0}, {"smallest_body_nm": 930.0}]
)
def test_every_parameter_of_bodies_matters(change):
    z, y, x = np.indices((34, 70, 70), sparse=True)
    balls = [(17, 35, 15, 9.0), (17, 35, 31, 9.0), (17, 35, 55, 10.0)]
    solid = sum((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < r**2 for a, b, c, r in balls) > 0
    labels = Volume(solid.astype(np.uint8), 50.0)
    recipe = MeasurementRecipe(closing_radius_nm=50.0)
    plain, other = (measure(labels, None, r) for r in (recipe, recipe.model_copy(update=change)))
    names = ("particle_size_um", "agglomerate_size_um", "agglomerated_share")
    assert any((plain[name].value, plain[name].n) != (other[name].value, other[name].n) for name in names)


@pytest.mark.parametrize("label", list(Phase))
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 1), (9, 12, 10)])
def test_volumes_of_one_phase_give_reasons_not_numbers(label, shape):
    labels = Volume(np.full(shape, label, np.uint8), 50.0)
    found = measure(labels, Volume(np.full(shape, 0.01, np.float32), 50.0), MeasurementRecipe(tortuosity=True))
    for name, quantity in found.quantities.items():
        assert np.isfinite(quantity.value) or quantity.note, name
        assert not np.isinf(quantity.value)
    expected = 1.0 if label in (Phase.SILICON, Phase.UNRESOLVED_SILICON) else 0.0
    assert found["silicon_volume_fraction"].value == expected
    assert found["porosity_layer"].value == 1 - expected
    assert np.isnan(found["thickness_silicon_um"].value)
    assert np.isnan(found["pore_size_nm"].value)


def test_bare_foil_and_missing_air():
    bare = slab(np.zeros((1, 1, 1), np.uint8))
    found = measure(bare, Volume(bare.values.astype(np.float32) * 0.0157, 50.0))
    assert found["silicon_coverage"].value == 0.0
    assert "no silicon above" in found["thickness_silicon_um"].note
    assert np.isnan(found["porosity_layer"].value)
    # no column holds silicon and none of the foil is touched: these shares are 0, and what a layer is needed for is not
    assert found["foil_contact_share"].value == 0.0
    for name in ("normalised_attenuation_plateau", "normalised_attenuation_plateau_mean_foil"):
        assert np.isnan(found[name].value), name
        assert "no layer" in found[name].note
    assert np.isnan(found["silicon_areal_inventory_um"].value)
    full = slab(np.full((1, 1, 1), Phase.SILICON, np.uint8))
    cropped = Volume(full.values[:, 10:], 50.0)
    found = measure(cropped, Volume(cropped.values.astype(np.float32), 50.0))
    assert found["normalised_attenuation_plateau"].note == "no air in view above the layer"


@pytest.mark.parametrize("foil", [False, True])
def test_one_phase_has_no_surface_by_either_definition(foil):
    solid = slab(np.full((1, 1, 1), Phase.SILICON, np.uint8), foil=foil)
    for labels in (
        (solid,) if foil else (Volume(np.zeros((8, 60, 24), np.uint8), 50.0), Volume(solid.values[:, 10:50], 50.0))
    ):
        found = measure(labels, None, MeasurementRecipe(edge_margin_nm=0.0))
        for name in ("specific_surface_per_um", "specific_surface_from_s2_per_um"):
            assert np.isnan(found[name].value), name
            assert "one phase only" in found[name].note


def test_particles_without_pores_have_no_internal_surface_and_that_is_a_number():
    found = measure(slab(np.full((1, 1, 1), Phase.SILICON, np.uint8)), None, MeasurementRecipe(edge_margin_nm=0.0))
    assert found["porosity_particles"].value == 0.0
    assert found["specific_surface_particles_per_um"].value == 0.0
    assert np.isnan(found["pore_size_nm"].value)


@pytest.mark.parametrize(
    "change",
    [
        {"edge_margin_nm": 0.0},
        {"minimum_run_nm": 500.0},
        {"closing_radius_nm": 100.0},
        {"foil_guard_nm": 400.0},
        {"foil_band_nm": [500.0, 900.0]},
        {"plateau_band_nm": [500.0, 900.0]},
        {"air_gap_nm": 1500.0},
        {"crofton_directions": 3},
        {"blocks": 3},
        {"local_thickness_crop_nm": 1000.0},
        {"correlation_lag_nm": 120.0},
        {"texture_window_nm": 110.0},
        {"silicon_over_foil": 0.5},
        {"volume_per_lithium": 0.5},
        {"tortuosity": True},
    ],
)
def test_every_parameter_matters(crop, plain, change):
    other = measure(*crop, MeasurementRecipe(**change)).quantities
    assert any(
        (plain[name].value != other[name].value and np.isfinite(other[name].value))
        or (plain[name].spread != other[name].spread and np.isfinite(other[name].spread))
        for name in plain
    )


def test_the_number_of_threads_changes_no_byte(needle, monkeypatch):
    labels, grey = (Volume(v.values[:24], v.voxel_nm) for v in (needle.labels, needle.attenuation))
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(slabs, "threads", lambda threads=threads: threads)
        measured = measure(labels, grey, MeasurementRecipe(tortuosity=True))
        numbers = np.array([(q.value, q.spread) for q in measured.quantities.values()])
        found.append(numbers.tobytes() + b"".join(curve.tobytes() for curve in measured.curves.values()))
    assert found[0] == found[1]


def test_what_does_not_fit_is_refused(needle):
    with pytest.raises(IncompatibleError, match="same voxels"):
        measure(needle.labels, Volume(needle.clean.values, 25.4))
    with pytest.raises(IncompatibleError, match="relabel"):
        measure(Volume(np.full((2, 2, 2), 9, np.uint8), 50.0))
    with pytest.raises(IncompatibleError, match="relabel"):
        measure(needle.clean)
    with pytest.raises(ParameterError, match="holds \\[2\\]"):
        relabel(Volume(np.full((2, 2, 2), 2, np.uint8), 50.0), {0: Phase.VOID})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8), st.integers(1, 6))
def test_any_labels_at_all_can_be_measured(seed, nz, ny, nx):
    rng = np.random.default_rng(seed)
    labels = Volume(rng.integers(0, 6, (nz, ny, nx)).astype(np.uint8), 50.0)
    recipe = MeasurementRecipe(tortuosity=True, closing_radius_nm=60.0, smallest_body_nm=0.0, edge_margin_nm=0.0)
    found = measure(labels, Volume(rng.random((nz, ny, nx), np.float32), 50.0), recipe)
    for quantity in found.quantities.values():
        assert np.isfinite(quantity.value) or quantity.note
    fractions = [found[name].value for name in ("porosity_layer", "porosity_particles", "silicon_coverage")]
    assert all(np.isnan(f) or 0 <= f <= 1 for f in fractions)


def test_numbers_follow_the_voxel_and_not_its_size(needle):
    crop = needle.labels.values[:12]
    recipe = MeasurementRecipe(closing_radius_nm=254.0, edge_margin_nm=1016.0, minimum_run_nm=101.6)
    double = MeasurementRecipe(closing_radius_nm=508.0, edge_margin_nm=2032.0, minimum_run_nm=203.2)
    one, two = measure(Volume(crop, 50.8), None, recipe), measure(Volume(crop, 101.6), None, double)
    assert two["thickness_silicon_um"].value == pytest.approx(2 * one["thickness_silicon_um"].value, rel=1e-12)
    assert two["pore_size_nm"].value == pytest.approx(2 * one["pore_size_nm"].value, rel=1e-12)
    assert two["porosity_particles"].value == one["porosity_particles"].value


def test_real_sandstone(real_data):
    with np.load(real_data("berea_100_to_300.npz")) as stored:
        rock = relabel(Volume(stored["im"], 5345.0), {1: Phase.VOID, 0: Phase.SILICON})
    found = measure(rock, None, MeasurementRecipe(local_thickness_crop_nm=0.0))
    assert found["porosity_layer"].value == pytest.approx(0.199, abs=0.001)
    # a ball of 200 nm closes nothing on voxels of 5.3 um; that is no porosity of zero
    assert np.isnan(found["porosity_particles"].value)
    assert "below one voxel" in found["porosity_particles"].note
    assert np.isfinite(found["specific_surface_per_um"].value)


def test_real_electrode(real_data):
    image = tifffile.imread(real_data("nmc-1-cal_generatedCBD_bridge.tif"))
    labels = relabel(Volume(image, 398.0), {0: Phase.VOID, 1: Phase.SILICON, 2: Phase.CARBON_BINDER})
    found = measure(labels, None, MeasurementRecipe(closing_radius_nm=0.0, local_thickness_crop_nm=0.0))
    assert found["silicon_volume_fraction"].value == pytest.approx(0.4995, abs=0.001)
    assert found["solids_volume_fraction"].value == pytest.approx(np.mean(image > 0), abs=1e-12)
