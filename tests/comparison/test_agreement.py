from dataclasses import replace

import numpy as np
import pytest

from npsi_twin.comparison import agreement
from npsi_twin.comparison.agreement import compare
from npsi_twin.comparison.segmentation_accuracy import score
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.errors import IncompatibleError
from npsi_twin.morphology.measure import Measured, MeasurementRecipe, Measurements, measure
from npsi_twin.recipes import MadeBy
from npsi_twin.volumes import Phase, Volume


def layer(height=40, seed=0, foil=True):
    rng = np.random.default_rng(seed)
    values = np.zeros((8, 70, 30), np.uint8)
    values[:, 60 - height : 60] = rng.random((8, height, 30)) < 0.5
    values[:, 60 - height : 62 - height] = Phase.SILICON
    values[:, 60:] = Phase.CURRENT_COLLECTOR if foil else Phase.VOID
    return Volume(values, 50.0)


def numbers(**values):
    quantities = {name: Measured(*row) for name, row in values.items()}
    nothing = np.full((1, 1), np.nan)
    return Measurements(quantities, nothing, nothing, np.empty(0), np.empty(0), MadeBy("measure", "r"))


def test_bias_is_recovered_minus_truth():
    row = compare(measure(layer(40)), measure(layer(44)))["thickness_silicon_um"]
    assert row.bias == pytest.approx(0.2)
    assert (row.truth, row.recovered, row.unit) == (2.0, pytest.approx(2.2), "um")


def test_a_real_scan_has_no_truth():
    comparison = compare(None, measure(layer()))
    assert comparison.accuracy is None
    for row in comparison.rows:
        assert np.isnan(row.truth)
        assert np.isnan(row.bias)


@pytest.mark.parametrize(
    ("name", "measured", "verdict"),
    [
        ("thickness_silicon_um", (2.45, 0.5, 9000, "um"), "agrees"),
        ("thickness_silicon_um", (2.55, 0.5, 9000, "um"), "above"),
        ("thickness_solids_um", (1.4, 0.5, 9000, "um"), "below"),
        ("porosity_particles", (0.604, 0.0, 8, ""), "agrees"),
        ("porosity_particles", (0.61, 0.0, 8, ""), "above"),
        ("porosity_particles", (0.61, 0.01, 4, ""), "agrees"),
        ("pore_size_nm", (440.0, 0.0, 8, "nm"), "agrees"),
        ("ligament_size_nm", (120.0, 0.0, 8, "nm"), "agrees"),
        ("ligament_size_nm", (301.0, 90.0, 8, "nm"), "above"),
        ("normalised_attenuation_plateau", (0.13, 0.06, 9000, ""), "below"),
        ("normalised_attenuation_plateau", (0.16, 0.06, 9000, ""), "agrees"),
        ("normalised_attenuation_plateau", (float("nan"), float("nan"), 0, "", "why"), "not measured"),
        ("foil_roughness_um", (0.1, 0.0, 9, "um"), "no published value"),
    ],
)
def test_verdicts(name, measured, verdict):
    assert compare(None, numbers(**{name: measured}))[name].verdict == verdict


def test_published_values_are_for_the_pristine_state_only():
    found = numbers(porosity_particles=(0.6, 0.0, 8, ""))
    assert compare(None, found)["porosity_particles"].published == "60.4 vol%"
    assert compare(None, found, state=None)["porosity_particles"].verdict == "no published value"
    with pytest.raises(KeyError):
        compare(None, found)["nothing"]


def test_different_recipes_are_no_bias():
    with pytest.raises(IncompatibleError, match="different recipes"):
        compare(measure(layer()), measure(layer(), None, MeasurementRecipe(blocks=4)))


def test_score_of_equal_and_of_disjoint_volumes():
    truth = layer()
    same = score(truth, truth)
    assert (same.dice_silicon, same.iou_silicon, same.dice_silicon_layer) == (1.0, 1.0, 1.0)
    assert np.array_equal(same.confusion, np.diag(np.diag(same.confusion)))
    empty = score(truth, Volume(np.zeros_like(truth.values), 50.0))
    assert (empty.dice_silicon, empty.iou_silicon) == (0.0, 0.0)
    assert same.confusion.sum() == truth.values.size


def test_score_counts_every_silicon_and_every_pair():
    truth = Volume(np.array([[[1, 5, 0, 2]]], np.uint8), 50.0)
    found = Volume(np.array([[[1, 1, 1, 0]]], np.uint8), 50.0)
    accuracy = score(truth, found)
    assert accuracy.dice_silicon == 4 / 5
    assert accuracy.iou_silicon == 2 / 3
    assert accuracy.confusion[5, 1] == 1
    assert accuracy.confusion[2, 0] == 1


def test_dice_and_iou_belong_together_and_are_symmetric():
    a, b = layer(seed=1), layer(seed=2)
    one, two = score(a, b), score(b, a)
    assert one.dice_silicon == two.dice_silicon
    assert one.iou_silicon == pytest.approx(one.dice_silicon / (2 - one.dice_silicon))
    # two independent fair coins a voxel are both silicon in a quarter and each silicon in a half: Dice 1/2; the two
    # full rows of 40 raise it to (0.95 / 4 + 0.05) / (0.95 / 2 + 0.05) = 0.548; 9120 coin voxels scatter by 0.01
    assert one.dice_silicon_layer == pytest.approx(0.548, abs=0.03)


