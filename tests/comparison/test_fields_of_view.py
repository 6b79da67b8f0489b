"""Scatter between fields: the share of further fields that an interval holds, and what is told of nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest

from npsi_twin.comparison.fields_of_view import scatter_between_fields
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.quantities import Measured, Measurements
from npsi_twin.recipes import MadeBy

NOTHING = np.empty(0)


def field(value, note=""):
    quantities = {"porosity_layer": Measured(value, math.nan, 1, "", note)}
    return Measurements(quantities, NOTHING, NOTHING, NOTHING, NOTHING, MadeBy("measure", "one recipe"))


def scatter(values, **asked):
    return scatter_between_fields([field(value) for value in values], **asked)["porosity_layer"]


def test_the_interval_holds_as_many_further_fields_as_it_says():
    drawn = np.random.default_rng(7).normal(0.6, 0.05, (2000, 6))
    held = 0
    for *seen, further in drawn:
        found = scatter(seen, confidence=0.8)
        held += found.low <= further <= found.high
    # the share of 2000 has a standard deviation of sqrt(0.8 * 0.2 / 2000) = 0.009; four of them
    assert held / len(drawn) == pytest.approx(0.8, abs=0.036)


def test_two_single_fields_differ_by_more_than_chance_as_seldom_as_it_says():
    rng, exceeded = np.random.default_rng(8), 0
    for _ in range(2000):
        found = scatter(rng.normal(0.6, 0.05, 12))
        exceeded += abs(np.diff(rng.normal(0.6, 0.05, 2))[0]) > found.chance
    # sqrt(0.05 * 0.95 / 2000) = 0.0049; four of them
    assert exceeded / 2000 == pytest.approx(0.05, abs=0.02)


def test_fields_needed_are_the_fewest_that_reach_the_tolerance():
    found = scatter([0.5, 0.6, 0.7])  # mean 0.6, sd 0.1, wanted 0.06: t_{k-1} / sqrt(k) <= 0.6
    assert (found.mean, found.sd, found.n) == (pytest.approx(0.6), pytest.approx(0.1), 3)
    # t_12 / sqrt(13) = 2.179 / 3.606 = 0.604 is too wide, t_13 / sqrt(14) = 2.160 / 3.742 = 0.577 is not
    assert found.fields_needed == 14
    assert scatter([0.6, 0.6]).fields_needed == 2
    assert math.isinf(scatter([-1.0, 1.0]).fields_needed)
    assert scatter([0.5, 0.6, 0.7], tolerance=0.2).fields_needed < 14


def test_fields_without_a_number_are_counted_with_their_reason():
    fields = [field(0.5), field(0.7), field(math.nan, "no foil")]
    found = scatter_between_fields(fields)["porosity_layer"]
    assert (found.n, found.note) == (2, "1 of 3 fields without: no foil")
    nothing = scatter_between_fields(fields[1:])["porosity_layer"]
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.fields_needed)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ParameterError, match="at least two"):
        scatter_between_fields([field(0.5)])
    for asked in ({"confidence": 1.0}, {"tolerance": 0.0}):
        with pytest.raises(ParameterError, match="confidence = "):
            scatter([0.5, 0.6], **asked)
    other = replace(field(0.5), made_by=MadeBy("measure", "another recipe"))
    with pytest.raises(IncompatibleError, match="different recipes"):
        scatter_between_fields([field(0.5), other])
