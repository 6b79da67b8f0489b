"""Rows of a slab where they would be on a perfect stage: exact against closed forms, and blind to the cut."""

import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError, NotConvergedError
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import correct
from npsi_twin.reconstruction.placement import find_placement
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.reconstruction.row_shifts import halo_rows, take_rows_back
from npsi_twin.scan import ParallelBeam, Scan

VIEWS, ROWS, COLUMNS = 90, 40, 64


def test_band_limited_rows_come_back():
    """Four waves of up to 0.3 cycles a row, moved exactly, return within the window's half per cent of each."""
    rng = np.random.default_rng(0)
    shift = rng.uniform(-1.5, 1.5, VIEWS)
    rows = np.arange(60)[:, None]
    lines, still = (
        sum(np.cos(2 * np.pi * f * (rows - s) + 7 * f) for f in (0.0, 0.1, 0.22, 0.3))[:, :, None].astype(np.float32)
        for s in (shift, np.zeros(VIEWS))
    )
    back = take_rows_back(lines, shift, slice(10, 50))
    assert np.abs(back - still[10:50]).max() < 4 * 0.005


def test_a_whole_shift_is_exact_and_edges_go_on():
    lines = np.random.default_rng(1).random((9, 2, 3)).astype(np.float32)
    back = take_rows_back(lines, np.array([0.0, 2.0]), slice(0, 9))
    np.testing.assert_allclose(back[:, 0], lines[:, 0], atol=1e-6)
    np.testing.assert_allclose(back[:7, 1], lines[2:, 1], atol=1e-6)
    np.testing.assert_allclose(back[8, 1], lines[8, 1], atol=1e-6)
    assert halo_rows(np.zeros(4)) == 0
    with pytest.raises(IncompatibleError, match="one shift a view"):
        take_rows_back(lines, np.zeros(3), slice(0, 9))


@pytest.fixture(scope="module")
def leaning():
    """Blobs at several heights about a leaning axis, views moved both ways: counts of forty rows."""
    rng = np.random.default_rng(2)
    beam = ParallelBeam(np.pi * np.arange(VIEWS) / VIEWS, COLUMNS, 100.0)
    across, along = 0.4 * rng.standard_normal((2, VIEWS))
    row = np.arange(ROWS)[:, None] - along
    axis = 31.1 + 0.02 * (np.arange(ROWS)[:, None] - 19.5)

    def blob(radius, phase, size):
        place = axis + radius * np.cos(beam.angles_rad + phase) + across
        return np.exp(-(((np.arange(COLUMNS) - place[:, :, None]) / size) ** 2))

    lines = blob(9, 1.0, 4.0) + blob(6, 4.0, 3.0)
    for radius, phase, height, size in ((8, 0.3, 8.0, 3.0), (5, 2.0, 20.0, 2.5), (11, 4.0, 30.0, 3.5), (3, 1.0, 36, 3)):
        lines += np.exp(-(((row - height) / size) ** 2))[:, :, None] * blob(radius, phase, size)
    light = np.full((1, ROWS, COLUMNS), 50_000.0)
    counts = rng.poisson(light * np.exp(-lines.transpose(1, 0, 2)))
    return Scan(counts, light, 0 * light, beam), across, along


RECIPE = ReconstructionRecipe(
    algorithm="fbp",
    rings=RingRecipe(method="titarenko"),
    alignment=AlignmentRecipe(method="reprojection", rows=True, tilt="fit"),
)