def test_the_layer_leaves_air_and_foil_out():
    accuracy = score(layer(), layer(44))
    assert accuracy.confusion_layer.sum() == 8 * 40 * 30
    assert accuracy.confusion_layer[Phase.CURRENT_COLLECTOR].sum() == 0


def test_score_refuses_what_does_not_fit():
    truth = layer()
    with pytest.raises(IncompatibleError, match="same voxels"):
        score(truth, Volume(truth.values, 25.0))
    with pytest.raises(IncompatibleError, match="same voxels"):
        score(truth, Volume(truth.values[:4], 50.0))
    with pytest.raises(IncompatibleError, match="relabel"):
        score(truth, Volume(np.full_like(truth.values, 7), 50.0))
    none = Volume(np.zeros((2, 2, 2), np.uint8), 50.0)
    assert np.isnan(score(none, none).dice_silicon)


def test_the_acceptance_number_is_that_of_iso_17043():
    # Porosity 0.604 is printed to 0.001: U_p = 2 * 0.0005 / sqrt(3); four blocks of spread 0.01: U_r = 0.01.
    row = compare(None, numbers(porosity_particles=(0.61, 0.01, 4, "")))["porosity_particles"]
    assert row.published_value == pytest.approx(0.604)
    assert row.published_uncertainty == pytest.approx(0.001 / 3**0.5)
    assert row.recovered_uncertainty == pytest.approx(0.01)
    assert row.e_n == pytest.approx(0.006 / (0.01**2 + 0.001**2 / 3) ** 0.5)
    assert row.uncertainty_from == "last printed digit"


def test_a_spread_without_its_n_says_that_it_is_weak():
    found = compare(None, numbers(thickness_silicon_um=(2.4, 0.5, 9000, "um")))["thickness_silicon_um"]
    assert found.e_n == pytest.approx(0.8)
    assert "weak" in found.uncertainty_from


def test_a_stated_n_makes_the_standard_error(monkeypatch):
    """The same height that the printed spread lets pass fails against the error of a mean over 100 columns."""
    paper = agreement.zhao2018()
    record = replace(paper["pristine_thickness"], n=100)
    stated = replace(paper, records={**paper.records, "pristine_thickness": record})
    monkeypatch.setattr(agreement, "zhao2018", lambda: stated)
    row = compare(None, numbers(thickness_silicon_um=(2.4, 0.5, 9000, "um")))["thickness_silicon_um"]
    # 0.5 / sqrt(100), and 2.0 rounded to +- 0.05.
    assert row.published_uncertainty == pytest.approx(2 * (0.05**2 + 0.05**2 / 3) ** 0.5)
    assert (row.verdict, row.uncertainty_from) == ("above", "standard error, n = 100")


def test_bounds_and_what_was_not_measured_have_no_acceptance_number():
    bound = compare(None, numbers(ligament_size_nm=(290.0, 90.0, 8, "nm")))["ligament_size_nm"]
    assert bound.published_value == 300.0
    assert np.isnan(bound.e_n)
    nothing = compare(None, numbers(pore_size_nm=(float("nan"), float("nan"), 0, "nm", "why")))["pore_size_nm"]
    assert np.isnan(nothing.e_n)
    assert nothing.verdict == "not measured"


@pytest.mark.parametrize(
    ("state", "name", "measured", "published", "verdict"),
    [
        ("1000/2nd-lithiation", "thickness_silicon_um", 4.3, 4.0, "agrees"),
        # 100 % to one digit of 2.0 um: U_p = 2 * 1 um / sqrt(3).
        ("1000/2nd-lithiation", "thickness_silicon_um", 5.3, 4.0, "above"),
        ("1000/2nd-lithiation", "normalised_attenuation_plateau", 0.08, 0.07, "above"),
        ("1000/500", "thickness_silicon_um", 16.5, 16.0, "agrees"),
        ("1000/500", "thickness_silicon_um", 9.0, 16.0, "below"),
        ("2000/1st-lithiation", "thickness_solids_um", 5.9, 6.0, "below"),
    ],
)
def test_cycled_states_have_their_own_published_values(state, name, measured, published, verdict):
    row = compare(None, numbers(**{name: (measured, 0.5, 9000, "um")}), state=state)[name]
    assert row.published_value == pytest.approx(published)
    assert row.verdict == verdict
    assert np.isnan(row.e_n) == (row.relation == "gt")


def test_states_of_which_the_paper_prints_nothing_are_held_against_nothing():
    found = numbers(thickness_silicon_um=(2.0, 0.5, 9000, "um"))
    assert compare(None, found, state="2000/460")["thickness_silicon_um"].verdict == "no published value"


def test_every_state_with_published_values_is_one_of_the_papers():
    assert set(agreement.COUNTERPARTS) <= set(CONDITIONS)
