import dataclasses

import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import correct
from npsi_twin.scan import ParallelBeam, Scan

RECIPE = CorrectionRecipe()


def test_line_integrals_come_back_through_dark_and_gain(needle, counts):
    integrals, beam = needle(columns=96, views=20)
    gain = 1 + 0.05 * np.random.default_rng(0).standard_normal((1, 96))
    corrected = correct(counts(integrals, beam, gain=gain), RECIPE)
    # float32 holds line integrals near 0.4 to 3e-8; the input itself was rounded once.
    np.testing.assert_allclose(corrected.line_integrals, integrals, atol=1e-7)
    assert corrected.line_integrals.dtype == np.float32
    assert not corrected.line_integrals.flags.writeable
    assert corrected.counts.bad_pixels == corrected.counts.clipped == 0


def test_dead_and_hot_pixels_are_found_and_bridged(needle, counts):
    integrals, beam = needle(columns=300, views=12)
    scan = counts(integrals, beam)
    flats, darks, projections = (np.array(a) for a in (scan.flats, scan.darks, scan.projections))
    flats[:, 0, 40] = darks[:, 0, 40]  # dead: no light
    darks[:, 0, 101] += 9_000.0  # hot: its dark eats the flat
    projections[:, 0, 40] = 7.0
    corrected = correct(Scan(projections, flats, darks, scan.beam), RECIPE)
    assert np.flatnonzero(corrected.bad[0]).tolist() == [40, 101]
    assert corrected.counts.bad_pixels == 2
    for column in (40, 101):
        bridge = (integrals[0, :, column - 1] + integrals[0, :, column + 1]) / 2
        np.testing.assert_allclose(corrected.line_integrals[0, :, column], bridge, atol=1e-7)
    good = np.setdiff1d(np.arange(300), [40, 101])
    np.testing.assert_allclose(corrected.line_integrals[0][:, good], integrals[0][:, good], atol=1e-7)


@pytest.mark.parametrize("columns", [[0, 1], [298, 299], [150, 151, 152]])
def test_neighbouring_dead_pixels_and_those_at_the_edge(needle, counts, columns):
    integrals, beam = needle(columns=300, views=5)
    scan = counts(integrals, beam)
    flats = np.array(scan.flats)
    flats[:, 0, columns] = 0.0
    corrected = correct(Scan(scan.projections, flats, scan.darks, scan.beam), RECIPE)
    assert np.flatnonzero(corrected.bad[0]).tolist() == columns
    left, right = max(columns[0] - 1, 0), min(columns[-1] + 1, 299)
    ends = [c for c in (left, right) if c not in columns]
    values = corrected.line_integrals[0][:, columns]
    low, high = integrals[0][:, ends].min(axis=1), integrals[0][:, ends].max(axis=1)
    assert np.all(values >= low[:, None] - 1e-6)
    assert np.all(values <= high[:, None] + 1e-6)


def test_photon_noise_in_few_flats_makes_no_bad_pixels():
    # 4 flats of 400 photons: relative noise 2.5 % a pixel; 2 x 1000 pixels at 8 sigmas: expected false alarms 1e-12.
    rng = np.random.default_rng(5)
    beam = ParallelBeam(np.zeros(1), 1000, 50.0)
    flats = rng.poisson(400, (4, 2, 1000)) + 50.0
    darks = 50 + rng.normal(0, 3, (4, 2, 1000))
    corrected = correct(Scan(np.full((1, 2, 1000), 300.0), flats, darks, beam), RECIPE)
    assert corrected.counts.bad_pixels == 0


def test_transmission_below_one_count_is_one_count():
    beam = ParallelBeam(np.zeros(2), 16, 50.0)
    projections = np.full((2, 1, 16), 600.0)
    projections[0, 0, 3], projections[1, 0, 9] = 100.0, 40.0  # at the dark, and below it
    scan = Scan(projections, np.full((1, 1, 16), 1100.0), np.full((1, 1, 16), 100.0), beam)
    corrected = correct(scan, RECIPE)
    assert corrected.counts.clipped == 2
    assert corrected.line_integrals[0, 0, 3] == corrected.line_integrals[0, 1, 9] == np.float32(np.log(1000))
    assert np.all(np.isfinite(corrected.line_integrals))


def test_transmission_above_one_is_kept_and_counted_where_noise_does_not_make_it():
    beam = ParallelBeam(np.zeros(2), 16, 50.0)
    projections = np.full((2, 1, 16), 1100.0)
    projections[0, 0, 3], projections[1, 0, 9], projections[1, 0, 12] = 1370.0, 1370.0, 1150.0  # T = 1.27 and 1.05
    flats = np.full((1, 1, 16), 1100.0)
    flats[0, 0, 9] = 100.0  # a dead pixel's value is nobody's transmission
    scan = Scan(projections, flats, np.full((1, 1, 16), 100.0), beam)
    corrected = correct(scan, CorrectionRecipe(bad_fraction_limit=0.1))
    assert corrected.counts.brighter == 1
    assert corrected.line_integrals[0, 0, 3] == np.float32(-np.log(1.27))
    assert corrected.line_integrals[0, 1, 12] == np.float32(-np.log(1.05))


