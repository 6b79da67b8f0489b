from dataclasses import replace

import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import correct, illumination_of
from npsi_twin.scan import ParallelBeam, Scan

VIEWS, ROWS, COLUMNS = 40, 3, 64


def sample():
    """Line integrals (row, view, column) of a blob that moves about the field, air at the edges."""
    place = COLUMNS / 2 + 12 * np.cos(np.pi * np.arange(VIEWS) / VIEWS)
    blob = np.exp(-(((np.arange(COLUMNS) - place[:, None]) / 5) ** 2))
    return np.stack([blob * scale for scale in (1.0, 0.7, 1.2)])


def scan_of(integrals, light_of_views, flats, **words):
    beam = ParallelBeam(np.pi * np.arange(VIEWS) / VIEWS, COLUMNS, 50.0)
    counts = light_of_views.transpose(1, 0, 2) * np.exp(-integrals)
    return Scan(counts.transpose(1, 0, 2) + 100, flats + 100, np.full((2, ROWS, COLUMNS), 100.0), beam, **words)


@pytest.fixture
def profile():
    return 5000 + 500 * np.sin(np.arange(ROWS * COLUMNS)).reshape(ROWS, COLUMNS)


def test_off_changes_nothing_bitwise(profile):
    scan = scan_of(sample(), np.repeat(profile[None], VIEWS, 0), np.repeat(profile[None], 4, 0))
    assert illumination_of(scan, CorrectionRecipe()) is None
    told = replace(scan, flat_views=np.array([0, 0, VIEWS, VIEWS]), flat_current_ma=np.full(4, 100.0))
    np.testing.assert_array_equal(
        correct(scan, CorrectionRecipe()).line_integrals, correct(told, CorrectionRecipe()).line_integrals
    )


def test_a_beam_that_drifts_between_two_groups_is_followed_exactly(profile):
    """Linear in time, so that interpolation is exact: single precision of the logarithm remains."""
    before, after = profile, profile * (1 + 0.1 * np.linspace(-1, 1, COLUMNS))
    share = ((np.arange(VIEWS) + 0.5) / VIEWS)[:, None, None]
    flats = np.stack([before, before, after])
    scan = scan_of(sample(), before + share * (after - before), flats, flat_views=np.array([0, 0, VIEWS]))
    made = correct(scan, CorrectionRecipe(flat_field="interpolated")).line_integrals
    np.testing.assert_allclose(made, sample(), atol=1e-6)
    assert np.abs(correct(scan, CorrectionRecipe()).line_integrals - sample()).max() > 0.02


