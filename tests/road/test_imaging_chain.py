"""Switches of the road: what is off is ideal, what is on is the road itself."""

import numpy as np
import pytest

from npsi_twin import imaging_chain
from npsi_twin.errors import ParameterError
from npsi_twin.execution import ExecutionRecipe
from npsi_twin.imaging_chain import SWITCHES, chain_of, forget, play
from npsi_twin.seeds import Seeds
from npsi_twin.specification import preset_specification
from npsi_twin.stages import truth_grid
from npsi_twin.storage.measurements import read_measurements
from npsi_twin.twin import run_twin
from npsi_twin.txm.microscope import stage_truth

ALL = frozenset(SWITCHES)
SCANNED = frozenset({"voxel_size", "threshold", "reconstruction"})
TINY = preset_specification("tiny")


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    forget()


def test_with_everything_on_it_is_the_road_to_the_byte(tmp_path):
    # One slab, since transforms of slabs of another height round differently.
    specification = TINY.model_copy(update={"execution": ExecutionRecipe(slab_rows=12)})
    run_twin(specification, tmp_path / "run")
    road = read_measurements(tmp_path / "run" / "measurements.h5")["recovered"]
    chain = play(chain_of(specification, ALL), specification.seed)
    found, expected = ([(e.value, e.spread) for e in of.quantities.values()] for of in (chain, road))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(chain.inventory_map_um, road.inventory_map_um)


def test_an_ideal_scan_conserves_what_is_in_the_beam():
    recipe = TINY.reconstruction.model_copy(update={"algorithm": "fbp"})
    chain = chain_of(TINY.model_copy(update={"reconstruction": recipe}), SCANNED)
    found = imaging_chain._reconstructed(TINY, chain.microscope, chain.reconstruction, chain.noise_free, 5).values
    _, truth = imaging_chain._truth(TINY, 5, truth_grid(TINY))
    # Slices keep the sum of their line integrals; transmission averaged over a pixel reads at most half of the
    # variance of the line integrals inside it, here (0.1)^2 / 2, of line integrals of about 0.1.
    np.testing.assert_allclose(found.sum(axis=(1, 2)), np.asarray(truth.values).sum(axis=(1, 2)), rtol=0.01)


def test_what_is_off_is_ideal():
    off = chain_of(TINY, SCANNED)
    stage = stage_truth(off.microscope, seeds=Seeds(1))
    assert not stage.column_shift_px.any()
    assert not stage.row_shift_px.any()
    assert off.reconstruction.rotation_axis_px == stage.rotation_axis_px
    assert off.microscope.stage.views == 242  # twice as many, which is more than pi / 2 of 128 columns
    # the scan as a whole has as many photons
    dose = [c.microscope.stage.views * c.microscope.detector.flat_electrons for c in (off, chain_of(TINY, ALL))]
    assert dose[0] == pytest.approx(dose[1])
    assert off.noise_free
    assert off.reconstruction.rings.method == "none"
    assert off.segmentation.smoothing_sigma_voxels == 0
    on = chain_of(TINY, ALL)
    assert (on.microscope, on.reconstruction, on.segmentation) == (
        TINY.microscope,
        TINY.reconstruction,
        TINY.segmentation,
    )


@pytest.mark.parametrize("switch", sorted(ALL - SCANNED))
def test_every_switch_changes_what_is_played(switch):
    assert chain_of(TINY, SCANNED).key(1) != chain_of(TINY, SCANNED | {switch}).key(1)


def test_a_switch_of_what_a_specification_does_not_have_changes_nothing():
    smoothing = TINY.segmentation.model_copy(update={"smoothing_sigma_voxels": 0.0})
    plain = TINY.model_copy(update={"segmentation": smoothing})
    assert chain_of(plain, SCANNED).key(1) == chain_of(plain, SCANNED | {"smoothing"}).key(1)
    assert chain_of(plain, SCANNED).key(1) != chain_of(plain, SCANNED).key(2)


@pytest.mark.parametrize("on", [{"threshold"}, {"voxel_size", "optics"}, {"voxel_size", "colour"}])
def test_steps_without_what_they_need_are_refused(on):
    with pytest.raises(ParameterError, match="switch"):
        chain_of(TINY, frozenset(on))
