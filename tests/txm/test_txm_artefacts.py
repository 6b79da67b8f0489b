"""Every artefact alone leaves exactly its signature, and switched off it leaves none."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import IncompatibleError, OutOfRangeWarning
from npsi_twin.projectors.analytic import Ellipse, line_integrals
from npsi_twin.scan import ParallelBeam
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe, current, fine_structure
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import (
    MicroscopeRecipe,
    acquire,
    scan_light,
    simulation_grid,
    simulation_rows,
    stage_truth,
)
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.stage import StageRecipe
from npsi_twin.txm.surroundings import SurroundingsRecipe
from npsi_twin.txm.truth import scan_truth

SEEDS, ROWS = Seeds(77), range(6)
STILL = {"run_out_across_nm": 0.0, "run_out_along_nm": 0.0}
EVEN = {
    "photo_response_spread": 0.0,
    "gain_drift_spread": 0.0,
    "dead_pixel_fraction": 0.0,
    "hot_pixel_fraction": 0.0,
}
CAMERA = DetectorRecipe(rows=6, columns=64)
PIXEL_NM = CAMERA.pixel_nm


def scope(**given):
    parts = {"detector": CAMERA, "stage": StageRecipe(views=12), "halo_rows": 8}
    return MicroscopeRecipe(**(parts | given))


def camera(**given):
    return scope(detector=DetectorRecipe(rows=6, columns=64, **given))


def turned(views=12, **given):
    return scope(stage=StageRecipe(views=views, **given))


def needle(microscope):
    grid = simulation_grid(microscope)
    radius = np.hypot(grid.height_nm[:, None], grid.across_nm[None, :])
    disk = np.where(radius < 900.0, 0.0471, 0.0).astype(np.float32)
    disk[: disk.shape[0] // 2, disk.shape[1] // 2 :] *= np.float32(0.4)
    return np.repeat(disk[None], len(simulation_rows(microscope, ROWS)), axis=0)


def scanned(microscope, slab=None):
    return acquire(needle(microscope) if slab is None else slab, microscope, ROWS, seeds=SEEDS)


def opened(microscope):
    """With nothing in the beam."""
    return scanned(microscope, np.zeros_like(needle(microscope)))


def products(exposure):
    scan = exposure.scan
    return [scan.projections, scan.flats, scan.darks, exposure.transmission, scan.beam.angles_rad]


#: Numbers that only say how an artefact looks; while it is switched off they must not change a bit.
SILENT = {
    "optics": OpticsRecipe(zone_plate_diameter_um=90.0, delta_over_beta=43.0, stray_fwhm_um=3.0),
    "beam": BeamRecipe(
        structure_size_um=0.4, structure_shake_um=1.0, structure_drift_um=1.0, top_up_s=9.0, frame_s=3.0
    ),
    "detector": DetectorRecipe(rows=6, columns=64, drifting_pixel_change=0.4, zinger_electrons=9.0),
    "stage": StageRecipe(
        views=12,
        systematic_order=5,
        wobble_lever_mm=3.0,
        drift_settling=0.3,
        damage_dose=0.7,
        fly_scan_samples=9,
        blocked_from_deg=40.0,
        blocked_to_deg=40.0,
    ),
    "surroundings": SurroundingsRecipe(capillary_wall_um=3.0, capillary_across_um=3.0, capillary_height_um=3.0),
}


@pytest.mark.parametrize("part", SILENT)
def test_what_is_switched_off_changes_no_bit(part):
    plain, silent = scanned(scope()), scanned(scope(**{part: SILENT[part]}))
    assert all(np.array_equal(a, b) for a, b in zip(products(plain), products(silent), strict=True))


def test_hidden_motion_changes_neither_angles_told_nor_flats():
    plain = scanned(turned())
    moved = scanned(turned(systematic_across_nm=50.0, drift_along_nm=80.0, angle_error_deg=1.0))
    assert not np.array_equal(moved.transmission, plain.transmission)
    for a, b in zip(products(moved)[1:3], products(plain)[1:3], strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(moved.scan.beam.angles_rad, plain.scan.beam.angles_rad)


# --- stage ---


def motion(**given):
    """Slow motion across and along in nm, and angles, of a scan of 181 views without random run-out."""
    truth = stage_truth(turned(views=181, **STILL, **given), seeds=SEEDS)
    return truth.column_shift_px * PIXEL_NM, truth.row_shift_px * PIXEL_NM, truth


def test_bearing_and_wobble_come_at_their_order():
    across, along, truth = motion(systematic_across_nm=30.0, systematic_along_nm=20.0, systematic_order=3)
    np.testing.assert_allclose(across, 30 * np.cos(3 * truth.angles_rad), atol=1e-9)
    np.testing.assert_allclose(along, 20 * np.cos(3 * truth.angles_rad), atol=1e-9)
    across, along, _ = motion(wobble_urad=0.2, wobble_lever_mm=100.0)
    np.testing.assert_allclose(across, 20 * np.sin(2 * truth.angles_rad), atol=1e-9)
    assert not np.any(along)


def test_drift_and_damage_end_where_they_are_asked_to():
    time = np.linspace(0, 1, 181)
    across, along, _ = motion(drift_across_nm=200.0, drift_along_nm=-100.0)
    np.testing.assert_allclose(across, 200 * time, atol=1e-9)
    np.testing.assert_allclose(along, -100 * time, atol=1e-9)
    across, _, _ = motion(drift_across_nm=200.0, drift_settling=0.25)
    np.testing.assert_allclose(across, 200 * (1 - np.exp(-time / 0.25)) / (1 - np.exp(-4)), atol=1e-9)
    across, along, _ = motion(damage_across_nm=-40.0, damage_along_nm=70.0, damage_dose=0.5)
    creep = (1 - np.exp(-time / 0.5)) / (1 - np.exp(-2))
    np.testing.assert_allclose(np.stack([across, along]), np.stack([-40 * creep, 70 * creep]), atol=1e-9)


def test_motions_add():
    parts = {"systematic_across_nm": 30.0, "drift_across_nm": 50.0, "damage_across_nm": 20.0, "wobble_urad": 0.1}
    alone = sum(motion(**{name: value})[0] for name, value in parts.items())
    np.testing.assert_allclose(motion(**parts)[0], alone, atol=1e-9)


def test_angle_errors_have_their_size_and_are_not_told():
    truth = stage_truth(turned(views=3000, angle_error_deg=0.05), seeds=SEEDS)
    errors = np.rad2deg(truth.angles_rad - truth.told_angles_rad)
    assert errors.std() == pytest.approx(0.05, rel=4.5 / np.sqrt(6000))
    assert np.array_equal(truth.told_angles_rad, stage_truth(turned(views=3000), seeds=SEEDS).angles_rad)


def test_a_blocked_wedge_is_dark_and_nothing_else_changes():
    plain, blocked = scanned(turned()), scanned(turned(blocked_from_deg=40.0, blocked_to_deg=70.0))
    wedge = stage_truth(turned(blocked_from_deg=40.0, blocked_to_deg=70.0), seeds=SEEDS).blocked
    angles = np.rad2deg(plain.scan.beam.angles_rad)
    assert np.array_equal(wedge, (angles >= 40) & (angles <= 70))
    assert 0 < wedge.sum() < 12
    assert np.array_equal(plain.scan.projections[~wedge], blocked.scan.projections[~wedge])
    dark = blocked.scan.projections[wedge].mean() - blocked.scan.darks.mean()
    # Means of 384 pixels a view and of 7680: noise sqrt(4 (0.02 + 0.053 + 1/12)) = 0.8, hot pixels fall out of the
    # difference.
    assert abs(dark) < 4.5 * 0.8 * np.sqrt(1 / blocked.scan.projections[wedge].size + 1 / blocked.scan.darks.size)
    with pytest.raises(ValidationError, match="Exchange them"):
        StageRecipe(blocked_from_deg=50.0, blocked_to_deg=40.0)


def test_a_missing_wedge_is_views_that_are_not_there():
    truth = stage_truth(turned(angle_range_deg=140.0), seeds=SEEDS)
    assert np.rad2deg(truth.angles_rad[-1]) == pytest.approx(140.0)


def balls(microscope, rows, places_nm):
    """Gaussian balls of 3 fine voxels at (along, height, across)."""
    grid, fine = simulation_grid(microscope), simulation_rows(microscope, rows)
    slab = np.zeros((len(fine), *grid.shape[1:]), np.float32)
    for along, height, across in places_nm:
        z, y, x = grid.along_nm[fine.start : fine.stop] - along, grid.height_nm - height, grid.across_nm - across
        square = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
        slab += (0.05 * np.exp(-np.minimum(square / (2 * (3 * grid.voxel_nm) ** 2), 80.0))).astype(np.float32)
    slab[slab < 1e-9] = 0.0
    return slab


SHARP = {"optics": OpticsRecipe(outer_zone_width_nm=0.0), "allow_truncation": True}


def test_a_leaning_axis_turns_the_image_round_its_middle():
    # At angle 0 a ball at (z, x) from the axis' middle goes to column + x - ... exactly turned by 1 degree: the two
    # shears differ from the rotation by the angle squared, 3e-4 of 20 pixels; centroids are good to 1e-2 (see
    # test_a_small_body_is_seen_where_the_geometry_says).
    tall = DetectorRecipe(rows=48, columns=96, blur_fwhm_px=0.5)
    stage = {"views": 1, "axis_offset_px": 2.0, **STILL}
    tilt = np.deg2rad(1.0)
    for z_px, x_px in ((15.0, 0.0), (0.0, 20.0), (-12.0, -18.0)):
        found = []
        for degrees in (0.0, 1.0):
            microscope = scope(detector=tall, stage=StageRecipe(**stage, axis_tilt_deg=degrees), **SHARP)
            slab = balls(microscope, range(48), [(z_px * PIXEL_NM, 0.0, x_px * PIXEL_NM)])
            image = 1 - acquire(slab, microscope, range(48), seeds=SEEDS).transmission[0].astype(float)
            image[image < 1e-3 * image.max()] = 0
            found.append([image.sum(axis=1) @ np.arange(48), image.sum(axis=0) @ np.arange(96)] / image.sum())
        moved = np.subtract(found[1], found[0])
        np.testing.assert_allclose(moved, [-x_px * np.tan(tilt), z_px * np.tan(tilt)], atol=0.02)


def test_a_fly_scan_smears_along_the_rotation():
    # Seen from the side, a ball at radius r moves r x step x fraction during a view: the image's second moment grows by
    # that squared times (1 - 1 / n^2) / 12 for n equal exposures. 20 px, 12 degrees, 0.8: 3.35 px; weak, so that the
    # moments of transmission are those of the line integrals (0.05 x 0.2 um: 1 %, second order 0.5 %).
    wide = DetectorRecipe(rows=6, columns=96, blur_fwhm_px=0.0)
    moments = []
    for fraction in (0.0, 0.8):
        stage = StageRecipe(views=16, axis_offset_px=0.0, fly_scan_fraction=fraction, fly_scan_samples=5, **STILL)
        microscope = scope(detector=wide, stage=stage, **SHARP)
        slab = balls(microscope, ROWS, [(0.0, 20.0 * PIXEL_NM, 0.0)])
        image = (1 - acquire(slab, microscope, ROWS, seeds=SEEDS).transmission[0, 2:4].astype(float)).sum(axis=0)
        image[image < 1e-3 * image.max()] = 0
        place = np.arange(96) - (image @ np.arange(96)) / image.sum()
        moments.append((image @ place**2) / image.sum())
    expected = (20 * np.deg2rad(12.0) * 0.8) ** 2 * (1 - 1 / 25) / 12
    assert moments[1] - moments[0] == pytest.approx(expected, rel=0.03)


# --- surroundings ---


def test_a_capillary_is_its_closed_form_in_every_view():
    glass = SurroundingsRecipe(
        capillary_radius_um=2.2,
        capillary_wall_um=0.8,
        capillary_attenuation_per_um=0.05,
        capillary_across_um=0.4,
        capillary_height_um=-0.3,
    )
    detector = DetectorRecipe(rows=6, columns=64, blur_fwhm_px=0.0)
    still = StageRecipe(views=7, **STILL)
    microscope = scope(detector=detector, surroundings=glass, optics=SHARP["optics"], stage=still)
    found = -np.log(opened(microscope).transmission[:, 0])
    beam = ParallelBeam(np.linspace(0, np.pi, 7), 64, PIXEL_NM, 31.5 + 3.3)
    shapes = [Ellipse((400.0, 300.0), (2200.0, 2200.0), 0.05), Ellipse((400.0, 300.0), (1400.0, 1400.0), -0.05)]
    # A pixel averages transmissions of two fine columns, the closed form line integrals: a step l differs by l^2 / 8,
    # at the walls' edges 0.1^2 / 8.
    np.testing.assert_allclose(found, line_integrals(shapes, beam), atol=2e-3)
    inside = np.abs(np.arange(64) - 34.8) < 15
    np.testing.assert_allclose(found[:, inside], line_integrals(shapes, beam)[:, inside], atol=3e-5)


def test_what_hangs_over_the_field_is_seen_through():
    # A disk of 40 pixels' radius on a detector of 64: with the overhang the middle sees all of it, without it the
    # corners.
    detector = DetectorRecipe(rows=6, columns=64, blur_fwhm_px=0.0)
    still = StageRecipe(views=5, axis_offset_px=0.0, **STILL)
    common = {"detector": detector, "optics": SHARP["optics"], "stage": still}
    wide = scope(**common, overhang_px=16, allow_truncation=True)
    grid = simulation_grid(wide)
    assert grid.shape[1:] == (192, 192)
    radius = np.hypot(grid.height_nm[:, None], grid.across_nm[None, :])
    slab = np.repeat((radius < 40 * PIXEL_NM).astype(np.float32)[None] * 0.05, len(simulation_rows(wide, ROWS)), axis=0)
    found = -np.log(scanned(wide, slab).transmission[:, 0, 32])
    # A disk drawn by voxels: its rim is uncertain by half of a fine voxel, 0.5 of 80 on either side.
    np.testing.assert_allclose(found, 0.05 * 80 * PIXEL_NM / 1000, rtol=0.01)
    refused = scope(**common, overhang_px=16)
    with pytest.raises(IncompatibleError, match="allow_truncation"):
        scanned(refused, slab)


# --- beam and stray light ---


def test_stray_light_adds_to_everything_but_darks():
    plain, stray = scope(), scope(optics=OpticsRecipe(stray_fraction=0.1, stray_fwhm_um=4.0))
    extra = scan_light(stray, ROWS, seeds=SEEDS).views.stray
    rows_um, columns_um = ((np.arange(n) - (n - 1) / 2) * PIXEL_NM / 1000 for n in (6, 64))
    square = rows_um[:, None] ** 2 + columns_um**2
    np.testing.assert_allclose(extra, 0.1 * np.exp(-4 * np.log(2) * square / 16), rtol=1e-6)
    a, b = scanned(plain), scanned(stray)
    assert np.array_equal(a.scan.darks, b.scan.darks)
    for name in ("projections", "flats"):
        more = getattr(b.scan, name).mean(axis=0) - getattr(a.scan, name).mean(axis=0)
        # 800 units at intensity 1; noise of two means of 12 or 20 frames of up to 10.5 units, over 384 pixels.
        alive = scan_truth(plain, ROWS, seeds=SEEDS).response > 0
        assert more[alive].mean() == pytest.approx(800 * extra[alive].mean(), abs=4.5 * 10.5 * np.sqrt(2 / 12 / 384))


def test_fine_structure_has_its_contrast_size_and_place():
    recipe = BeamRecipe(structure_contrast=0.05, structure_size_um=1.0)
    lit = fine_structure(recipe, range(600), (600, 600), 0, 100.0, seeds=SEEDS)
    # 60 x 60 um hold about 60^2 / (4 pi) = 290 independent patches and 256 waves: deviation good to 1 / sqrt(2 x 130).
    assert lit.std() == pytest.approx(0.05, rel=4.5 / np.sqrt(260))
    # Correlation one size away: exp(-1/2).
    correlation = np.mean(lit[:, 10:] * lit[:, :-10]) / np.mean(lit**2)
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.05)
    part = fine_structure(recipe, range(200, 210), (600, 600), 3, 100.0, seeds=SEEDS)
    assert np.array_equal(part[3:-3, 3:-3], lit[200:210])  # the same in every slab


def test_the_structure_shakes_and_drifts_as_told():
    beam = BeamRecipe(structure_contrast=0.1, structure_size_um=0.6, structure_shake_um=0.2, structure_drift_um=1.0)
    detector = DetectorRecipe(rows=6, columns=64, flat_electrons=30_000.0, flat_frames=30, **EVEN)
    microscope = scope(beam=beam, detector=detector, stage=StageRecipe(views=300, **STILL))
    truth = scan_truth(microscope, ROWS, seeds=SEEDS)
    step = truth.structure_shift_px * PIXEL_NM / 1000 - np.linspace(0, 1, 300)[:, None]
    assert step.std() == pytest.approx(0.2, rel=4.5 / np.sqrt(1200))
    assert truth.flat_structure_shift_px.shape == (30, 2)
    # What the truth says of single views is what is counted: residuals are noise of unit variance (3000 counts of noise
    # sqrt(0.131 x 3000)), without a trace of structure of 300 units.
    counts = opened(microscope).scan.projections[:40].astype(float)
    expected = np.stack([truth.light(view) for view in range(40)]) * 3000 + 32.8
    pulls = (counts - expected) / np.sqrt(0.131 * (expected - 32) + 0.6)
    assert pulls.std() == pytest.approx(1.0, rel=4.5 / np.sqrt(2 * counts.size))
    assert np.abs(np.mean(pulls, axis=0)).max() < 5 / np.sqrt(40)


def test_current_decays_and_is_topped_up():
    frames = np.arange(600)
    ring = BeamRecipe(lifetime_h=0.5, top_up_s=120.0, frame_s=2.0)
    np.testing.assert_allclose(current(ring, frames), np.exp(-((2 * frames) % 120) / 1800), rtol=1e-12)
    microscope = scope(
        beam=BeamRecipe(lifetime_h=0.02),
        detector=DetectorRecipe(rows=6, columns=64, **EVEN),
        stage=StageRecipe(views=60),
    )
    counts = opened(microscope).scan.projections.mean(axis=(1, 2)) - 32.8
    # Frame 20 is the first view; 384 pixels of noise 10 units. The Gaussian profile cancels in the ratio.
    expected = np.exp(-(20 + np.arange(60)) / 72)
    level = counts.sum() / expected.sum()
    assert np.abs(counts - level * expected).max() < 5 * 10.5 / np.sqrt(384)


def test_flats_between_and_after_see_the_drifted_camera():
    detector = DetectorRecipe(
        rows=6, columns=64, gain_drift_spread=0.1, flat_frames=40, flat_sets_between=2, flat_frames_after=40
    )
    drifted = scanned(scope(detector=detector))
    before_only = scanned(scope(detector=detector.model_copy(update={"flat_sets_between": 0, "flat_frames_after": 0})))
    flats = drifted.scan.flats
    assert flats.shape[0] == 160 == detector.flats_in_all
    assert np.array_equal(flats[:40], before_only.scan.flats)
    truth = scan_truth(scope(detector=detector), ROWS, seeds=SEEDS)
    good = ~(truth.dead | truth.hot)
    change = (flats[40:].mean(axis=0) - 32.8)[good] / (flats[:40].mean(axis=0) - 32.8)[good]
    # Noise of the ratio: 1.28 % of a frame and more towards the dim rim, over 40 and 120 frames: 0.25 %.
    np.testing.assert_allclose(change, (truth.response / truth.flat_response)[good], atol=5 * 0.0025)


# --- camera ---


def test_zingers_hit_what_the_truth_says_and_nothing_else():
    plain, hit = scanned(camera()), scanned(camera(zinger_fraction=0.005, zinger_electrons=20_000.0))
    truth = scan_truth(camera(zinger_fraction=0.005, zinger_electrons=20_000.0), ROWS, seeds=SEEDS)
    for name, places, electrons in (
        ("projections", truth.zingers, truth.zinger_electrons),
        ("flats", truth.flat_zingers, truth.flat_zinger_electrons),
    ):
        a, b = getattr(plain.scan, name).astype(int), getattr(hit.scan, name).astype(int)
        # Binomial: n x 0.005.
        assert abs(len(places) - a.size * 0.005) < 4.5 * np.sqrt(a.size * 0.005)
        mask = np.zeros(a.shape, bool)
        mask[tuple(places.T)] = True
        assert np.array_equal(a[~mask], b[~mask])
        rise = (b - a)[tuple(places.T)]
        free = b[tuple(places.T)] < 4092
        np.testing.assert_allclose(rise[free], 0.1 * electrons[free], atol=1.0)  # two roundings
        assert electrons.mean() == pytest.approx(20_000, rel=4.5 / np.sqrt(len(places)))
    assert np.array_equal(plain.scan.darks, hit.scan.darks)


def test_drifting_pixels_drift_and_no_other():
    fraction = {"drifting_pixel_fraction": 0.2, "drifting_pixel_change": 0.3}
    plain, drifted = opened(camera()), opened(camera(**fraction))
    truth = scan_truth(camera(**fraction), ROWS, seeds=SEEDS)
    assert abs(truth.drifting.sum() - 0.2 * 384) < 4.5 * np.sqrt(384 * 0.16)
    a, b = plain.scan.projections.astype(float), drifted.scan.projections.astype(float)
    assert np.array_equal(a[:, ~truth.drifting], b[:, ~truth.drifting])
    assert np.array_equal(plain.scan.flats, drifted.scan.flats)
    assert set(np.unique(truth.response_change[truth.drifting])) == {-0.3, 0.3}
    alive = truth.drifting & (truth.response > 0) & ~truth.hot
    slope = ((b - a) / (a - 32.8))[:, alive] / truth.response_change[alive]
    # Ratio of two draws: noise 1.5 % each over 0.3, and as many pixels as drift.
    time = np.linspace(0, 1, 12)
    assert np.abs(slope.mean(axis=1) - time).max() < 5 * 0.02 * np.sqrt(2) / 0.3 / np.sqrt(alive.sum())


def test_saturated_counts_are_warned_of():
    bright = camera(flat_electrons=15_000.0, camera_units_per_electron=0.25, bit_depth=10, offset_units=0.5)
    assert np.median(opened(bright).scan.projections) > 3000  # 3750 units at the centre are no fault
    bulging = bright.model_copy(update={"beam": BeamRecipe(structure_contrast=0.2, structure_size_um=0.5)})
    with pytest.warns(OutOfRangeWarning, match="saturated"):
        opened(bulging)


def test_truth_does_not_depend_on_the_slab_and_keeps_what_it_is_given():
    microscope = scope(
        detector=DetectorRecipe(rows=6, columns=64, zinger_fraction=0.003, drifting_pixel_fraction=0.1),
        beam=BeamRecipe(structure_contrast=0.1, structure_shake_um=0.1),
    )
    whole, part = (scan_truth(microscope, rows, seeds=SEEDS) for rows in (ROWS, range(2, 5)))
    for name in ("illumination", "response", "flat_response", "dead", "hot", "drifting", "dark_electrons"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[2:5])
    here = (whole.zingers[:, 1] >= 2) & (whole.zingers[:, 1] < 5)
    assert np.array_equal(part.zingers, whole.zingers[here])
    np.testing.assert_allclose(part.light(3), whole.light(3)[2:5], rtol=1e-12)
    assert whole.told == ("told_angles_rad",)
    assert set(whole.told) < {field.name for field in dataclasses.fields(whole)}
    exposure = scanned(microscope)
    kept = scan_truth(microscope, ROWS, seeds=SEEDS, transmission=exposure.transmission)
    assert np.array_equal(kept.transmission, exposure.transmission)
    with pytest.raises(IncompatibleError, match="scan_truth"):
        scan_truth(microscope, range(2), seeds=SEEDS, transmission=exposure.transmission)
    with pytest.raises(ValueError, match="read-only"):
        whole.response[0] = 1
