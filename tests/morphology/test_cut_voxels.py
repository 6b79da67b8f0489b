"""What the foil's surface cuts is known exactly where nothing blurs, and left alone where something does."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from npsi_twin.morphology.collector import find_collector
from npsi_twin.morphology.cut_voxels import resolve_foil
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.volumes import Phase, Volume

VOXEL, SILICON, COPPER = 40.0, 0.0151, 0.0471
SHAPE, FINE = (24, 48, 40), 9


def cut_image(shape=SHAPE):
    """Return the image of a tilted foil under walls of silicon, exact in its partial volumes, and the truth of both."""
    nz, ny, nx = shape
    z, x = (np.arange(n * FINE) / FINE for n in (nz, nx))
    surface = 30.3 + 0.03 * z[:, None] + 0.07 * x
    below = np.clip(np.arange(ny)[:, None] + 0.5 - surface[:, None], 0.0, 1.0)
    share = below.reshape(nz, FINE, ny, nx, FINE).mean(axis=(1, 4))
    walls = (np.arange(nx) // 8 % 2 == 1) & (np.arange(ny) > 10)[:, None]
    grey = (1 - share) * SILICON * walls + share * COPPER
    labels = np.where(share >= 0.5, Phase.CURRENT_COLLECTOR, np.where(walls, Phase.SILICON, Phase.VOID))
    middle = surface.reshape(nz, FINE, nx, FINE).mean(axis=(1, 3))
    return Volume(grey.astype(np.float32), VOXEL), Volume(labels.astype(np.uint8), VOXEL), middle


def is_left_as_it_is(image):
    collector = find_collector(image)
    layer, foil = resolve_foil(image, collector)
    return layer is image and foil is collector


def test_surface_and_layer_are_those_that_were_drawn():
    image, labels, surface = cut_image()
    layer, foil = resolve_foil(image, find_collector(image))
    row = (SHAPE[1] - 1) / 2 - foil.surface_nm / VOXEL
    assert np.abs(row - surface).max() < 0.02
    assert np.array_equal(foil.foil, labels.values == Phase.CURRENT_COLLECTOR)
    drawn = np.where(labels.values == Phase.SILICON, SILICON, 0.0)
    # An error of s is multiplied by P / (1 - s) and 1 + 1.5, hence by 0.24 / um where s is a half.
    assert np.abs(layer.values - drawn)[labels.values != Phase.CURRENT_COLLECTOR].max() < 0.02 * 0.24


@pytest.mark.parametrize("shape", [SHAPE, (1, 48, 40)])
def test_cut_voxels_are_told_from_silicon_where_no_band_guards_them(shape):
    image, labels, _ = cut_image(shape)
    recipe = SegmentationRecipe(
        threshold_per_um=SILICON / 2, smoothing_sigma_voxels=0.0, foil_guard_nm=0.0, minimum_component_voxels=1
    )
    void = labels.values == Phase.VOID
    assert np.count_nonzero(image.values[void] > SILICON / 2) > 0
    assert np.array_equal(segment(image, recipe).labels.values, labels.values)


@pytest.mark.parametrize(("blur", "noise"), [(0.5, 0.0), (0.7, 0.0), (0.0, 0.1 * COPPER), (0.7, 0.1 * COPPER)])
def test_an_image_that_is_not_sharp_is_left_as_it_is(blur, noise):
    image, _, _ = cut_image()
    values = ndimage.gaussian_filter(image.values, blur) + noise * np.random.default_rng(3).standard_normal(SHAPE)
    assert is_left_as_it_is(Volume(values.astype(np.float32), VOXEL))


def test_a_foil_that_ends_at_faces_of_voxels_cuts_nothing():
    _, labels, _ = cut_image()
    grey = np.select([labels.values == Phase.SILICON, labels.values == Phase.CURRENT_COLLECTOR], [SILICON, COPPER])
    assert is_left_as_it_is(Volume(grey.astype(np.float32), VOXEL))


def test_a_foil_without_a_free_surface_is_left_as_it_is():
    image, _, _ = cut_image()
    hidden = replace(find_collector(image), surface_nm=np.full((SHAPE[0], SHAPE[2]), np.nan))
    assert resolve_foil(image, hidden) == (image, hidden)
