"""Whole lists of mechanisms: silicon is conserved in every state and order, and own lists can be written."""

import itertools
from dataclasses import fields
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from npsi_twin.cycling.ageing import (
    HYPOTHESES_SHIPPED,
    AgeingHypothesis,
    AgeingRecipe,
    age,
    hypotheses,
    hypothesis,
    register_hypothesis,
    register_mechanism,
)
from npsi_twin.cycling.agglomeration import Agglomeration
from npsi_twin.cycling.blocked_diffusion import BlockedDiffusion
from npsi_twin.cycling.capacity import bare_silicon_nm3
from npsi_twin.cycling.delamination import Delamination
from npsi_twin.cycling.lithiation import Lithiation
from npsi_twin.cycling.macropores import Macropores
from npsi_twin.cycling.protocol import condition
from npsi_twin.cycling.pulverisation import Pulverisation
from npsi_twin.cycling.sei import SeiGrowth
from npsi_twin.cycling.swelling import Swelling
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.materials.alloy import CAPACITY_PER_LITHIUM_MAH_PER_G
from npsi_twin.recipes import Recipe, parameter
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification, parse_specification, to_toml
from npsi_twin.volumes import VoxelGrid

SEEDS = Seeds(5)
CYCLED = [known for known in HYPOTHESES_SHIPPED if known.mechanisms and known.last_cycle is None]


@pytest.fixture(scope="module")
def before(pristine, totals):
    return totals(pristine, 60.0)[1]


@pytest.mark.parametrize("name", ["1000/2nd-lithiation", "2000/100"])
@pytest.mark.parametrize("known", CYCLED, ids=lambda known: known.name)
def test_silicon_in_the_scene_and_silicon_declared_lost_are_conserved(pristine, totals, before, known, name):
    scene = age(pristine, known, condition(name).ending("lithiated"), seeds=SEEDS)
    lost = bare_silicon_nm3(scene)[~scene.states.present].sum()
    _, free, lithium = totals(scene, 60.0)
    assert (free + lost) / before == pytest.approx(1.0, abs=2e-3)
    # Lithium is capacity times all silicon, held by what is active; a lost particle is right to half of itself.
    silicon, history = bare_silicon_nm3(scene), scene.history
    held = lithium / (free + lost) * CAPACITY_PER_LITHIUM_MAH_PER_G
    step = silicon.max() / silicon.sum() / history.active_fraction[condition(name).cycle - 1]
    assert held == pytest.approx(history.capacity_mah_per_g[condition(name).cycle - 1], rel=2e-3 + step)


@pytest.mark.parametrize("known", CYCLED, ids=lambda known: known.name)
def test_a_delithiated_cell_keeps_its_residue_and_its_thickness(pristine, known):
    state = condition("2000/1st-lithiation")
    full, empty = (age(pristine, known, state.ending(end), seeds=SEEDS) for end in ("lithiated", "delithiated"))
    assert 0 < empty.particles.lithium_per_silicon.mean() < 0.2
    assert pristine.layer.mean_nm < empty.layer.mean_nm < full.layer.mean_nm


MOVERS = (
    Agglomeration(contact_fraction=0.5),
    Macropores(),
    SeiGrowth(coulombic_efficiency=0.995),
    Pulverisation(),
    Delamination(hold_cycles=100.0),
    BlockedDiffusion(),
)


@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    order=st.permutations(range(len(MOVERS))),
    count=st.integers(1, len(MOVERS)),
    cycle=st.integers(1, 300),
    accommodation=st.floats(0, 1),
)
def test_silicon_is_conserved_in_any_order(pristine, order, count, cycle, accommodation):
    acting = (Lithiation(), Swelling(accommodation=accommodation), *(MOVERS[i] for i in order[:count]))
    state = condition(f"1500/{cycle}").ending("lithiated")
    listed = [mechanism.name for mechanism in acting]
    fixed = [listed.index(name) for name in ("delamination", "blocked-diffusion") if name in listed]
    moving = [listed.index(name) for name in ("agglomeration", "macropores", "sei-growth") if name in listed]
    try:
        scene = age(pristine, AgeingHypothesis("test", acting), state, seeds=SEEDS)
    except IncompatibleError:
        # What packs particles comes before what belongs to their places or draws them out; other orders may be refused.
        late = fixed + [listed.index(name) for name in ("macropores",) if name in listed]
        if all(place < min(late, default=99) for place in moving if listed[place] != "macropores") and (
            not fixed or max(moving, default=0) < min(fixed)
        ):
            raise
        return
    # A core's volume is exact here and sampled where its level is solved, on a lattice of a fortieth of the particle.
    np.testing.assert_allclose(bare_silicon_nm3(scene), bare_silicon_nm3(pristine), rtol=2e-3)


