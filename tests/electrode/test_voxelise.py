"""Truth of slabs: partial volumes, labels, independence of slabs and threads, convergence with the voxel."""

import pickle
from dataclasses import fields, replace

import numba
import numpy as np
import pytest

from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.heights import solid_heights
from npsi_twin.electrode.rasterise import rasterise
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.voxelise import specimen_grid, voxelise
from npsi_twin.errors import IncompatibleError
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import Phase, VoxelGrid

FRACTIONS = ("void", "silicon", "carbon_binder", "current_collector", "bismuth")
GRID = VoxelGrid((80, 130, 110), 50.0)


def arrays(composition):
    values = {f.name: getattr(composition, f.name) for f in fields(composition)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@pytest.fixture(scope="module")
def whole(block):
    return voxelise(block, GRID, range(80))


@pytest.mark.parametrize("rows", [range(0, 1), range(13, 30), range(79, 80), range(5, 5)])
def test_a_slab_alone_has_the_bits_of_the_whole(block, whole, rows):
    slab = arrays(voxelise(block, GRID, rows))
    for name, value in arrays(whole).items():
        np.testing.assert_array_equal(slab[name], value[rows.start : rows.stop], err_msg=name)


def test_threads_change_no_bit(block, whole):
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        single = arrays(voxelise(block, GRID, range(80)))
    finally:
        numba.set_num_threads(threads)
    for name, value in arrays(whole).items():
        np.testing.assert_array_equal(single[name], value, err_msg=name)


def test_a_scene_that_came_from_another_process_has_the_same_bits_and_compiles_nothing(block, whole):
    sent = pickle.loads(pickle.dumps(block))  # noqa: S301  our own
    slab = arrays(voxelise(sent, GRID, range(80)))
    for name, value in arrays(whole).items():
        np.testing.assert_array_equal(slab[name], value, err_msg=name)
    assert len(rasterise.signatures) == 1


def test_fractions_are_a_partition(whole):
    parts = [getattr(whole, f"{name}_fraction").astype(float) for name in FRACTIONS]
    assert min(part.min() for part in parts) >= 0
    # Four float32 roundings of numbers below one.
    np.testing.assert_allclose(sum(parts), 1.0, atol=3e-7)


def test_labels_follow_the_fractions(whole):
    pure = whole.silicon_fraction > 0.999
    assert (whole.phase[pure] == Phase.SILICON).all()
    assert (whole.phase[whole.current_collector_fraction > 0.501] == Phase.CURRENT_COLLECTOR).all()
    inside = whole.particle_id > 0
    assert set(np.unique(whole.phase[inside])) == {Phase.SILICON, Phase.VOID}
    assert set(np.unique(whole.phase[~inside])) == {Phase.VOID, Phase.CARBON_BINDER, Phase.CURRENT_COLLECTOR}
    # Pores carry their particle's number: 0.604 of the labelled envelope but for its surface voxels.
    assert 0.5 < (whole.phase[inside] == Phase.VOID).mean() < 0.7


def test_unresolved_silicon_is_never_called_void(block):
    # Ligaments of 262 nm are below two voxels of 140 nm.
    coarse = voxelise(block, VoxelGrid((28, 46, 40), 140.0), range(28))
    assert set(np.unique(coarse.phase[coarse.particle_id > 0])) == {Phase.UNRESOLVED_SILICON}


def test_volumes_converge_with_the_voxel(block):
    totals = []
    for grid in (VoxelGrid((160, 240, 220), 25.0), VoxelGrid((320, 480, 440), 12.5)):
        sums = np.zeros(len(FRACTIONS))
        for first in range(0, grid.shape[0], 40):
            slab = voxelise(block, grid, range(first, first + 40))
            sums += [getattr(slab, f"{name}_fraction").sum(dtype=float) for name in FRACTIONS]
        totals.append(sums / np.prod(grid.shape, dtype=float))
    # The requirement: 0.02 percentage points. Corners of envelopes are the largest error left, about 1e-5.
    np.testing.assert_allclose(totals[0], totals[1], atol=2e-4)


def test_outside_a_needle_there_is_nothing(needle):
    grid = VoxelGrid((20, 120, 120), 50.0)
    found = voxelise(needle, grid, range(20))
    radius = np.hypot(grid.height_nm[:, None] + 300, grid.across_nm - 400)
    assert (found.void_fraction[:, radius > 2550] == 1).all()
    assert (found.particle_id[:, radius > 2550] == 0).all()
    foil = (radius < 2400) & (grid.height_nm[:, None] < -500)
    assert (found.current_collector_fraction[:, foil] == 1).all()


def test_a_needle_is_cut_to_its_area(needle):
    # All foil: a circle of 50 voxels in partial volumes. A ramp instead of the true cut is off by up to 0.1 voxel
    # here and there, with either sign: over 314 rim voxels a few 1e-4 of the area.
    solid = replace(needle, foil=replace(needle.foil, mean_nm=3000.0), foil_thickness_nm=9000.0)
    area = voxelise(solid, VoxelGrid((20, 120, 120), 50.0), range(1)).current_collector_fraction.sum(dtype=float)
    assert area * 50.0**2 == pytest.approx(np.pi * 2500.0**2, rel=5e-4)


def test_the_layer_lies_on_the_foil_which_lies_below(block, whole):
    profile = whole.current_collector_fraction.mean(axis=(0, 2))
    assert profile[0] == 0
    assert profile[-1] > 0.9
    heights = solid_heights(whole, block, GRID)
    grid_layer = block.layer.on_rows(GRID.along_nm, GRID.across_nm, 50.0)
    # Tops lie on voxel edges, rounded by up to 25 nm and without bias; lower only where pores open to the top.
    difference = heights.all_solids_nm - grid_layer
    assert np.nanmedian(difference) == pytest.approx(0.0, abs=5.0)
    assert np.nanmean(np.abs(difference) < 26) > 0.7
    assert np.nanmax(difference) < 100
    assert (heights.silicon_nm <= heights.all_solids_nm)[np.isfinite(heights.silicon_nm)].all()


def test_lithium_is_that_of_the_particle(block):
    lithium = np.arange(block.particles.count) / block.particles.count
    aged = replace(block, particles=replace(block.particles, lithium_per_silicon=lithium))
    found = voxelise(aged, GRID, range(40, 44))
    sure = (found.particle_id > 0) & (found.silicon_fraction > 0.99)
    np.testing.assert_allclose(found.lithium_per_silicon[sure], lithium[found.particle_id[sure] - 1], rtol=1e-6)
    assert (found.lithium_per_silicon[found.silicon_fraction == 0] == 0).all()


def test_grids_beyond_the_scene_are_refused(block):
    with pytest.raises(IncompatibleError, match="length_um"):
        voxelise(block, VoxelGrid((81, 10, 10), 50.0), range(1))
    with pytest.raises(IncompatibleError, match="rows"):
        voxelise(block, GRID, range(70, 81))
    with pytest.raises(IncompatibleError, match="rows"):
        voxelise(block, GRID, range(0, 10, 2))
    other = voxelise(block, VoxelGrid((10, 10, 10), 50.0), range(10))
    with pytest.raises(IncompatibleError, match="grid"):
        solid_heights(other, block, GRID)


def test_specimen_grid_holds_the_specimen(needle, block):
    # The axis stays at the centre: 2 x (2500 + 500) nm for a needle whose axis stands 500 nm beside it.
    assert specimen_grid(needle, 25.0) == VoxelGrid((120, 240, 240), 25.0)
    grid = specimen_grid(block, 33.0)
    assert grid.voxel_nm <= 33.0
    assert grid.shape[0] * grid.voxel_nm == pytest.approx(4000.0)


def test_bismuth_fills_pores_and_spares_silicon():
    specimen = SpecimenRecipe(shape="block", width_um=3.0, length_um=3.0)
    clean, dirty = (
        build_electrode(ElectrodeRecipe(specimen=specimen, bismuth={"envelope_fraction": f}), seeds=Seeds(13))
        for f in (0.0, 0.015)
    )
    grid = VoxelGrid((120, 180, 120), 25.0)
    before, after = (voxelise(scene, grid, range(120)) for scene in (clean, dirty))
    np.testing.assert_array_equal(before.silicon_fraction, after.silicon_fraction)
    assert (before.bismuth_fraction == 0).all()
    # Beads keep clear of walls, so that none is lost to them; whole beads a particle and the cut sides scatter by 10 %.
    envelope = before.silicon_fraction.sum(dtype=float) / 0.396
    assert after.bismuth_fraction.sum(dtype=float) / envelope == pytest.approx(0.015, rel=0.1)
    beads, radius = dirty.bismuth.places_nm, dirty.bismuth.radius_nm
    assert len(beads) * 4 / 3 * np.pi * radius**3 == pytest.approx(0.015 * dirty.particles.envelope_nm3.sum(), rel=0.02)
