import numpy as np
import pytest

from npsi_twin.errors import DataError, MissingBackendError, ParameterError
from npsi_twin.projectors.choice import choose_projector
from npsi_twin.reconstruction import tomopy_route
from npsi_twin.reconstruction.algorithms import fbp
from npsi_twin.reconstruction.route import ReconstructionRecipe, prepare, reconstruct
from npsi_twin.reconstruction.tomopy_route import has_tomopy, reconstruct_by_tomopy

needs_tomopy = pytest.mark.skipif(not has_tomopy(), reason="TomoPy is not installed: conda-forge, environment.yml")


@needs_tomopy
@pytest.mark.parametrize("algorithm", ["gridrec", "sirt-fbp", "sirt"])
def test_tomopy_shows_the_same_slice(needle, counts, algorithm):
    """Same place and orientation: correlation, since gridrec's gain is known to be off and its middle half a voxel."""
    integrals, beam = needle(columns=96, views=120, fill=0.7)
    made = reconstruct_by_tomopy(counts(integrals, beam), 47.5, algorithm)
    ours = fbp(integrals, choose_projector("fourier", beam, 96))
    inside = np.hypot(*np.meshgrid(*[np.arange(96) - 47.5] * 2)) < 40
    assert np.corrcoef(made.volume.values[0][inside], ours[0][inside])[0, 1] > 0.8
    assert made.made_by.backend.startswith("tomopy ")


@needs_tomopy
def test_filters_keep_their_scale_in_gridrec(needle, counts):
    """SIRT's filters let low frequencies through as the ramp does, so that both slices have one mean to 3 %."""
    scan = counts(*needle(columns=96, views=120, fill=0.7))
    inside = np.hypot(*np.meshgrid(*[np.arange(96) - 47.5] * 2)) < 30
    ramp, sirt = (reconstruct_by_tomopy(scan, 47.5, name).volume.values[0] for name in ("gridrec", "sirt-fbp"))
    assert abs(sirt[inside].mean() / ramp[inside].mean() - 1) < 0.03


@needs_tomopy
def test_the_route_is_a_route_like_any_other(needle, counts):
    scan = counts(*needle(columns=96, views=120, fill=0.7))
    recipe = ReconstructionRecipe(route="tomopy", algorithm="fbp", rotation_axis_px=47.5)
    made = reconstruct(scan, recipe)
    direct = reconstruct_by_tomopy(scan, 47.5, "gridrec")
    np.testing.assert_array_equal(made.volume.values, direct.volume.values)
    assert made.made_by.backend.startswith("tomopy ")
    assert made.removed_mean.shape == (scan.rows, 96)


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "tv"},
        {"width_px": 32},
        {"field_edges": "extend"},
        {"alignment": {"tilt": "fit"}},
        {"rings": {"method": "none"}},
        {"corrections": {"zinger_excess": 0.2}},
    ],
)
def test_what_its_sequence_does_not_do_is_refused(needle, counts, monkeypatch, change):
    monkeypatch.setattr(tomopy_route, "has_tomopy", lambda: True)
    recipe = ReconstructionRecipe.model_validate({"route": "tomopy"} | change)
    with pytest.raises(ParameterError, match="has no such step"):
        prepare(counts(*needle(columns=32, views=20)), recipe)


@pytest.mark.skipif(has_tomopy(), reason="TomoPy is installed")
def test_a_route_without_tomopy_is_told(needle, counts):
    with pytest.raises(MissingBackendError, match="conda-forge"):
        prepare(counts(*needle(columns=32, views=20)), ReconstructionRecipe(route="tomopy"))


@pytest.mark.skipif(has_tomopy(), reason="TomoPy is installed")
def test_a_missing_tomopy_is_told(needle, counts):
    with pytest.raises(MissingBackendError, match="conda-forge"):
        reconstruct_by_tomopy(counts(*needle(columns=32, views=20)), 15.5)


def test_answers_that_cannot_be_are_refused():
    good = np.ones((2, 4, 4), np.float32)
    np.testing.assert_array_equal(tomopy_route._checked(good, (2, 4, 4)), good)
    with pytest.raises(DataError, match="returned"):
        tomopy_route._checked(good, (4, 2, 4))
    holed = good.copy()
    holed[0, 1, 1] = np.nan
    with pytest.raises(DataError, match="1 of 32 voxels"):
        tomopy_route._checked(holed, (2, 4, 4))
    with pytest.raises(DataError, match=r"rows \[1\] came back empty"):
        tomopy_route._checked(np.stack([good[0], 0 * good[0]]), (2, 4, 4))
