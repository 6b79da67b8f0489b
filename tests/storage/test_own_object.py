"""Objects of one's own: attenuation is conserved on any grid, labels become what their compounds attenuate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.materials.compounds import MATERIALS, attenuation_per_um
from npsi_twin.resampling import shares
from npsi_twin.storage.own_object import open_object, read_compounds
from npsi_twin.volumes import VoxelGrid

COMPOUNDS = """
[0]
name = "void"
attenuation_per_um = 0.0
[1]
formula = "Si"
density_g_per_cm3 = 2.329
[2]
material = "copper"
"""


@given(count=st.integers(1, 40), size=st.floats(1.0, 100.0), of_count=st.integers(1, 40), of_size=st.floats(1.0, 100.0))
@settings(max_examples=60, deadline=None)
def test_an_old_voxel_is_shared_out_whole(count, size, of_count, of_size):
    table = shares(count, size, of_count, of_size).toarray().astype(np.float64)
    # A new voxel is at most full; an old one inside the new block is shared out to the last bit of float32.
    assert table.min() >= 0
    assert table.sum(axis=1).max() <= 1 + 1e-5
    edges = (np.arange(of_count + 1) - of_count / 2) * of_size
    inside = (np.abs(edges[:-1]) <= count * size / 2) & (np.abs(edges[1:]) <= count * size / 2)
    np.testing.assert_allclose(table.sum(axis=0)[inside] * size, of_size, rtol=1e-4 + 1e-6 * count)


@pytest.fixture
def brought(tmp_path):
    """Give a function that saves an array and opens it as an object."""

    def bring(values, voxel_nm=60.0, **options):
        np.save(tmp_path / "o.npy", values)
        return open_object(tmp_path / "o.npy", 8.0, voxel_nm=voxel_nm, **options)

    return bring


@pytest.mark.parametrize("voxel_nm", [17.3, 25.4, 50.8, 120.0])
def test_the_integral_of_attenuation_is_conserved(brought, voxel_nm):
    values = np.random.default_rng(3).random((6, 9, 8)).astype(np.float32)
    found = brought(values, 60.0, unit="1/um")
    # The grid is larger than the object of 360 x 540 x 480 nm in every direction.
    sides = tuple(int(np.ceil(n * 60.0 / voxel_nm)) + 3 for n in values.shape)
    whole = found.attenuation_per_um(VoxelGrid(sides, voxel_nm), range(sides[0]))
    exact = values.sum(dtype=np.float64) * 60.0**3
    # Three sums of some ten terms in float32.
    assert whole.sum(dtype=np.float64) * voxel_nm**3 == pytest.approx(exact, rel=1e-6)


def test_the_same_lattice_gives_the_object_back_and_slabs_are_its_rows(brought):
    values = np.random.default_rng(3).random((6, 4, 4)).astype(np.float32)
    found = brought(values, 50.0, unit="1/um")
    grid = VoxelGrid((6, 4, 4), 50.0)
    np.testing.assert_allclose(found.attenuation_per_um(grid, range(6)), values, rtol=1e-6)
    fine = grid.refined(3)
    whole = found.attenuation_per_um(fine, range(18))
    np.testing.assert_array_equal(found.attenuation_per_um(fine, range(5, 11)), whole[5:11])
    # A coarse voxel is one value throughout.
    np.testing.assert_allclose(whole[::3, ::3, ::3], values, rtol=1e-6)


def test_units_are_stated_and_converted(brought):
    values = np.full((2, 2, 2), 100.0, np.float32)
    assert brought(values, unit="1/cm").read(range(1))[0, 0, 0] == pytest.approx(0.01)
    assert brought(values, unit="cm^-1").read(range(1))[0, 0, 0] == pytest.approx(0.01)
    with pytest.raises(DataError, match="factor of ten thousand.*--unit"):
        brought(values)
    with pytest.raises(DataError, match="unit 'furlong'"):
        brought(values, unit="furlong")


def test_labels_become_what_their_compounds_attenuate(brought, tmp_path):
    (tmp_path / "c.toml").write_text(COMPOUNDS)
    labels = np.array([[[0, 1], [2, 1]]], np.uint8)
    found = brought(labels, compounds=tmp_path / "c.toml")
    silicon, copper = attenuation_per_um("Si", 2.329, 8.0), MATERIALS["copper"].attenuation_per_um(8.0)
    np.testing.assert_allclose(found.read(range(1)), [[[0, silicon], [copper, silicon]]], rtol=1e-6)
    # One voxel over all four: their mean.
    mixed = found.attenuation_per_um(VoxelGrid((1, 1, 1), 120.0), range(1))
    assert mixed[0, 0, 0] == pytest.approx((2 * silicon + copper) / 8, rel=1e-6)  # half of its height is void


def test_what_is_no_attenuation_is_named_with_its_place(brought, tmp_path):
    for bad in (-1.0, np.nan, np.inf):
        values = np.zeros((2, 3, 4), np.float32)
        values[1, 2, 3] = bad
        with pytest.raises(DataError, match=r"\(z, y, x\) = \(1, 2, 3\)"):
            brought(values, unit="1/um").footprint()
    (tmp_path / "c.toml").write_text(COMPOUNDS)
    with pytest.raises(DataError, match=r"label\(s\) 7.*--compounds"):
        brought(np.full((2, 2, 2), 7, np.uint8), compounds=tmp_path / "c.toml").footprint()
    with pytest.raises(DataError, match="labels without compounds"):
        brought(np.ones((2, 2, 2), np.uint8))
    with pytest.raises(ParameterError, match="real numbers, but --compounds"):
        brought(np.ones((2, 2, 2)), compounds=tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[one]\nmaterial = 'copper'", "is no label"),
        ("[1]\nmaterial = 'unobtainium'", "known are silicon, copper"),
        ("[1]\nformula = 'Si'", "formula and density_g_per_cm3"),
        ("[1]\nformula = 'Xx'\ndensity_g_per_cm3 = 1.0", "cannot be read"),
        ("[1]\nattenuation_per_um = -1.0", "from 0"),
        ("[1]\nattenuation_per_um = nan", "from 0"),
        ("[1]\nattenuation_per_um = true", "numbers are needed"),
        ("[1]\ndensity = 1.0", "a table with some of"),
        ("1 = 2", "a table with some of"),
        ("", "names no label"),
        ("[1", "not valid TOML"),
    ],
)
def test_a_wrong_table_of_compounds_is_named(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ParameterError, match=message) as caught:
        read_compounds(tmp_path / "c.toml", 8.0)
    assert "c.toml" in str(caught.value)


def test_the_footprint_reaches_to_the_outer_corner(brought):
    values = np.zeros((3, 5, 5), np.float32)
    values[1, 2, 4] = 1.0
    footprint = brought(values, 10.0, unit="1/um").footprint()
    # The voxel's middle is at x = 20 nm, its outer corner at (25, 5).
    assert footprint.reach_nm == pytest.approx(np.hypot(25.0, 5.0))
    assert footprint.occupied.sum() == 1
