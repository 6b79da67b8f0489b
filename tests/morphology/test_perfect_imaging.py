"""Perfect imaging and a threshold at one half must leave nothing: the measurement's own blind bias."""

import numpy as np
import pytest

from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.morphology.segmentation import SegmentationRecipe, segment
from npsi_twin.volumes import Phase, Volume

VOXEL = 40.0
SILICON, COPPER = 0.0151, 0.0471


@pytest.fixture(scope="module")
def pair(gaussian_field):
    """Truth by the phase at voxel centres, and the attenuation of exact partial volumes: 3^3 points a voxel."""
    shape, fine = (48, 96, 48), 3
    field = gaussian_field(tuple(n * fine for n in shape), 12.0 * fine, np.random.default_rng(9))
    y = (np.arange(shape[1] * fine) + 0.5) / fine
    solid = (field > np.quantile(field, 0.6)) & ((y > 30.2) & (y < 70.0))[None, :, None]
    copper = np.broadcast_to((y >= 70.0)[None, :, None], solid.shape)
    grey = SILICON * solid + COPPER * copper
    mean = grey.reshape(48, 3, 96, 3, 48, 3).mean(axis=(1, 3, 5)).astype(np.float32)
    centre = (slice(1, None, 3),) * 3
    labels = np.where(copper[centre], Phase.CURRENT_COLLECTOR, np.where(solid[centre], Phase.SILICON, Phase.VOID))
    return Volume(labels.astype(np.uint8), VOXEL), Volume(mean, VOXEL)


def test_what_is_silicon_or_not_has_no_bias(pair):
    truth, image = pair
    recipe = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=200.0, tortuosity=True)
    segmentation = SegmentationRecipe(
        threshold_per_um=SILICON / 2, smoothing_sigma_voxels=0.0, foil_guard_nm=0.0, minimum_component_voxels=1
    )
    recovered = measure(segment(image, segmentation).labels, image, recipe)
    true = measure(truth, image, recipe)
    for name in (
        "thickness_silicon_um",
        "silicon_coverage",
        "silicon_volume_fraction",
        "porosity_layer",
        "porosity_particles",
        "porosity_macropores",
        "specific_surface_per_um",
        "specific_surface_particles_per_um",
        "pore_size_nm",
        "ligament_size_nm",
        "pore_chord_along_nm",
        "ligament_chord_upwards_nm",
        "local_thickness_pore_nm",
        "local_thickness_ligament_nm",
        "silicon_largest_body_share",
        "pore_largest_body_share",
        "silicon_on_foil_share",
        "pores_on_foil_share",
        "pores_open_share",
        "correlation_length_nm",
        "tortuosity_pores",
        "foil_contact_share",
        "silicon_areal_inventory_um",
    ):
        assert recovered[name].value == pytest.approx(true[name].value, rel=0.01), name
    # a count of handles: a thin strand more or less of some hundred
    assert recovered["euler_density_per_um3"].value == pytest.approx(true["euler_density_per_um3"].value, rel=0.05)
