"""The paper's conditions, and ageing as an ordered list of mechanisms."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.cycling.ageing import NONE, SWELLING, AgeingHypothesis, AgeingRecipe, age, hypothesis
from npsi_twin.cycling.protocol import CONDITIONS, condition
from npsi_twin.errors import ParameterError
from npsi_twin.materials.alloy import lithium_per_silicon
from npsi_twin.seeds import Seeds


@dataclass(frozen=True)
class Lithiate:
    """Every particle takes up the condition's capacity."""

    name: str = "lithiate"

    def act(self, electrode, condition, *, seeds):
        x = lithium_per_silicon(condition.capacity_mah_per_g)
        lithium = np.full(electrode.particles.count, x)
        return replace(electrode, particles=replace(electrode.particles, lithium_per_silicon=lithium))


@dataclass(frozen=True)
class Double:
    """Lithium doubles: does not commute with `Lithiate`."""

    name: str = "double"

    def act(self, electrode, condition, *, seeds):
        lithium = 2 * electrode.particles.lithium_per_silicon
        return replace(electrode, particles=replace(electrode.particles, lithium_per_silicon=lithium))


def test_seven_conditions():
    assert len(CONDITIONS) == 7
    assert [c.name for c in CONDITIONS.values() if c.is_pristine] == ["pristine"]
    assert {c.first_lithiation_mah_per_g for c in CONDITIONS.values() if c.capacity_mah_per_g == 1000} == {1570.0}


def test_pristine_stays_as_it_is(pristine):
    assert age(pristine, NONE, condition("pristine"), seeds=Seeds(5)) is pristine


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "pristine"])
def test_cycled_conditions_need_mechanisms(pristine, name):
    with pytest.raises(ParameterError, match="no mechanism"):
        age(pristine, NONE, condition(name), seeds=Seeds(5))


def test_mechanisms_act_in_their_order_and_leave_the_input(pristine):
    x = lithium_per_silicon(1000.0)
    for mechanisms, expected in [((Lithiate(), Double()), 2 * x), ((Double(), Lithiate()), x)]:
        aged = age(pristine, AgeingHypothesis("test", mechanisms), condition("1000/500"), seeds=Seeds(5))
        np.testing.assert_allclose(aged.particles.lithium_per_silicon, expected)
    assert (pristine.particles.lithium_per_silicon == 0).all()
    assert str(AgeingHypothesis("test", (Lithiate(), Double()))) == "test: lithiate -> double"


def test_unknown_names_are_refused():
    for name in ("1000/3rd", "5000/1", "1000/0", "0/3", "-5/3"):
        with pytest.raises(ParameterError, match="1000/2nd-lithiation"):
            condition(name)
    with pytest.raises(ParameterError, match="depth-fatigue"):
        hypothesis("witchcraft")


def test_swelling_describes_first_lithiations_only(pristine):
    assert str(hypothesis("swelling")) == "swelling: lithiation -> swelling"
    assert age(pristine, SWELLING, condition("pristine"), seeds=Seeds(5)) is pristine
    for name, state in CONDITIONS.items():
        if state.cycle <= 2:
            assert AgeingRecipe(condition=name, hypothesis="swelling").how() is SWELLING
            continue
        with pytest.raises(ParameterError, match="agglomeration, pulverisation and delamination"):
            age(pristine, SWELLING, state, seeds=Seeds(5))
        with pytest.raises(ValidationError, match="agglomeration, pulverisation and delamination"):
            AgeingRecipe(condition=name, hypothesis="swelling")
