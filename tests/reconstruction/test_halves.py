import numpy as np
import pytest

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.reconstruction.correction_recipe import CorrectionRecipe
from npsi_twin.reconstruction.halves import half_scan, noise_map, reconstruct_halves
from npsi_twin.reconstruction.reprojection import AlignmentRecipe
from npsi_twin.reconstruction.rings import RingRecipe
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.scan import ParallelBeam, Scan

PLAIN = ReconstructionRecipe(algorithm="fbp", rings=RingRecipe(method="none"))


def counted(beam, mean, seed):
    frames = np.random.default_rng(seed).poisson(mean).astype(np.float64)
    flat = np.full((1, *mean.shape[1:]), 2000.0)
    return Scan(frames, flat, np.zeros_like(flat), beam)


def test_noise_map_is_the_scatter_of_repeated_scans():
    """A disk: noise from one scan's halves against the scatter of 24 scans, means over disk and air to 10 %.

    The scatter of 24 is known to 1 / sqrt(46) a voxel, a per cent over hundreds of voxels; halves' own streaks of
    too few views are below the noise at 240 views of 48 columns.
    """
    beam = ParallelBeam(np.pi * np.arange(240) / 240, 48, 100.0)
    place = np.clip(1 - ((np.arange(48) - 23.5) / 14) ** 2, 0, None)
    mean = np.broadcast_to(2000 * np.exp(-1.5 * np.sqrt(place)), (240, 1, 48))
    scans = [counted(beam, mean, seed) for seed in range(24)]
    plan = prepare(scans[0], PLAIN, axis=23.5)
    scatter = np.std([reconstruct(scan, PLAIN, plan=plan).volume.values[0] for scan in scans], axis=0, ddof=1)
    maps = [noise_map(*reconstruct_halves(scan, PLAIN, plan)).sigma.values[0] for scan in scans[:4]]
    told = np.sqrt(np.mean(np.square(maps), axis=0))
    distance = np.hypot(*np.meshgrid(*[np.arange(48) - 23.5] * 2))
    for part in (distance < 8, (distance > 17) & (distance < 21)):
        assert told[part].mean() == pytest.approx(np.sqrt(np.mean(scatter[part] ** 2)), rel=0.1)


def test_halves_keep_what_was_found_for_the_whole(needle, counts):
    integrals, beam = needle(columns=64, views=80, axis=30.6, fill=0.7)
    scan = counts(integrals, beam)
    recipe = ReconstructionRecipe(
        sirt_iterations=5,
        corrections=CorrectionRecipe(air_columns_px=4),
        alignment=AlignmentRecipe(method="reprojection", iterations=2),
    )
    plan = prepare(scan, recipe)
    first, second = reconstruct_halves(scan, recipe, plan)
    assert first.axis == second.axis == plan.axis
    whole = reconstruct(scan, recipe, plan=plan).volume.values
    mean = (first.volume.values + second.volume.values) / 2
    inside = np.hypot(*np.meshgrid(*[np.arange(64) - 31.5] * 2)) < 28
    # The mean of the halves' reconstructions differs by their streaks of 40 views and the filters' step only.
    assert np.abs((mean - whole)[0][inside]).mean() < 0.1 * np.abs(whole[0][inside]).mean()


def test_a_half_knows_when_its_flats_were_taken():
    beam = ParallelBeam(np.arange(7.0), 2, 50.0, column_shift_px=np.arange(7.0))
    flats = np.ones((3, 1, 2))
    current = np.arange(1.0, 8.0)
    scan = Scan(np.ones((7, 1, 2)), flats, flats, beam, flat_views=np.array([0, 3, 7]), view_current_ma=current)
    even, odd = half_scan(scan, 0), half_scan(scan, 1)
    assert even.flat_views.tolist() == [0, 2, 4]
    assert odd.flat_views.tolist() == [0, 1, 3]
    assert odd.view_current_ma.tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(DataError, match="at least 4"):
        half_scan(Scan(np.ones((3, 1, 2)), flats, flats, ParallelBeam(np.arange(3.0), 2, 50.0)), 0)


def test_maps_of_different_scans_are_refused(needle, counts):
    made = [reconstruct(counts(*needle(columns=n, views=40)), PLAIN, axis=n / 2) for n in (32, 40)]
    with pytest.raises(IncompatibleError, match="halves of one scan"):
        noise_map(*made)
