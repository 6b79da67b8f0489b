"""What the truth shows, on hand-made voxels whose numbers are counted by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from npsi_twin.comparison.truth_observables import observe
from npsi_twin.electrode.states import History, pristine_states
from npsi_twin.errors import IncompatibleError
from npsi_twin.materials.alloy import volume_ratio
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.volumes import Phase, Volume

VOXEL_NM, COPPER, GREY = 100.0, 0.05, 0.3
SHAPE, FOIL_ROW = (16, 70, 48), 40
RECIPE = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=0.0, crofton_directions=3)


class Scene:
    """Voxels in which particles are written one by one, and the scene that knows them."""

    def __init__(self, count):
        self.particle_id = np.zeros(SHAPE, np.int32)
        self.attenuation = np.zeros(SHAPE, np.float32)
        self.attenuation[:, FOIL_ROW:] = COPPER
        self.states = pristine_states(count)
        self.envelope_nm3 = np.full(count, 1e9)
        self.lithium = 0.0
        self.history = None

    def put(self, particle, where, grey=GREY):
        self.particle_id[where] = particle + 1
        self.attenuation[where] = COPPER * grey

    def observe(self):
        foil = np.arange(SHAPE[1]) >= FOIL_ROW
        copper = np.broadcast_to(foil[None, :, None], SHAPE).astype(np.float32)
        silicon = (self.particle_id > 0).astype(np.float32)
        phase = np.where(copper > 0, Phase.CURRENT_COLLECTOR, np.where(silicon > 0, Phase.SILICON, Phase.VOID))
        composition = SimpleNamespace(
            phase=phase.astype(np.uint8), voxel_nm=VOXEL_NM, particle_id=self.particle_id, silicon_fraction=silicon,
            lithium_per_silicon=silicon * np.float32(self.lithium), current_collector_fraction=copper,
        )  # fmt: skip
        count = self.envelope_nm3.size
        electrode = SimpleNamespace(
            particles=SimpleNamespace(
                envelope_nm3=self.envelope_nm3,
                silicon_volume_ratio=np.full(count, volume_ratio(self.lithium)),
                core_distances_nm=np.full(4 * count, -np.inf),
                count=count,
            ),
            pores=SimpleNamespace(solid_fraction=np.full(count, 0.4)),
            states=self.states,
            history=self.history,
        )  # fmt: skip
        attenuation = self.attenuation
        measured = measure(Volume(composition.phase, VOXEL_NM), Volume(attenuation, VOXEL_NM), RECIPE)
        return observe(electrode, composition, attenuation, measured)


def block(rows_above_foil, columns=slice(None)):
    low, high = rows_above_foil
    return np.s_[:, FOIL_ROW - high : FOIL_ROW - low, columns]


def test_thickness_attenuation_and_inventory_of_a_half_covered_field():
    scene = Scene(1)
    scene.put(0, block((0, 20), slice(0, 24)))
    seen = scene.observe()
    assert (seen.thickness_covered_um, seen.thickness_field_um) == pytest.approx((2.0, 1.0))
    # 24 of 48 columns hold 2 um of GREY; float32 sums.
    assert seen.normalised_attenuation == pytest.approx(GREY, rel=1e-5)
    assert seen.inventory_um == pytest.approx(GREY * 1.0, rel=1e-5)
    assert seen.near_foil_attenuation == pytest.approx(GREY / 2, rel=1e-5)
    assert np.isnan(seen.life_cycles)
    assert seen.lift_off_um == 0


def test_an_empty_field_has_no_thickness_and_knows_it():
    scene = Scene(1)
    scene.states = replace(scene.states, present=np.array([False]))
    seen = scene.observe()
    assert seen.thickness_field_um == 0
    for name in ("thickness_covered_um", "normalised_attenuation", "shadow_ratio", "core_shell_index", "lift_off_um"):
        assert np.isnan(getattr(seen, name)), name
    assert np.isnan([seen.agglomerate_um, seen.agglomerated_share, seen.whole_share]).all()


def test_underside_is_the_lowest_particle_of_a_column():
    scene = Scene(2)
    scene.put(0, block((5, 10), slice(0, 12)))
    scene.put(1, block((2, 4), slice(0, 6)))
    assert scene.observe().lift_off_um == pytest.approx((0.2 + 0.5) / 2)


def test_core_shell_index_of_two_halves_of_one_body():
    """A ball whose inner half by radius is brighter: the deepest third lies inside, the shallowest outside."""
    scene = Scene(2)
    z, y, x = np.indices(SHAPE)
    # Bodies far from the volume's ends, so that every side is a surface.
    radius = np.sqrt((z - 7.5) ** 2 + (y - 25) ** 2 + (x - 24) ** 2)
    scene.put(0, radius <= 7.4, 0.1)
    plain = scene.observe().core_shell_index
    assert plain == pytest.approx(1, abs=1e-6)
    # A third of a ball by volume lies within 0.69 of its radius; 5 of 7.4 voxels hold that, 4.9 is no part of the skin.
    scene.put(0, radius <= 5.2, 0.2)
    assert scene.observe().core_shell_index == pytest.approx(2, abs=0.1)


def test_bodies_are_agglomerates_not_particles():
    """Two touching particles, bright where they meet: the middle of the body is not the middle of a particle."""
    scene = Scene(2)
    z, y, x = np.indices(SHAPE)
    inside = (abs(z - 7.5) < 7) & (abs(y - 25) < 7)
    scene.put(0, inside & (x >= 17) & (x < 24), 0.1)
    scene.put(1, inside & (x >= 24) & (x < 31), 0.1)
    middle = inside & (abs(x - 23.5) < 3)
    scene.attenuation[middle] = COPPER * 0.2
    alone = scene.observe()
    scene.states = replace(scene.states, agglomerate=np.array([0, 0]))
    together = scene.observe()
    assert together.core_shell_index > alone.core_shell_index + 0.1
    assert (alone.agglomerated_share, together.agglomerated_share) == (0, 1)
    # Twice the volume: the diameter grows by the cube root of two.
    assert together.agglomerate_um / alone.agglomerate_um == pytest.approx(2 ** (1 / 3))


@pytest.mark.parametrize("lithium", [0.0, 2.0])
def test_shadow_counts_single_particles_at_the_foil_beneath_agglomerates(lithium):
    scene = Scene(4)
    scene.states = replace(scene.states, agglomerate=np.array([0, 0, 2, 3]))
    scene.lithium = lithium
    assert np.isnan(scene.observe().shadow_ratio)
    scene.put(0, block((20, 24), slice(0, 12)))
    scene.put(1, block((20, 24), slice(12, 24)))
    scene.put(2, block((0, 2), slice(0, 24)))  # 2 of the 10 voxels within a micrometre
    scene.put(3, block((0, 20), slice(24, 48)))  # 10 of them, whatever stands above
    assert scene.observe().shadow_ratio == pytest.approx(0.2)
    scene.states = pristine_states(4)
    assert scene.observe().shadow_ratio == 1


def test_shadow_everywhere_is_no_shadow():
    scene = Scene(2)
    scene.states = replace(scene.states, agglomerate=np.array([0, 0]))
    scene.put(0, block((0, 5)))
    assert np.isnan(scene.observe().shadow_ratio)


def test_lost_particles_do_not_count():
    scene = Scene(3)
    scene.put(0, block((0, 10)))
    scene.envelope_nm3 = np.array([1e9, 3e9, 5e9])
    scene.states = replace(
        scene.states, present=np.array([True, True, False]), fragmented_share=np.array([0.0, 0.8, 0.3]),
    )  # fmt: skip
    seen = scene.observe()
    assert seen.whole_share == pytest.approx(1 - 0.8 * 3 / 4)
    # (1 + 9) / (1 + 3) um3 is the mean body's volume by volume.
    assert seen.agglomerate_um == pytest.approx((6 / np.pi * 2.5) ** (1 / 3))


def test_life_is_that_of_the_history():
    scene = Scene(1)
    scene.put(0, block((0, 10)))
    ones = np.ones(5)
    scene.history = History(2000.0, 3000.0, ones, ones.copy(), np.array([1.0, 1.0, 0.7, 0.6, 0.5]), ones.copy())
    assert (scene.observe().life_cycles, scene.observe().recorded_cycles) == (3, 5)


def test_other_voxels_are_refused():
    composition = SimpleNamespace(phase=np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(IncompatibleError, match="same voxels"):
        observe(None, composition, np.zeros((1, 2, 2), np.float32), None)