def test_a_cell_lives_as_long_whenever_it_is_opened(pristine):
    paper = hypothesis("agglomeration")
    lives = [
        age(pristine, paper, condition(f"2000/{n}").ending("lithiated"), seeds=SEEDS).history.life_cycles
        for n in (1, 100, 460)
    ]
    # Silicon that is charged more swells more, so that other neighbours may touch: a few contacts of thirty here.
    assert max(lives) / min(lives) < 1.2
    assert lives[0] == pytest.approx(435, rel=0.25)


def test_mechanisms_do_not_commute(pristine):
    # Macropores first: the layer is loose before its particles could touch.
    state = condition("2000/1st-lithiation")
    welding, opening = Agglomeration(contact_fraction=0.6), Macropores(first_rise=1.0)
    together = [
        age(
            pristine, AgeingHypothesis("test", (Lithiation(), Swelling(), *two)), state, seeds=SEEDS
        ).states.members.mean()
        for two in itertools.permutations((welding, opening))
    ]
    assert together[0] > together[1]


def test_a_slab_of_a_worn_scene_has_the_bits_of_the_whole(pristine):
    worn = age(pristine, hypothesis("agglomeration"), condition("2000/460").ending("lithiated"), seeds=SEEDS)
    grid = VoxelGrid((20, 240, 70), 50.0)
    whole, part = voxelise(worn, grid, range(20)), voxelise(worn, grid, range(7, 19))
    for field in fields(whole):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(whole, field.name)[7:19], err_msg=field.name)


def test_a_scene_is_aged_once(pristine):
    scene = age(pristine, hypothesis("swelling"), condition("2000/1st-lithiation"), seeds=SEEDS)
    with pytest.raises(IncompatibleError, match="once"):
        age(scene, hypothesis("agglomeration"), condition("2000/100").ending("lithiated"), seeds=SEEDS)


OWN = """
[ageing]
condition = "2000/100"
hypothesis = "own"
[[ageing.mechanisms]]
mechanism = "lithiation"
depth_gradient = 0.4
[[ageing.mechanisms]]
mechanism = "swelling"
"""


def test_own_mechanisms_are_listed_in_toml():
    specification = parse_specification(OWN)
    assert str(specification.ageing.how()) == "own: lithiation -> swelling"
    assert "depth_gradient = 0.4" in specification.ageing.how().explain()
    assert parse_specification(to_toml(specification)) == specification
    assert specification.digest() != Specification().digest()
    assert hash(specification) == hash(parse_specification(OWN))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OWN.replace('"swelling"', '"sweling"'), "'sweling' is not known"),
        (OWN.replace("depth_gradient", "depth_gradiant"), "depth_gradiant"),
        (OWN.replace("0.4", "4.0"), "less than or equal to 1"),
        (OWN.replace('"own"', '"swelling"'), "own"),
        ('[ageing]\ncondition = "2000/100"\nhypothesis = "own"\n', "own"),
    ],
)
def test_faults_in_own_mechanisms_are_named(text, says):
    with pytest.raises(ParameterError, match=says):
        parse_specification(text)


class Shrinkage(Recipe):
    """The layer loses height."""

    mechanism: Literal["test-shrinkage"] = "test-shrinkage"
    share: float = parameter(0.1, "share of the height that is lost", source="assumed", ge=0, le=1)

    @property
    def name(self):
        return self.mechanism

    def act(self, electrode, condition, *, seeds):
        return electrode


def test_mechanisms_and_hypotheses_can_be_registered():
    register_mechanism(Shrinkage)
    register_mechanism(Shrinkage)
    recipe = AgeingRecipe.model_validate(
        {"condition": "2000/100", "hypothesis": "own", "mechanisms": [{"mechanism": "test-shrinkage", "share": 0.2}]}
    )
    assert recipe.how().mechanisms == (Shrinkage(share=0.2),)
    register_hypothesis(AgeingHypothesis("test-mine", (Lithiation(), Shrinkage())))
    assert str(hypotheses()["test-mine"]) == "test-mine: lithiation -> test-shrinkage"
    assert AgeingRecipe(condition="2000/100", hypothesis="test-mine").how().name == "test-mine"
    with pytest.raises(IncompatibleError, match="taken"):
        register_hypothesis(AgeingHypothesis("test-mine"))
    with pytest.raises(ParameterError, match="act"):
        register_mechanism(Specification)
