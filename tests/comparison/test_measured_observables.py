"""What an image shows of a state: layers with closed forms, and the same numbers as the truth where both see them."""

from dataclasses import asdict

import numpy as np
import pytest

from npsi_twin.comparison.measured_observables import observe_measured
from npsi_twin.comparison.targets import StateObservables
from npsi_twin.comparison.truth_observables import observe
from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.seeds import Seeds
from npsi_twin.txm.contrast import contrast
from npsi_twin.volumes import Phase, Volume, VoxelGrid

VOXEL_NM, COPPER, GREY = 50.0, 0.05, 0.2
FOIL_ROW, GAP, HIGH = 120, 12, 40
#: What measured numbers cannot tell.
UNSEEN = {"shadow_ratio", "whole_share", "life_cycles", "recorded_cycles"}
RECIPE = MeasurementRecipe(edge_margin_nm=0.0, crofton_directions=3)


def slab(*, holds=slice(None), lifted=slice(0), air=True):
    """Return what is measured in a layer of 2 um on columns of 64, some of them lifted off by 0.6 um."""
    phase = np.zeros((12, 160, 64), np.uint8)
    phase[:, FOIL_ROW:] = Phase.CURRENT_COLLECTOR
    phase[:, FOIL_ROW - HIGH : FOIL_ROW, holds] = Phase.SILICON
    phase[:, FOIL_ROW - HIGH - GAP : FOIL_ROW, lifted] = Phase.VOID
    phase[:, FOIL_ROW - HIGH - GAP : FOIL_ROW - GAP, lifted] = Phase.SILICON
    if not air:
        phase[:, : FOIL_ROW - HIGH] = Phase.CARBON_BINDER
    attenuation = np.array([0.0, GREY * COPPER, 0.0, COPPER], np.float32)[phase]
    return measure(Volume(phase, VOXEL_NM), Volume(attenuation, VOXEL_NM), RECIPE)


def test_a_layer_on_half_of_the_foil():
    seen = observe_measured(slab(holds=slice(0, 32)))
    # 40 voxels of 50 nm on half of the columns; float32 sums.
    assert (seen.thickness_covered_um, seen.thickness_field_um, seen.thickness_sd_um) == (2.0, 1.0, 0.0)
    assert seen.normalised_attenuation == pytest.approx(GREY, rel=1e-5)
    assert seen.near_foil_attenuation == pytest.approx(GREY / 2, rel=1e-5)
    assert seen.inventory_um == pytest.approx(GREY * 1.0, rel=1e-5)
    assert seen.lift_off_um == 0
    assert all(np.isnan(getattr(seen, name)) for name in UNSEEN)


def test_a_quarter_lifted_off():
    """Open space of 12 voxels lies beneath a quarter of the layer; elsewhere the silicon stands on the foil.

    The closing ball of 4 voxels rounds the corner between lifted and lying: at most 4 of 64 columns look lower.
    """
    seen = observe_measured(slab(lifted=slice(0, 16)))
    assert seen.lift_off_um == pytest.approx(0.6 / 4, rel=4 / 16)
    assert seen.thickness_covered_um == pytest.approx(2.0 + 0.6 / 4)


def test_without_air_nothing_is_normalised():
    seen = observe_measured(slab(air=False))
    assert np.isnan([seen.normalised_attenuation, seen.near_foil_attenuation, seen.inventory_um]).all()
    assert seen.thickness_covered_um == 2.0


def test_what_was_not_measured_is_not_known():
    measured = measure(Volume(np.zeros((4, 8, 8), np.uint8), VOXEL_NM), None, RECIPE)
    assert all(np.isnan(value) for value in asdict(observe_measured(measured)).values())


@pytest.fixture(scope="module")
def both():
    """Return what the scene's truth shows and what its own labels and attenuation show."""
    block = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=5.0, length_um=3.0))
    electrode = build_electrode(block, seeds=Seeds(7))
    # Finer than half a mean ligament, so that pores are not called unresolved silicon.
    composition = voxelise(electrode, VoxelGrid((40, 120, 66), 75.0), range(40))
    attenuation = contrast(composition, 8.0)
    measured = measure(Volume(composition.phase, 75.0), Volume(attenuation, 75.0), RECIPE)
    return observe(electrode, composition, attenuation, measured), observe_measured(measured)


def test_the_truth_reads_heights_and_attenuation_by_the_same_definition(both):
    true, seen = map(asdict, both)
    own = {"agglomerate_um", "agglomerated_share", "core_shell_index", "lift_off_um"}
    for name in set(true) - UNSEEN - own:
        assert true[name] == seen[name], name
    assert isinstance(both[1], StateObservables)


def test_underside_from_labels_is_near_that_of_the_particles(both):
    """Two roads: outlines that the scene knows, and closed silicon in its labels.

    Pores at an outline let the closed silicon begin higher, by less than the mean pore of 0.4 um; the ball of 0.2 um
    fills corners beneath particles, by less than its radius.
    """
    true, seen = both
    assert -0.2 < seen.lift_off_um - true.lift_off_um < 0.4
