"""A simulated scan with every artefact of the microscope on, reconstructed by what a real one would be given.

The truth is looked at by the tests only. Sixteen rows of a block with round inclusions, a transmission of one half.
"""

from dataclasses import replace

import numpy as np
import pytest

from npsi_twin.comparison.resolution import shell_correlation
from npsi_twin.comparison.stage_accuracy import StageAccuracy, StageMotion, stage_accuracy
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.corrections import illumination_of
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe, acquire, simulation_grid, simulation_rows, stage_truth
from npsi_twin.txm.stage import StageRecipe
from npsi_twin.volumes import Volume

pytestmark = pytest.mark.filterwarnings("ignore::npsi_twin.errors.OutOfRangeWarning")

ROWS, COLUMNS, VIEWS, PIXEL_NM = 16, 256, 300, 50.8
#: Frames of flats before the scan and as many after it.
FLATS = 10
MICROSCOPE = MicroscopeRecipe(
    detector=DetectorRecipe(
        rows=ROWS,
        columns=COLUMNS,
        flat_frames=FLATS,
        flat_frames_after=FLATS,
        dark_frames=FLATS,
        gain_drift_spread=0.01,
        zinger_fraction=1e-4,
        dead_pixel_fraction=3e-4,
        hot_pixel_fraction=3e-4,
    ),
    stage=StageRecipe(
        views=VIEWS,
        include_last=False,
        axis_offset_px=7.3,
        axis_tilt_deg=0.3,
        run_out_across_nm=0.3 * PIXEL_NM,
        run_out_along_nm=0.3 * PIXEL_NM,
        drift_across_nm=1.5 * PIXEL_NM,
        drift_along_nm=PIXEL_NM,
    ),
    beam=BeamRecipe(structure_contrast=0.03, structure_size_um=2.0, structure_drift_um=0.3, lifetime_h=2.0),
)
CLEAN = MICROSCOPE.model_copy(
    update={
        "detector": MICROSCOPE.detector.model_copy(
            update=dict.fromkeys(
                ("gain_drift_spread", "zinger_fraction", "dead_pixel_fraction", "hot_pixel_fraction"), 0.0
            )
        )
    }
)


def recipe(rings="muench"):
    """What somebody asks for who sees zingers, and a stage that does not hold still."""
    return ReconstructionRecipe(
        algorithm="fbp",
        # Gains differ between the flats before and after: by their mean the stripes last, which the filter is made for.
        corrections=CorrectionRecipe(air_columns_px=20, zinger_excess=0.15),
        rings=RingRecipe(method=rings),
        alignment=AlignmentRecipe(method="reprojection", rows=True),
    )


@pytest.fixture(scope="module")
def sample():
    """Attenuation of the fine rows, per um: an elliptic column and 150 balls, lighter and denser."""
    grid, rows = simulation_grid(MICROSCOPE), simulation_rows(MICROSCOPE, range(ROWS))
    rng, width = np.random.default_rng(3), grid.shape[1]
    radius, middle = 0.35 * width, (width - 1) / 2
    y, x = np.mgrid[:width, :width] - middle
    slab = np.zeros((len(rows), width, width), np.float32)
    slab[:] = np.where(np.hypot(x / 0.95, (y + 0.05 * width) / 0.8) < radius, 0.04, 0.0)
    for _ in range(150):
        size, height = radius * rng.uniform(0.03, 0.12), rng.uniform(-5, grid.shape[0] + 5)
        place, value = radius * rng.uniform(-0.55, 0.55, 2), 0.04 + 0.08 * rng.choice([-0.4, 1.0])
        box = tuple(slice(int(p + middle - size - 1), int(p + middle + size + 3)) for p in place[::-1])
        apart = (x[box] - place[0]) ** 2 + (y[box] - place[1]) ** 2
        for row in range(max(0, int(height - size)), min(len(rows), int(height + size) + 2)):
            slab[row][box][apart + (row - height) ** 2 < size**2] = value
    return slab


def scanned(sample, microscope, seed):
    scan = acquire(sample, microscope, range(ROWS), seeds=Seeds(seed)).scan
    return replace(scan, flat_views=np.repeat([0, VIEWS], FLATS))


def found_of(plan, scan, seed) -> StageAccuracy:
    truth = stage_truth(MICROSCOPE, seeds=Seeds(seed))
    true = StageMotion(truth.rotation_axis_px, truth.axis_tilt_rad, truth.column_shift_px, truth.row_shift_px)
    found = StageMotion(plan.axis.px, 0.0, plan.alignment.column_shift_px, plan.alignment.row_shift_px)
    return stage_accuracy(true, found, scan.beam.angles_rad)


def test_axis_and_run_out_are_found_with_every_artefact_on(sample):
    """The issue's requirement: axis to 0.1 px over two draws; run-out to 0.3 px rms, and to a third of what it was."""
    axis = []
    for seed in range(2):
        scan = scanned(sample, MICROSCOPE, seed)
        accuracy = found_of(prepare(scan, recipe()), scan, seed)
        axis.append(accuracy.axis_error_px)
        assert accuracy.run_out_left_rms_px < min(0.3, accuracy.run_out_rms_px / 3)
        assert accuracy.row_run_out_left_rms_px < min(0.3, accuracy.row_run_out_rms_px / 3)
    assert np.sqrt(np.mean(np.square(axis))) < 0.1


def test_stripes_go_tenfold_and_the_sample_stays(sample):
    """Energy of stripes in the air beside the sample; correlation with the truth up to a quarter of a cycle a voxel."""
    full, clean = (scanned(sample, microscope, 1) for microscope in (MICROSCOPE, CLEAN))
    plan = prepare(full, recipe())
    of_clean = replace(plan, illumination=illumination_of(clean, recipe().corrections))

    def slices(scan, rings):
        return reconstruct(scan, recipe(rings), plan=plan if scan is full else of_clean).volume

    distance = np.hypot(*np.mgrid[:COLUMNS, :COLUMNS] - (COLUMNS - 1) / 2)
    air = (distance > 95) & (distance < 110)

    def energy(striped, without):
        return float(np.mean((striped.values - without.values)[:, air] ** 2))

    untouched, filtered = slices(clean, "none"), slices(full, "muench")
    assert energy(filtered, slices(clean, "muench")) < 0.1 * energy(slices(full, "none"), untouched)
    halo = MICROSCOPE.halo_rows * MICROSCOPE.supersampling
    fine = sample[halo:-halo].reshape(ROWS, 2, COLUMNS, 2, COLUMNS, 2)
    truth = Volume(fine.mean(axis=(1, 3, 5)), PIXEL_NM)
    quarter_per_um = 0.25 * 1000 / PIXEL_NM
    kept, at_best = (shell_correlation(volume, truth).mean(quarter_per_um) for volume in (filtered, untouched))
    assert kept > 0.95 * at_best