def test_every_cut_into_slabs_gives_the_same_bytes(leaning):
    scan, _, _ = leaning
    plan = prepare(scan, RECIPE)
    halo = plan.halo_rows
    assert halo > 4
    whole = reconstruct(scan, RECIPE, plan=plan)
    for cut in (1, 7, 40):
        parts = []
        for start in range(0, ROWS, cut):
            rows = range(start, min(start + cut, ROWS))
            held = range(max(0, rows.start - halo), min(ROWS, rows.stop + halo))
            parts.append(reconstruct(scan.only(held), RECIPE, plan=plan, rows=rows, threads=1 + cut % 2))
        for name in ("removed_rms", "removed_mean"):
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
        np.testing.assert_array_equal(np.concatenate([p.volume.values for p in parts]), whole.volume.values)
        assert [p.first_row for p in parts] == list(range(0, ROWS, cut))
        assert sum(p.counts.clipped for p in parts) == whole.counts.clipped


def test_shifts_and_tilt_are_found_and_taken_out(leaning):
    """Misplaced rows blur: each part that is put right brings the slice nearer to that of a perfect stage."""
    scan, across, along = leaning
    plan = prepare(scan, RECIPE)
    assert plan.alignment is not None
    assert plan.tilt is not None
    assert np.sqrt(np.mean((plan.alignment.row_shift_px - along + along.mean()) ** 2)) < 0.1
    assert abs(plan.tilt.slope - 0.02) < max(4 * plan.tilt.uncertainty, 2e-3)
    # The mean shift of all views is part of the axis.
    untold = np.stack([np.ones(VIEWS), np.cos(scan.beam.angles_rad), np.sin(scan.beam.angles_rad)], 1)
    assert abs(plan.axis.px - 31.1 - np.linalg.lstsq(untold, across, rcond=None)[0][0]) < 0.1
    sharp = [
        float(reconstruct(scan, RECIPE, plan=made).volume.values[4:36].max(axis=(1, 2)).mean())
        for made in (prepare(scan, RECIPE.model_copy(update={"alignment": AlignmentRecipe()})), plan)
    ]
    assert sharp[1] > 1.02 * sharp[0]


def test_rows_that_the_scan_does_not_hold_are_refused(leaning):
    scan, _, _ = leaning
    with pytest.raises(IncompatibleError, match="rows 0 to 39 are held"):
        reconstruct(scan, RECIPE, plan=prepare(scan, RECIPE), rows=range(30, 50))


def test_a_tilt_needs_three_groups_with_a_sample_in_them(leaning):
    scan, _, _ = leaning
    recipe, tilted = CorrectionRecipe(), AlignmentRecipe(tilt="fit")
    groups = [correct(scan.only(range(start, start + 4)), recipe) for start in (2, 14, 22, 32)]
    empty = np.full((VIEWS, 4, COLUMNS), 50_000.0)
    empty = empty + np.random.default_rng(0).normal(0, 220, empty.shape)
    nothing = correct(Scan(empty, scan.flats[:, :4], scan.darks[:, :4], scan.beam, first_row=36), recipe)
    middle = groups[1]
    found = find_placement(middle, tilted, spread=[*groups, nothing])
    assert found.tilt is not None
    assert found.tilt.slope == find_placement(middle, tilted, spread=groups).tilt.slope
    assert found.tilt.reference_row == 15.5
    with pytest.raises(NotConvergedError, match="2 of 4 groups"):
        find_placement(middle, tilted, spread=[*groups[:2], nothing, nothing])


def test_a_told_axis_is_kept():
    beam = ParallelBeam(np.pi * np.arange(90) / 90, 64, 100.0, 31.0)
    line = line_integrals([Ellipse((300.0, 500.0), (1500.0, 900.0), 0.3)], beam)[:, None]
    light = np.full((1, 1, 64), 1e4)
    unaware = ParallelBeam(beam.angles_rad, 64, 100.0)
    corrected = correct(Scan(light * np.exp(-line), light, 0 * light, unaware), CorrectionRecipe())
    assert find_placement(corrected, AlignmentRecipe(), told=30.0).axis.px == 30.0
    assert find_placement(corrected, AlignmentRecipe(method="reprojection"), told=30.0).axis.px == 30.0
    assert abs(find_placement(corrected, AlignmentRecipe()).axis.px - 31.0) < 0.05
