"""Targets: hand-made tables of states whose verdicts follow from the paper's words."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npsi_twin.comparison.published import zhao2018
from npsi_twin.comparison.targets import BESIDE, StateObservables, judge, targets


def state(thickness, grey, *, coverage=1.0, sd=0.5, **other):
    values = {
        "thickness_field_um": coverage * thickness, "thickness_covered_um": thickness, "thickness_sd_um": sd,
        "normalised_attenuation": grey, "inventory_um": grey * coverage * thickness, "near_foil_attenuation": grey,
        "agglomerate_um": 1.6, "agglomerated_share": 0.0, "core_shell_index": 1.0, "shadow_ratio": 1.0,
        "lift_off_um": 0.1, "whole_share": 1.0, "life_cycles": 2000.0, "recorded_cycles": 2000.0,
    }  # fmt: skip
    return StateObservables(**values | other)


@pytest.fixture
def story():
    """Everything that the paper says, as it says it."""
    return {
        "pristine": state(2.0, 0.2, life_cycles=math.nan, recorded_cycles=math.nan),
        "1000/2nd-lithiation": state(4.0, 0.07, lift_off_um=0.5, agglomerate_um=1.9),
        "1000/500": state(17.0, 0.02, whole_share=0.1),
        "1000/1556": state(9.0, 0.05, near_foil_attenuation=0.15, life_cycles=1600.0),
        "2000/1st-lithiation": state(
            6.2, 0.1, sd=1.5, agglomerate_um=4.0, core_shell_index=1.3, shadow_ratio=0.3, agglomerated_share=0.6
        ),
        "2000/100": state(5.0, 0.1, whole_share=0.2),
        "2000/460": state(2.0, 0.1, coverage=0.2, life_cycles=435.0),
    }


def verdicts(table, **how):
    return {name: result.verdict for name, result in judge(table, **how).items()}


def test_the_thirteen_come_first_and_the_paper_s_story_meets_all(story):
    assert list(targets())[:13] == list(zhao2018().targets)
    assert [t.id for t in BESIDE] == list(targets())[13:]
    assert set(verdicts(story).values()) == {"met"}
    assert all(result.margin >= 1 for result in judge(story).values())


def test_nothing_is_decided_by_nothing():
    assert set(verdicts({}).values()) == {"not decidable"}
    results = judge({})
    assert all(math.isnan(result.margin) and result.missing for result in results.values())
    assert results["T_sd_order"].missing == (
        "2000/1st-lithiation: thickness_sd_um",
        "1000/2nd-lithiation: thickness_sd_um",
    )
    assert results["T_sd_order"].text == "?"


@pytest.mark.parametrize(
    ("condition", "observable", "value", "lost"),
    [
        ("1000/2nd-lithiation", "thickness_field_um", 3.3, {"T_ratio_1000_2nd"}),  # 1.65 < 1.7
        ("1000/2nd-lithiation", "thickness_field_um", 4.7, {"T_ratio_1000_2nd"}),  # 2.35 > 2.3
        ("1000/500", "thickness_field_um", 15.9, {"T_ratio_1000_500"}),
        ("2000/1st-lithiation", "thickness_field_um", 5.9, {"T_ratio_2000_1st"}),
        ("2000/100", "thickness_field_um", 6.3, {"T_order_2000"}),
        ("2000/460", "thickness_field_um", 2.6, {"T_order_2000"}),  # thinner, not much thinner
        ("1000/1556", "thickness_field_um", 17.0, {"T_order_1000"}),  # an ordering is strict
        ("2000/1st-lithiation", "thickness_sd_um", 0.4, {"T_sd_order"}),
        ("1000/2nd-lithiation", "normalised_attenuation", 0.04, {"grey_ratio_1000_2nd"}),
        ("1000/2nd-lithiation", "inventory_um", 0.41, {"Si_areal_ratio_1000_2nd"}),
        ("2000/1st-lithiation", "normalised_attenuation", 0.06, {"grey_order"}),
        ("2000/1st-lithiation", "normalised_attenuation", 0.21, {"grey_order"}),
        ("2000/460", "life_cycles", 480.0, {"life_2000", "life_ratio"}),
        ("2000/460", "life_cycles", 400.0, set()),
        ("1000/1556", "life_cycles", 1555.0, {"life_1000", "life_ratio"}),
        ("2000/1st-lithiation", "core_shell_index", 1.0, {"core_shell_2000_1st"}),
        ("2000/1st-lithiation", "shadow_ratio", 0.6, {"shadow_2000_1st"}),
        ("2000/1st-lithiation", "agglomerate_um", 2.3, {"agglomerate_size_2000_1st"}),
        ("1000/2nd-lithiation", "lift_off_um", 0.1, {"lift_off_1000_2nd"}),
        ("2000/100", "whole_share", 0.7, {"identity_lost"}),
        ("2000/100", "normalised_attenuation", 0.06, {"grey_2000_100"}),
        ("1000/1556", "near_foil_attenuation", 0.05, {"near_foil_1000_1556"}),
    ],
)
def test_one_number_off_loses_its_targets_and_no_other(story, condition, observable, value, lost):
    story[condition] = replace(story[condition], **{observable: value})
    assert {name for name, verdict in verdicts(story).items() if verdict != "met"} == lost


def test_lost_columns_count_as_nothing_only_over_the_field(story):
    story["2000/460"] = state(4.9, 0.1, coverage=0.1, life_cycles=435.0)
    assert verdicts(story)["T_order_2000"] == "met"
    assert verdicts(story, thickness="covered")["T_order_2000"] == "not met"


def test_a_cell_that_has_lost_everything_is_thinner_than_any(story):
    story["2000/460"] = StateObservables(thickness_field_um=0.0, life_cycles=435.0, recorded_cycles=2000.0)
    assert verdicts(story)["T_order_2000"] == "met"
    assert judge(story)["T_order_2000"].ratios[1] == math.inf
    story["2000/100"] = StateObservables(thickness_field_um=0.0)
    assert verdicts(story)["T_order_2000"] == "not met"


def test_a_life_beyond_the_record_is_known_from_below(story):
    story["1000/1556"] = replace(story["1000/1556"], life_cycles=math.inf)
    found = judge(story)
    assert found["life_1000"].verdict == found["life_ratio"].verdict == "met"
    story["2000/460"] = replace(story["2000/460"], life_cycles=1000.0)
    assert verdicts(story)["life_ratio"] == "not decidable"  # more than 2, less than anything
    story["2000/460"] = replace(story["2000/460"], life_cycles=math.inf)
    assert verdicts(story)["life_2000"] == "not met"
    story["1000/1556"] = replace(story["1000/1556"], life_cycles=1600.0)
    assert verdicts(story)["life_ratio"] == "not met"  # at most 0.8


def test_a_clause_that_fails_settles_it_whatever_else_is_unknown(story):
    del story["2000/460"]
    assert verdicts(story)["T_order_2000"] == "not decidable"
    story["2000/100"] = replace(story["2000/100"], thickness_field_um=7.0)
    assert verdicts(story)["T_order_2000"] == "not met"


@given(st.floats(0.5, 30), st.floats(0.5, 30), st.floats(0.2, 5))
def test_verdicts_of_thickness_do_not_depend_on_the_unit(first, later, scale):
    """Every thickness target is a ratio."""
    tables = [
        {
            "pristine": state(2.0 * f, 0.2),
            "1000/2nd-lithiation": state(first * f, 0.1),
            "1000/500": state(later * f, 0.1),
        }
        for f in (1.0, 2.0 ** round(scale))  # powers of two leave ratios bit for bit
    ]
    a, b = (verdicts(table) for table in tables)
    assert {n: v for n, v in a.items() if n.startswith("T_")} == {n: v for n, v in b.items() if n.startswith("T_")}


@given(st.floats(0.1, 40))
def test_margin_says_the_verdict(thickness):
    found = judge({"pristine": state(2.0, 0.2), "1000/2nd-lithiation": state(thickness, 0.1)})["T_ratio_1000_2nd"]
    assert (found.margin >= 1) == (found.verdict == "met")