def test_components_find_what_every_view_was_lit_with(profile):
    """Two patterns in amounts of a few per cent: products of two amounts, 1e-3, are what the logarithm leaves out."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((2, ROWS, COLUMNS))
    lit = profile * (1 + np.einsum("vk,krc->vrc", 0.02 * rng.standard_normal((VIEWS, 2)), patterns))
    flats = profile * (1 + np.einsum("fk,krc->frc", 0.02 * rng.standard_normal((12, 2)), patterns))
    scan = scan_of(sample(), lit, flats)
    recipe = CorrectionRecipe(flat_field="components", gain_tolerance=0.9)
    off = correct(scan, recipe).line_integrals - sample()
    plain = correct(scan, recipe.model_copy(update={"flat_field": "mean"})).line_integrals - sample()
    # The mean over flats is itself off by 0.02 / sqrt(12) of a pattern, but lies in the span of the components.
    assert np.sqrt(np.mean(off**2)) < 0.15 * np.sqrt(np.mean(plain**2))


def test_a_dimmer_beam_is_scaled_by_air_or_by_current(profile):
    current = np.linspace(100, 80, VIEWS)
    lit = profile * (current / 100)[:, None, None]
    words = {"view_current_ma": current, "flat_current_ma": np.full(2, 100.0)}
    scan = scan_of(sample(), lit, np.repeat(profile[None], 2, 0), **words)
    for recipe in (CorrectionRecipe(ring_current=True), CorrectionRecipe(air_columns_px=4)):
        np.testing.assert_allclose(correct(scan, recipe).line_integrals, sample(), atol=2e-5)  # the blob's own tail
    assert illumination_of(scan, CorrectionRecipe(air_columns_px=4)).brightness[-1] == pytest.approx(0.8, rel=1e-4)


def test_what_was_found_once_serves_every_slab(profile):
    lit = profile * np.linspace(1, 0.8, VIEWS)[:, None, None]
    scan = scan_of(sample(), lit, np.repeat(profile[None], 2, 0))
    recipe = CorrectionRecipe(air_columns_px=4)
    found = illumination_of(scan, recipe)
    whole = correct(scan, recipe, illumination=found).line_integrals
    row = Scan(scan.projections[:, 1:2], scan.flats[:, 1:2], scan.darks[:, 1:2], scan.beam, first_row=1)
    np.testing.assert_array_equal(correct(row, recipe, illumination=found).line_integrals[0], whole[1])


def test_normalised_scans_can_be_scaled(profile):
    scan = scan_of(sample(), np.repeat(profile[None], VIEWS, 0), np.repeat(profile[None], 2, 0))
    transmission = np.exp(-sample()).transpose(1, 0, 2) * np.linspace(1, 0.9, VIEWS)[:, None, None]
    empty = np.empty((0, ROWS, COLUMNS))
    given = Scan(transmission, empty, empty, scan.beam, normalised=True)
    np.testing.assert_allclose(correct(given, CorrectionRecipe(air_columns_px=4)).line_integrals, sample(), atol=2e-5)


def test_what_the_scan_does_not_tell_is_said(profile):
    scan = scan_of(sample(), np.repeat(profile[None], VIEWS, 0), profile[None])
    with pytest.raises(DataError, match="when each flat was taken"):
        correct(scan, CorrectionRecipe(flat_field="interpolated"))
    with pytest.raises(DataError, match="1 flat shows none"):
        correct(scan, CorrectionRecipe(flat_field="components"))
    with pytest.raises(DataError, match="ring's current"):
        correct(scan, CorrectionRecipe(ring_current=True))
    dark = scan_of(sample() + 2, np.repeat(profile[None], VIEWS, 0), profile[None])
    with pytest.raises(DataError, match="there is sample in them"):
        correct(dark, CorrectionRecipe(air_columns_px=4))


def test_zingers_go_and_edges_stay(profile):
    scan = scan_of(sample(), np.repeat(profile[None], VIEWS, 0), np.repeat(profile[None], 2, 0))
    struck = scan.projections.copy()
    places = [(5, 0, 20), (17, 1, 31), (30, 2, 50)]
    for place in places:
        struck[place] += 4000
    recipe = CorrectionRecipe(zinger_excess=0.3)
    made = correct(Scan(struck, scan.flats, scan.darks, scan.beam), recipe)
    assert made.counts.zingers == 3
    # Interpolated between neighbours: the blob's second derivative over one pixel, at most 0.1 of line integral here.
    np.testing.assert_allclose(made.line_integrals, sample(), atol=0.06)
    untouched = np.ones(sample().shape, bool)
    for view, row, column in places:
        untouched[row, view, column] = False
    np.testing.assert_array_equal(
        made.line_integrals[untouched], correct(scan, CorrectionRecipe()).line_integrals[untouched]
    )


def test_saturated_values_are_replaced_where_asked(profile):
    scan = scan_of(sample(), np.repeat(profile[None], VIEWS, 0), np.repeat(profile[None], 2, 0))
    counts = scan.projections.copy()
    counts[7, 1, 30] = 65535
    given = Scan(counts, scan.flats, scan.darks, scan.beam)
    kept = correct(given, CorrectionRecipe(saturation_counts=65535.0))
    made = correct(given, CorrectionRecipe(saturation_counts=65535.0, saturated_values="replace"))
    assert made.counts.saturated == kept.counts.saturated == 1
    assert kept.line_integrals[1, 7, 30] < -2
    assert abs(made.line_integrals[1, 7, 30] - sample()[1, 7, 30]) < 0.06
