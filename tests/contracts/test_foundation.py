"""The words every wing shares: recipes, seeds, volumes, the scan."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.recipes import Recipe, describe, parameter
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import Volume, VoxelGrid


class Slit(Recipe):
    """A slit."""

    width_um: float = parameter(5.0, "slit width", unit="um", source="assumed", gt=0)
    open: bool = parameter(True, "whether it is open")


class Bench(Recipe):
    """A bench with a slit."""

    slit: Slit = Slit()
    places: int = parameter(2, "places", ge=1)


def test_a_recipe_is_frozen_hashable_and_strict():
    assert hash(Bench()) == hash(Bench())
    with pytest.raises(ValidationError):
        Bench().places = 3
    for wrong in ({"places": True}, {"places": 1.5}, {"place": 1}, {"slit": {"width_um": float("nan")}}):
        with pytest.raises(ValidationError):
            Bench.model_validate(wrong)


def test_a_digest_follows_the_values():
    assert Bench().digest() == Bench().digest()
    assert Bench(slit=Slit(width_um=5.1)).digest() != Bench().digest()


def test_describe_lists_every_leaf_with_unit_and_source():
    leaves = {leaf.path: leaf for leaf in describe(Bench())}
    assert list(leaves) == ["slit.width_um", "slit.open", "places"]
    assert leaves["slit.width_um"].unit == "um"
    assert leaves["slit.width_um"].source == "assumed"


def test_streams_are_repeatable_and_independent():
    seeds = Seeds(7)
    first = seeds.stream("photons", 3).standard_normal(20_000)
    again = seeds.stream("photons", 3).standard_normal(20_000)
    np.testing.assert_array_equal(first, again)
    for other in (seeds.stream("photons", 4), seeds.stream("flats", 3), Seeds(8).stream("photons", 3)):
        # Correlation of independent normals has standard deviation 1/sqrt(n) = 0.007; five of them.
        assert abs(np.corrcoef(first, other.standard_normal(20_000))[0, 1]) < 0.036


def test_streams_are_the_same_on_every_machine():
    draws = Seeds(42).stream("golden", 1, 2).integers(0, 2**63, 4).tobytes()
    assert hashlib.sha256(draws).hexdigest()[:16] == "bfb71af894e857fc"


@pytest.mark.parametrize("root", [-1, 1.5, True, "1"])
def test_a_seed_is_a_non_negative_integer(root):
    with pytest.raises(ParameterError, match="non-negative integer"):
        Seeds(root)


def test_a_refined_grid_covers_the_same_block():
    grid = VoxelGrid((3, 4, 5), 40.0)
    fine = grid.refined(2)
    np.testing.assert_allclose(fine.across_nm.reshape(-1, 2).mean(1), grid.across_nm)
    np.testing.assert_allclose(fine.height_nm.reshape(-1, 2).mean(1), grid.height_nm)
    np.testing.assert_allclose(fine.along_nm.reshape(-1, 2).mean(1), grid.along_nm)


def test_a_volume_is_read_only_and_three_dimensional():
    volume = Volume(np.zeros((2, 3, 4)), 10.0)
    with pytest.raises(ValueError, match="read-only"):
        volume.values[0] = 1
    with pytest.raises(IncompatibleError, match="3|dimensions"):
        Volume(np.zeros((2, 3)), 10.0)


def test_refining_a_beam_keeps_axis_and_shifts_in_place():
    beam = ParallelBeam(np.array([0.0, 1.0]), 10, 50.0, 4.25, np.array([0.5, -0.25]))
    fine = beam.refined(2)
    # Pixel coordinate c covers [c - 1/2, c + 1/2]; its place from the detector's edge is (c + 1/2) pixels.
    assert (fine.known_axis_px() + 0.5) * fine.pixel_nm == pytest.approx((4.25 + 0.5) * 50.0)
    np.testing.assert_allclose(fine.column_shift_px * fine.pixel_nm, beam.column_shift_px * beam.pixel_nm)


def test_a_beam_refuses_what_cannot_be():
    with pytest.raises(ParameterError, match="angles_rad"):
        ParallelBeam(np.array([0.0, np.nan]), 4, 10.0)
    with pytest.raises(IncompatibleError, match="column_shift_px"):
        ParallelBeam(np.array([0.0, 1.0]), 4, 10.0, 1.5, np.zeros(3))
    with pytest.raises(IncompatibleError, match="unknown"):
        ParallelBeam(np.array([0.0]), 4, 10.0).known_axis_px()


def test_a_scan_refuses_frames_that_do_not_fit():
    beam = ParallelBeam(np.array([0.0, 1.0]), 4, 10.0)
    counts, frame = np.ones((2, 3, 4), np.uint16), np.ones((1, 3, 4), np.uint16)
    assert Scan(counts, frame, frame, beam).rows == 3
    with pytest.raises(IncompatibleError, match="flats"):
        Scan(counts, np.ones((1, 2, 4), np.uint16), frame, beam)
    with pytest.raises(IncompatibleError, match="angles"):
        Scan(counts[:1], frame, frame, beam)


def test_import_is_light_and_quiet():
    """The package itself pulls in none of the heavy libraries and prints nothing."""
    code = (
        "import sys, npsi_twin, npsi_twin.cli;"
        "heavy = {'numpy', 'scipy', 'numba', 'h5py', 'matplotlib', 'skimage', 'porespy', 'astra', 'finufft'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_the_names_a_user_needs_are_loaded_when_asked_for():
    import npsi_twin

    for name in npsi_twin.__all__:
        assert getattr(npsi_twin, name).__module__.startswith("npsi_twin.")
    assert "run_twin" in dir(npsi_twin)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = npsi_twin.nonsense
