"""The stage and the beam."""

import numpy as np
import pytest

from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe, illuminate
from npsi_twin.txm.stage import StageRecipe, move


def test_last_view_is_recorded_or_not():
    both = move(StageRecipe(views=1201), 10, 50.0, seeds=Seeds(1)).angles_rad
    assert both[-1] == np.pi
    np.testing.assert_allclose(np.diff(both), np.deg2rad(0.15), rtol=1e-9)
    one = move(StageRecipe(views=1200, include_last=False), 10, 50.0, seeds=Seeds(1)).angles_rad
    np.testing.assert_allclose(one, both[:-1], rtol=1e-12)


def test_run_out_has_its_size_and_no_correlation():
    # 3000 draws: a standard deviation is known to 1 / sqrt(6000) = 1.3 %, a correlation to 1.8 %; 4.5 of those.
    stage = StageRecipe(views=3000, run_out_across_nm=20.0, run_out_along_nm=10.0)
    truth = move(stage, 400, 50.0, seeds=Seeds(5))
    assert truth.column_shift_px.std() * 50 == pytest.approx(20.0, rel=0.06)
    assert truth.row_shift_px.std() * 50 == pytest.approx(10.0, rel=0.06)
    assert abs(np.corrcoef(truth.column_shift_px, truth.row_shift_px)[0, 1]) < 0.08
    assert abs(np.corrcoef(truth.row_shift_px[1:], truth.row_shift_px[:-1])[0, 1]) < 0.08


def test_a_view_keeps_its_run_out_when_others_are_added():
    short, long = (move(StageRecipe(views=n), 400, 50.0, seeds=Seeds(5)) for n in (10, 20))
    assert np.array_equal(short.column_shift_px, long.column_shift_px[:10])


def test_no_run_out_is_none_at_all():
    truth = move(StageRecipe(run_out_across_nm=0.0, run_out_along_nm=0.0), 400, 50.0, seeds=Seeds(5))
    assert not np.any(truth.column_shift_px)
    assert not np.any(truth.row_shift_px)


def test_truth_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        move(StageRecipe(), 400, 50.0, seeds=Seeds(5)).angles_rad[0] = 1.0


def test_beam_halves_at_half_its_width_and_peaks_at_its_centre():
    beam = BeamRecipe(fwhm_um=8.0, centre_column_um=1.0, centre_row_um=-2.0)
    light = illuminate(beam, (121, 201), 100.0)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert (row, column) == (60 - 20, 100 + 10)
    assert light[row, column] == 1.0
    assert light[row + 40, column] == pytest.approx(0.5, rel=1e-12)
    assert light[row, column - 40] == pytest.approx(0.5, rel=1e-12)
