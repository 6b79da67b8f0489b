"""Microscopes by name: complete sources, and images that are their optics'."""

import numpy as np
import pytest

from npsi_twin.errors import OutOfRangeWarning, ParameterError
from npsi_twin.recipes import describe
from npsi_twin.seeds import Seeds
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe, acquire, expose, simulation_grid, simulation_rows
from npsi_twin.txm.objective import depth_of_field_um, zone_plate_otf
from npsi_twin.txm.optics import gaussian_mtf
from npsi_twin.txm.presets import MICROSCOPES, microscope_preset
from npsi_twin.txm.stage import StageRecipe

SEEDS = Seeds(3)


@pytest.mark.parametrize("name", MICROSCOPES)
def test_every_number_that_is_not_the_default_has_its_source(name):
    preset = microscope_preset(name)
    default = {leaf.path: leaf.value for leaf in describe(MicroscopeRecipe())}
    changed = {leaf.path for leaf in describe(preset.recipe) if leaf.value != default[leaf.path]}
    assert set(preset.sources) == changed
    for path, source in preset.sources.items():
        assert source.startswith(("stated", "inferred", "assumed")), path
    assert preset.name == name
    assert preset.reference


def test_unknown_microscopes_are_refused():
    with pytest.raises(ParameterError, match="aps-32-id-c-2018.*laboratory-8kev"):
        microscope_preset("xm-1")


def test_the_fine_zone_plate_has_too_little_depth_and_says_so():
    fine = microscope_preset("aps-32-id-c-16nm").recipe
    assert depth_of_field_um(16.0, 8.0) == pytest.approx(6.6, abs=0.05)
    small = fine.model_copy(
        update={
            "detector": fine.detector.model_copy(update={"rows": 2, "columns": 64}),
            "stage": fine.stage.model_copy(update={"views": 2}),
        }
    )
    lines = np.zeros((len(simulation_rows(small, range(2))), 2, 128), np.float32)
    with pytest.warns(OutOfRangeWarning, match="near and far side"):
        clear = expose(lines, small, range(2), seeds=SEEDS, projector="none").transmission
    np.testing.assert_allclose(clear, 1, atol=1e-5)


@pytest.mark.parametrize("along_rows", [True, False])
@pytest.mark.parametrize("period_nm", [80.0, 120.0, 200.0, 300.0])
def test_modulation_through_the_whole_chain(period_nm, along_rows):
    # A weak grating in a block, through projector, optics and the unbinned camera's pixels at 32-ID-C's settings; the
    # expected modulation is OTF x scintillator x mean of two fine samples. 2 %: as for the sine patterns of the optics'
    # tests, plus the second order of exp(-l), l < 0.02: 1 % of the constant, none of the modulation's ratio.
    microscope = MicroscopeRecipe(
        detector=DetectorRecipe(rows=48, columns=128, binning=1, flat_electrons=4000.0),
        stage=StageRecipe(views=1, run_out_across_nm=0.0, run_out_along_nm=0.0, axis_offset_px=0.0),
        halo_rows=32,
        allow_truncation=True,
    )
    grid, rows = simulation_grid(microscope), range(20, 28)
    fine = simulation_rows(microscope, rows)
    wave = grid.along_nm[fine.start : fine.stop] if along_rows else grid.across_nm
    pattern = 0.005 * (1 + 0.8 * np.cos(2 * np.pi * wave / period_nm))
    block = np.broadcast_to(pattern[:, None, None] if along_rows else pattern, (len(fine), *grid.shape[1:]))
    slab = (block * (np.abs(grid.height_nm)[:, None] < 1000)).astype(np.float32)
    absorbed = -np.log(acquire(slab, microscope, rows, seeds=SEEDS).transmission[0].astype(float))
    detector = microscope.detector
    if along_rows:
        line, place = absorbed[:, 64], (np.arange(20, 28) - 23.5) * detector.pixel_nm
    else:
        line, place = absorbed[4, 32:96], (np.arange(32, 96) - 63.5) * detector.pixel_nm
    phase = 2 * np.pi * place / period_nm
    design = np.stack([np.ones_like(phase), np.cos(phase), np.sin(phase)], axis=1)
    mean, cosine, sine = np.linalg.lstsq(design, line, rcond=None)[0]
    frequency = np.array(1 / period_nm)
    blur = gaussian_mtf(frequency, detector.blur_fwhm_px * detector.camera_pixel_nm)
    expected = zone_plate_otf(frequency, 60.0) * blur * np.cos(np.pi * grid.voxel_nm / period_nm)
    assert cosine / (0.8 * mean) == pytest.approx(float(expected), rel=0.02)
    assert abs(sine) < 0.01 * mean


def test_the_laboratory_has_few_photons_and_settles():
    laboratory = microscope_preset("laboratory-8kev").recipe
    small = laboratory.model_copy(
        update={
            "detector": laboratory.detector.model_copy(update={"rows": 2, "columns": 64}),
            "stage": laboratory.stage.model_copy(update={"views": 20}),
        }
    )
    lines = np.zeros((len(simulation_rows(small, range(2))), 20, 128), np.float32)
    exposure = expose(lines, small, range(2), seeds=SEEDS, projector="none")
    np.testing.assert_allclose(exposure.transmission, 1, atol=1e-5)
    # 54 photons / keV x 8.048 keV x 1.6 % x 0.8 x 0.6: 3.4 electrons a photon, and 880 photons in a flat pixel.
    camera = small.detector.at_energy(small.energy_kev)
    assert camera.electrons_per_photon == pytest.approx(3.3, abs=0.1)
    flats = exposure.scan.flats.astype(float) - exposure.scan.darks.mean()
    relative = flats.var(axis=0, ddof=1).mean() / flats.mean() ** 2
    assert relative == pytest.approx((1 + camera.electrons_per_photon) / 3150, rel=0.4)  # 128 pixels, 10 frames, drift
