"""The whole microscope: closed forms through projector, optics and camera, and the laws of the house."""

import dataclasses
import hashlib
import tomllib

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import IncompatibleError, OutOfRangeWarning, ParameterError
from npsi_twin.recipes import describe
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.detector import DetectorRecipe, ScintillatorRecipe
from npsi_twin.txm.microscope import (
    MicroscopeRecipe,
    acquire,
    expose,
    project,
    simulation_grid,
    simulation_rows,
    stage_truth,
)
from npsi_twin.txm.objective import OpticsRecipe
from npsi_twin.txm.presets import aps_32_id_c_2018
from npsi_twin.txm.stage import StageRecipe
from npsi_twin.txm.surroundings import SurroundingsRecipe

SEEDS = Seeds(20)
STILL = {"run_out_across_nm": 0.0, "run_out_along_nm": 0.0}


def small(**given):
    """A microscope of 6 rows, 64 columns and 12 views."""
    parts = {
        "detector": DetectorRecipe(rows=6, columns=64),
        "stage": StageRecipe(views=12),
        "halo_rows": 8,
    }
    return MicroscopeRecipe(**(parts | given))


def sharp(**given):
    """The same without blur and run-out."""
    parts = {
        "optics": OpticsRecipe(outer_zone_width_nm=0.0),
        "detector": DetectorRecipe(rows=6, columns=64, blur_fwhm_px=0.0),
        "stage": StageRecipe(views=12, **STILL),
        "halo_rows": 0,
    }
    return small(**(parts | given))