def test_saturated_values_are_counted():
    beam = ParallelBeam(np.zeros(1), 8, 50.0)
    projections = np.full((1, 1, 8), 900, np.uint16)
    projections[0, 0, :3] = 1023
    frames = np.full((1, 1, 8), 1000, np.uint16)
    scan = Scan(projections, frames, np.zeros_like(frames), beam)
    assert correct(scan, RECIPE).counts.saturated == 0
    assert correct(scan, CorrectionRecipe(saturation_counts=1023.0)).counts.saturated == 3


def test_a_normalised_scan_needs_no_flats():
    beam = ParallelBeam(np.zeros(1), 4, 50.0)
    none = np.empty((0, 1, 4))
    scan = Scan(np.array([[[1.0, 0.5, 0.0, -1.0]]]), none, none, beam, normalised=True)
    corrected = correct(scan, RECIPE)
    np.testing.assert_allclose(corrected.line_integrals[0, 0], [0, np.log(2), np.log(1e4), np.log(1e4)], rtol=1e-6)
    assert corrected.counts.clipped == 2
    assert not corrected.counts.darks_assumed_zero


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["projections", "flats", "darks"])
def test_values_that_are_not_finite_are_refused_with_their_place(needle, counts, name, value):
    integrals, beam = needle(columns=64, views=5)
    scan = counts(np.repeat(integrals, 2, axis=0), beam, first_row=700)
    broken = np.array(getattr(scan, name))
    broken[2, 1, 33] = broken[2, 1, 50] = value
    with pytest.raises(DataError, match=rf"{name}: 2 of \d+ values .* frame 2, row 701, column 33"):
        correct(dataclasses.replace(scan, **{name: broken}), RECIPE)


def test_missing_flats_and_darks_are_refused(needle, counts):
    integrals, beam = needle(columns=64, views=5)
    scan = counts(integrals, beam, dark=0.0)
    with pytest.raises(DataError, match="flats: got none"):
        correct(dataclasses.replace(scan, flats=scan.flats[:0]), RECIPE)
    no_darks = dataclasses.replace(scan, darks=scan.darks[:0])
    with pytest.raises(DataError, match="assume_no_darks"):
        correct(no_darks, RECIPE)
    corrected = correct(no_darks, CorrectionRecipe(assume_no_darks=True))
    assert corrected.counts.darks_assumed_zero
    np.testing.assert_allclose(corrected.line_integrals, integrals, atol=1e-7)


def test_too_many_bad_pixels_are_refused(needle, counts):
    integrals, beam = needle(columns=100, views=5)
    scan = counts(integrals, beam)
    flats = np.array(scan.flats)
    flats[:, 0, [20, 60]] = 0.0
    broken = Scan(scan.projections, flats, scan.darks, scan.beam)
    with pytest.raises(DataError, match="2 of 100 pixels are dead or hot .*row 0, column 20"):
        correct(broken, RECIPE)
    assert correct(broken, CorrectionRecipe(bad_fraction_limit=0.05)).counts.bad_pixels == 2


def test_complex_and_text_are_refused():
    beam = ParallelBeam(np.zeros(1), 4, 50.0)
    ones = np.ones((1, 1, 4))
    with pytest.raises(DataError, match="complex128"):
        correct(Scan(ones.astype(complex), ones, ones, beam), RECIPE)


def test_rows_do_not_know_of_one_another(needle, counts):
    integrals, beam = needle(columns=128, views=9)
    gain = 1 + 0.2 * np.random.default_rng(1).standard_normal((4, 128))
    scan = counts(np.repeat(integrals, 4, axis=0), beam, gain=gain)
    recipe = CorrectionRecipe(bad_fraction_limit=0.5)
    whole = correct(scan, recipe)
    for row in range(4):
        part = slice(row, row + 1)
        alone = Scan(scan.projections[:, part], scan.flats[:, part], scan.darks[:, part], scan.beam)
        np.testing.assert_array_equal(correct(alone, recipe).line_integrals[0], whole.line_integrals[row])


@pytest.mark.parametrize(
    "changed",
    [
        {"outlier_sigmas": 900.0},
        {"gain_tolerance": 0.9},
        {"neighbourhood_px": 3},
        {"saturation_counts": 9_000.0},
    ],
)
def test_every_threshold_matters(needle, counts, changed):
    integrals, beam = needle(columns=256, views=6)
    rng = np.random.default_rng(2)
    gain = 1 + 0.001 * rng.standard_normal((1, 256))
    gain[0, 90] = 0.3
    gain[0, 150:152] = 0.2
    scan = counts(integrals, beam, gain=gain)
    usual = CorrectionRecipe(bad_fraction_limit=0.5)
    before, after = correct(scan, usual), correct(scan, usual.model_copy(update=changed))
    assert before.counts != after.counts
