"""Mean counts: what many noisy frames scatter about."""

import numpy as np
import pytest

from npsi_twin.errors import IncompatibleError
from npsi_twin.seeds import Seeds
from npsi_twin.txm.beam import BeamRecipe
from npsi_twin.txm.detector import DetectorRecipe
from npsi_twin.txm.microscope import MicroscopeRecipe, scan_light
from npsi_twin.txm.noise_free import noise_free_scan
from npsi_twin.txm.recording import count_variance, record_darks, record_flats, record_projections
from npsi_twin.txm.stage import StageRecipe

CAMERA = DetectorRecipe(rows=2, columns=60, flat_frames=400, dark_frames=400, drifting_pixel_fraction=0.1)
BEAM = BeamRecipe(structure_contrast=0.03, structure_shake_um=0.2, lifetime_h=2.0)
MICROSCOPE = MicroscopeRecipe(detector=CAMERA, beam=BEAM, stage=StageRecipe(views=400))


def test_noisy_counts_scatter_about_the_mean_counts_as_the_camera_says():
    seen = np.full((400, 2, 60), 0.4, np.float32)
    seeds, rows = Seeds(5), range(2)
    light = scan_light(MICROSCOPE, rows, seeds=seeds)
    mean = noise_free_scan(seen, MICROSCOPE, rows, seeds=seeds)
    noisy = (
        record_projections(seen, light.views, CAMERA, rows, seeds=seeds),
        record_flats(light.flats, light.later_flats, CAMERA, rows, seeds=seeds),
        record_darks(CAMERA, rows, seeds=seeds),
    )
    dark = mean.darks[0]
    for counts, expected in zip(noisy, (mean.projections, mean.flats, mean.darks), strict=True):
        signal = np.maximum(np.broadcast_to(expected, counts.shape) - dark, 0)
        pull = (counts - expected) / np.sqrt(count_variance(signal, CAMERA))
        # 48 000 draws of unit variance: their mean is known to 0.0046, their deviation to 0.0032; five times that.
        assert abs(pull.mean()) < 0.023
        assert pull.std() == pytest.approx(1, abs=0.02)


def test_transmission_of_other_views_is_refused():
    with pytest.raises(IncompatibleError, match="noise_free_scan"):
        noise_free_scan(np.ones((3, 2, 60), np.float32), MICROSCOPE, range(2), seeds=Seeds(5))