def needle(microscope, rows, radius_px=20.0, attenuation_per_um=0.0471):
    """A cylinder on the axis with a structure along z and a notch, so that no view and no row is like another."""
    grid = simulation_grid(microscope)
    fine = simulation_rows(microscope, rows)
    radius = np.hypot(grid.height_nm[:, None], grid.across_nm[None, :])
    disk = (radius < radius_px * microscope.detector.pixel_nm).astype(np.float32) * np.float32(attenuation_per_um)
    disk[grid.shape[1] // 2 :, grid.shape[2] // 2 :] *= np.float32(0.3)
    wave = (0.6 + 0.4 * np.cos(np.asarray(fine) * 0.9)).astype(np.float32)
    return wave[:, None, None] * disk


def digest(exposure):
    """One number for all that a user gets."""
    scan = exposure.scan
    state = hashlib.sha256()
    for array in (scan.projections, scan.flats, scan.darks, exposure.transmission, scan.beam.angles_rad):
        state.update(repr(array.shape).encode() + array.tobytes())
    state.update(repr((scan.energy_kev, scan.beam.pixel_nm, scan.first_row)).encode())
    return state.hexdigest()


def test_uniform_disk_obeys_beer_and_lambert():
    # Closed form: exp(-2 mu sqrt(R^2 - s^2)), averaged over a pixel by 50-point quadrature. The disk is drawn on the
    # fine grid by area coverage (8 x 8 samples a voxel). Inside 0.9 R the chord's curvature across a fine voxel leaves
    # mu / 24 x pitch^2 x 2 / (R (1 - 0.81)^1.5) = 2e-6, the quadrature of the rim 1e-5, and the non-uniform FFT,
    # accurate to about 1e-3 of the largest value in norm, less than 1e-3 x 0.19 = 2e-4. Measured: 5e-5 inside, 2e-6
    # outside.
    microscope = sharp(
        detector=DetectorRecipe(rows=1, columns=128, blur_fwhm_px=0.0),
        stage=StageRecipe(views=10, axis_offset_px=2.25, **STILL),
        supersampling=4,
    )
    grid = simulation_grid(microscope)
    attenuation, radius_px = 0.0471, 40.0
    radius_nm = radius_px * microscope.detector.pixel_nm
    sub = ((np.arange(8) + 0.5) / 8 - 0.5) * grid.voxel_nm
    y, x = np.meshgrid(grid.height_nm, grid.across_nm, indexing="ij")
    disk = np.mean([np.hypot(y + a, x + b) < radius_nm for a in sub for b in sub], axis=0) * attenuation
    slab = np.repeat(disk[None].astype(np.float32), 4, axis=0)
    transmission = acquire(slab, microscope, range(1), seeds=SEEDS).transmission[:, 0]
    axis = stage_truth(microscope, seeds=SEEDS).rotation_axis_px
    s = np.arange(128)[:, None] - axis + (np.arange(50) + 0.5) / 50 - 0.5
    chord_um = 2 * np.sqrt(np.maximum(radius_px**2 - s**2, 0)) * microscope.detector.pixel_nm / 1000
    expected = np.exp(-attenuation * chord_um).mean(axis=1)
    inside = np.abs(np.arange(128) - axis) < 0.9 * radius_px
    outside = np.abs(np.arange(128) - axis) > 1.1 * radius_px
    assert np.abs(transmission - expected)[:, inside].max() < 2e-4
    assert np.abs(transmission - 1)[:, outside].max() < 2e-4
    assert np.abs(transmission - expected).mean() < 5e-5


def test_a_small_body_is_seen_where_the_geometry_says():
    # Centroid of the absorption: column axis + shift + (x cos - y sin) / pixel, row of the body + row shift. The
    # body is a Gaussian ball of 3 fine voxels, band-limited to exp(-2 pi^2 9 / 4) = 1e-19; without the zone plate's
    # tails the first moment exists. exp(-l) = 1 - l + l^2 / 2 is symmetric too. What lies below the
    # projector's eps of 1e-3 is left out, since its arm would be long; 1e-3 of a body 8 px wide is 1e-2 px.
    microscope = small(
        optics=OpticsRecipe(outer_zone_width_nm=0.0),
        detector=DetectorRecipe(rows=40, columns=96),
        stage=StageRecipe(views=9, axis_offset_px=-1.7, run_out_across_nm=40.0, run_out_along_nm=40.0),
        halo_rows=8,
        allow_truncation=True,
    )
    grid, rows = simulation_grid(microscope), range(40)
    pixel_nm = microscope.detector.pixel_nm
    along, height, across = grid.along_nm[52], grid.height_nm[112], grid.across_nm[72]
    z, y, x = (grid.along_nm - along, grid.height_nm - height, grid.across_nm - across)
    square = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    slab = (0.2 * np.exp(-np.minimum(square / (2 * (3 * grid.voxel_nm) ** 2), 80.0))).astype(np.float32)
    slab[slab < 1e-9] = 0.0
    image = 1 - acquire(slab, microscope, rows, seeds=SEEDS).transmission.astype(float)
    image[image < 1e-3 * image.max()] = 0
    truth = stage_truth(microscope, seeds=SEEDS)
    column = truth.rotation_axis_px + truth.column_shift_px
    column += (across * np.cos(truth.angles_rad) + height * np.sin(truth.angles_rad)) / pixel_nm  # y = -height
    row = 19.5 + along / pixel_nm + truth.row_shift_px
    total = image.sum(axis=(1, 2))
    np.testing.assert_allclose(image.sum(axis=1) @ np.arange(96) / total, column, atol=0.01)
    np.testing.assert_allclose(image.sum(axis=2) @ np.arange(40) / total, row, atol=0.01)
    assert np.ptp(truth.row_shift_px) > 1 < np.ptp(truth.column_shift_px)  # the check sees the shifts


def test_slabs_of_rows_agree():
    # Noise-free images agree to the transforms' float32 rounding, 6e-8 x a few passes (measured 4e-7); flats and darks
    # to the bit; counts wherever a Poisson draw is not on the edge of that rounding.
    microscope = small(detector=DetectorRecipe(rows=12, columns=64))
    whole = acquire(needle(microscope, range(12)), microscope, range(12), seeds=SEEDS)
    for rows in (range(5), range(5, 12)):
        part = acquire(needle(microscope, rows), microscope, rows, seeds=SEEDS)
        here = slice(rows.start, rows.stop)
        np.testing.assert_allclose(part.transmission, whole.transmission[:, here], atol=2e-6)
        assert np.array_equal(part.scan.flats, whole.scan.flats[:, here])
        assert np.array_equal(part.scan.darks, whole.scan.darks[:, here])
        counts = part.scan.projections.astype(int) - whole.scan.projections[:, here]
        assert np.mean(counts != 0) < 0.005
        assert part.scan.first_row == rows.start


def test_same_seed_same_bytes_and_input_left_alone():
    microscope, rows = small(), range(1, 4)
    slab = needle(microscope, rows)
    before = slab.copy()
    first, second = (acquire(slab, microscope, rows, seeds=SEEDS) for _ in range(2))
    assert digest(first) == digest(second)
    assert np.array_equal(slab, before)
    assert digest(first) != digest(acquire(slab, microscope, rows, seeds=Seeds(21)))


def test_halves_make_the_whole():
    microscope, rows = small(), range(6)
    slab = needle(microscope, rows)
    parts = [project(slab[a:b], microscope, seeds=SEEDS) for a, b in ((0, 20), (20, 44))]
    lines = np.concatenate([part[0] for part in parts])
    made = expose(lines, microscope, rows, seeds=SEEDS, projector=parts[0][1])
    whole = acquire(slab, microscope, rows, seeds=SEEDS)
    np.testing.assert_allclose(made.transmission, whole.transmission, atol=2e-6)
    assert made.made_by == whole.made_by


def test_the_scan_tells_no_secret():
    exposure = acquire(needle(small(), range(6)), small(), range(6), seeds=SEEDS)
    beam = exposure.scan.beam
    assert beam.rotation_axis_px is None
    assert not np.any(beam.column_shift_px)
    assert exposure.scan.projections.dtype == np.uint16
    assert exposure.made_by.backend not in ("", "auto")
    assert exposure.made_by.root_seed == 20
    assert not exposure.transmission.flags.writeable


def test_no_run_out_needs_no_seed():
    slab = needle(sharp(), range(6))
    a, b = (acquire(slab, sharp(), range(6), seeds=Seeds(s)).transmission for s in (1, 2))
    assert np.array_equal(a, b)


def test_counts_through_the_whole_chain():
    # Open field: flats and projections have one mean where nothing drifts. Each mean is known to
    # sqrt(0.131 x 800 / n), n = 6 x 64 x 40 pixels; 4.5 of those, twice.
    even = {"gain_drift_spread": 0.0, "hot_pixel_fraction": 0.0, "dead_pixel_fraction": 0.0}
    microscope = small(detector=DetectorRecipe(rows=6, columns=64, flat_frames=40, **even), stage=StageRecipe(views=40))
    slab = np.zeros((44, 128, 128), np.float32)
    scan = acquire(slab, microscope, range(6), seeds=SEEDS).scan
    difference = scan.projections.mean() - scan.flats.mean()
    assert abs(difference) < 4.5 * np.sqrt(2 * 0.131 * 800 / (6 * 64 * 40))


#: A microscope with everything switched on, in which full well and converter both bite.
TIGHT = MicroscopeRecipe(
    optics=OpticsRecipe(
        central_stop_fraction=0.2,
        condenser_na_mrad=1.0,
        condenser_inner_fraction=0.5,
        defocus_um=20.0,
        depth_um=20.0,
        relative_bandwidth=1e-3,
        delta_over_beta=1.0,
        zernike_phase_deg=5.0,  # the halo of a strong ring reaches further than these few rows
        zernike_transmission=0.8,
        stray_fraction=0.02,
        stray_fwhm_um=5.0,
    ),
    detector=DetectorRecipe(
        rows=4,
        columns=48,
        flat_electrons=40_000.0,
        offset_units=1.0,
        full_well_electrons=10_100.0,
        hot_pixel_fraction=0.02,
        dead_pixel_fraction=0.02,
        drifting_pixel_fraction=0.3,
        zinger_fraction=0.005,
        scintillator=ScintillatorRecipe(light_yield_per_kev=25.0),
        flat_sets_between=1,
        flat_frames=3,
        flat_frames_after=2,
        dark_frames=3,
    ),
    stage=StageRecipe(
        views=6,
        axis_tilt_deg=0.5,
        systematic_across_nm=10.0,
        systematic_along_nm=10.0,
        wobble_urad=0.2,
        drift_across_nm=20.0,
        drift_along_nm=20.0,
        drift_settling=0.5,
        damage_across_nm=10.0,
        damage_along_nm=10.0,
        angle_error_deg=0.2,
        fly_scan_fraction=0.5,
        blocked_from_deg=60.0,
        blocked_to_deg=90.0,
    ),
    beam=BeamRecipe(
        fwhm_um=20.0,
        centre_column_um=0.5,
        centre_row_um=0.1,
        structure_contrast=0.05,
        structure_size_um=0.5,
        structure_shake_um=0.1,
        structure_drift_um=0.2,
        lifetime_h=1.0,
        top_up_s=5.0,
        frame_s=0.7,
    ),
    surroundings=SurroundingsRecipe(capillary_radius_um=3.0, capillary_wall_um=0.5),
)
CHANGED = {
    "energy_kev": 7.5,
    "optics.outer_zone_width_nm": 70.0,
    "detector.binning": 1,
    "detector.flat_electrons": 39_000.0,
    "detector.rows": 5,
    "detector.columns": 50,
    "detector.full_well_electrons": 10_050.0,
    "detector.hot_pixel_electrons": 50.0,
    "detector.camera_units_per_electron": 0.09,
    "detector.scintillator.light_yield_per_kev": 20.0,
    "detector.zinger_fraction": 0.01,
    "detector.scintillator.lens_transmission": 0.7,
    "optics.zernike_transmission": 0.7,
    "stage.axis_offset_px": 1.1,
    "stage.include_last": False,
    "stage.angle_range_deg": 170.0,
    "stage.blocked_from_deg": 80.0,
    "stage.blocked_to_deg": 110.0,
    "supersampling": 3,
    "halo_rows": 13,
    "surroundings.capillary_across_um": 0.1,
    "surroundings.capillary_height_um": 0.1,
    "detector.bit_depth": 12,
    "detector.camera_pixel_nm": 24.0,
    "detector.dead_pixel_fraction": 0.05,
    "optics.condenser_inner_fraction": 0.6,
}
#: What must hold on both sides for a change to show: a well deep enough for the converter to clip first, and so on.
ALONG = {
    "detector.bit_depth": {"detector.full_well_electrons": 60_000.0, "detector.hot_pixel_electrons": 9000.0},
    "detector.binning": {"detector.flat_electrons": 9000.0},
    "detector.electrons_per_photon": {"detector.scintillator.light_yield_per_kev": 0.0},
}
#: Only opens the door to what is refused otherwise; see test_truncation_is_refused_unless_asked_for.
DOORS = {"allow_truncation"}


def changed(recipe, path, value):
    head, _, rest = path.partition(".")
    new = changed(getattr(recipe, head), rest, value) if rest else value
    return type(recipe)(**(dict(recipe) | {head: new}))


def product(microscope):
    rows = range(2)
    return digest(acquire(needle(microscope, rows, radius_px=12.0), microscope, rows, seeds=SEEDS))


@pytest.mark.filterwarnings("ignore:microscope:npsi_twin.errors.OutOfRangeWarning")  # it is tight on purpose
@pytest.mark.parametrize("path", [leaf.path for leaf in describe(TIGHT) if leaf.path not in DOORS])
def test_every_parameter_matters(path):
    value = next(leaf.value for leaf in describe(TIGHT) if leaf.path == path)
    base = TIGHT
    for name, other in ALONG.get(path, {}).items():
        base = changed(base, name, other)
    new = CHANGED.get(path, value * 1.5 if isinstance(value, float) else value + 1)
    assert product(changed(base, path, new)) != product(base)


def test_every_number_says_unit_and_source():
    for leaf in describe(MicroscopeRecipe()):
        assert leaf.description
        assert any(word in leaf.source for word in ("stated", "inferred", "assumed")), leaf.path
        for suffix in (
            "_nm",
            "_um",
            "_px",
            "_kev",
            "_deg",
            "_electrons",
            "_units",
            "_mrad",
            "_urad",
            "_mm",
            "_s",
            "_h",
        ):
            assert leaf.unit or not leaf.path.endswith(suffix), leaf.path


def test_recipe_round_trips_and_hashes():
    recipe = MicroscopeRecipe()
    assert MicroscopeRecipe.model_validate(recipe.model_dump()) == recipe
    assert hash(recipe) == hash(MicroscopeRecipe())
    text = "energy_kev = 7.11\n[detector]\nrows = 32\n[stage]\nviews = 301\n"
    assert MicroscopeRecipe.model_validate(tomllib.loads(text)).stage.views == 301
    with pytest.raises(ValidationError, match="frozen"):
        recipe.energy_kev = 9.0


def test_the_instrument_of_the_paper():
    microscope = aps_32_id_c_2018()
    detector = microscope.detector
    # Section 2.4: 52 x 62 um field, 1201 views over 180 degrees.
    assert detector.rows * detector.pixel_nm / 1000 == pytest.approx(52, abs=0.1)
    assert detector.columns * detector.pixel_nm / 1000 == pytest.approx(62, abs=0.3)
    assert np.rad2deg(np.diff(stage_truth(microscope, seeds=SEEDS).angles_rad)) == pytest.approx(0.15)
    assert aps_32_id_c_2018(7.11).detector.pixel_nm == pytest.approx(22.6, abs=0.1)


def test_truncation_is_refused_unless_asked_for():
    microscope = sharp(stage=StageRecipe(views=12, axis_offset_px=10.0, **STILL))
    slab = needle(microscope, range(6), radius_px=21.5)
    acquire(slab, microscope, range(6), seeds=SEEDS)
    wide = needle(microscope, range(6), radius_px=23.0)  # 32 - 10 = 22 pixels are free
    with pytest.raises(IncompatibleError, match=r"reaches 1\.1\d um.*field holds 1\.12 um.*allow_truncation"):
        acquire(wide, microscope, range(6), seeds=SEEDS)
    allowed = microscope.model_copy(update={"allow_truncation": True})
    assert acquire(wide, allowed, range(6), seeds=SEEDS).scan.rows == 6


def test_slabs_that_do_not_fit_are_refused():
    microscope = small()
    slab = needle(microscope, range(6))
    with pytest.raises(IncompatibleError, match="44 fine rows"):
        acquire(slab[:-1], microscope, range(6), seeds=SEEDS)
    with pytest.raises(IncompatibleError, match="slices are"):
        acquire(slab[:, :-1], microscope, range(6), seeds=SEEDS)
    for value in (-0.1, np.nan, np.inf):
        broken = slab.copy()
        broken[3, 64, 64] = value
        with pytest.raises(ParameterError, match="attenuation_per_um"):
            acquire(broken, microscope, range(6), seeds=SEEDS)
    with pytest.raises(ParameterError, match="simulation_rows"):
        simulation_rows(microscope, range(2, 8))
    with pytest.raises(IncompatibleError, match="line integrals"):
        expose(np.zeros((44, 12, 64), np.float32), microscope, range(6), seeds=SEEDS, projector="nufft")


def test_axis_outside_the_detector_is_refused():
    with pytest.raises(ValidationError, match="axis_offset_px"):
        small(stage=StageRecipe(axis_offset_px=32.0))


def test_model_limits_are_warned_of():
    # 4 x 20^2 nm2 / 0.155 nm = 10.3 um against a field of 20 um.
    shallow = small(
        optics=OpticsRecipe(outer_zone_width_nm=20.0),
        detector=DetectorRecipe(rows=2, columns=1600, camera_pixel_nm=6.25),
        stage=StageRecipe(views=2),
        supersampling=2,
    )
    lines = np.zeros((len(simulation_rows(shallow, range(2))), 2, 3200), np.float32)
    with pytest.warns(OutOfRangeWarning, match="depth of field"):
        expose(lines, shallow, range(2), seeds=SEEDS, projector="none")
    coarse = small(supersampling=1)
    lines = np.zeros((len(simulation_rows(coarse, range(2))), 12, 64), np.float32)
    with pytest.warns(OutOfRangeWarning, match="raise supersampling"):
        expose(lines, coarse, range(2), seeds=SEEDS, projector="none")


def test_exposure_is_frozen():
    exposure = acquire(needle(small(), range(1)), small(), range(1), seeds=SEEDS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        exposure.scan = None
