import numpy as np
import pytest
from scipy.spatial import SphericalVoronoi
from scipy.special import erfinv

from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.pore_space import (
    closed_envelope,
    count_crossings,
    mean_chord_nm,
    specific_surface_per_um,
)


def ball(radius, box, centre=(0.3, -0.2, 0.1)):
    z, y, x = np.indices((box,) * 3, sparse=True)
    c = (box - 1) / 2 + np.array(centre)
    return (z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < radius**2


@pytest.mark.parametrize("directions", [3, 13])
@pytest.mark.parametrize("radius", [8, 12, 20])
def test_the_area_of_a_ball(radius, directions):
    area = count_crossings(ball(radius, 2 * radius + 6), None, 100.0, directions=directions).area_um2()
    assert area == pytest.approx(4 * np.pi * (radius / 10) ** 2, rel=0.02)


def test_the_area_converges_with_the_radius():
    def error(radius):
        shifts = np.random.default_rng(radius).uniform(-0.5, 0.5, (6, 3))
        areas = [count_crossings(ball(radius, 2 * radius + 6, s), None, 1e3).area_um2() for s in shifts]
        return abs(np.mean(areas) / (4 * np.pi * radius**2) - 1)

    assert error(24) < 0.5 * error(4)


def test_a_tilted_cylinder():
    z, y, x = np.indices((60, 60, 60))
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    r = np.stack([z, y, x]) - 29.5
    along = np.tensordot(axis, r, 1)
    off = np.sqrt((r**2).sum(0) - along**2)
    region = (np.abs(along) < 15) & (off < 24)
    inside = count_crossings(off < 10, region, 50.0)
    # region: cylinder of radius 24; area a volume = 2 pi 10 / (pi 24^2), the 13 directions see a line's
    # orientation to 1.5 % and the region's own border is digitised to 1 %
    assert inside.specific_surface_per_um() == pytest.approx(2 * 10 / 24**2 / 0.05, rel=0.03)


def test_planes_read_low_by_the_stated_share():
    layered = np.zeros((48, 48, 48), bool)
    layered[:, (np.arange(48) // 8) % 2 == 0] = True
    true = 5 / (47 * 0.05)  # five planes between the first and the last voxel centre
    assert specific_surface_per_um(layered, 50.0, directions=3) == pytest.approx(2 / 3 * true, rel=1e-12)
    assert specific_surface_per_um(layered, 50.0) == pytest.approx(0.93 * true, rel=0.005)


def test_a_level_cut_gaussian_field_has_the_surface_and_chords_of_theory(gaussian_field):
    n, wavelength, voxel = 128, 16.0, 50.0
    porosity = 0.604
    field = gaussian_field((n, n, n), wavelength, np.random.default_rng(11))
    solid = field > np.quantile(field, porosity)
    k = [2 * np.pi * np.fft.fftfreq(n)] * 2 + [2 * np.pi * np.fft.rfftfreq(n)]
    power = np.abs(np.fft.rfftn(field)) ** 2
    power[:, :, 1:-1] *= 2
    k2 = k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2][None, None, :] ** 2
    lambda2 = (power * k2).sum() / power.sum() / 3
    level = np.sqrt(2) * erfinv(2 * porosity - 1)
    theory = 2 / np.pi * np.sqrt(lambda2) * np.exp(-(level**2) / 2) / voxel * 1000
    # the realisation scatters by about 1 % at L / wavelength = 8 (morphology of Gaussian fields), counting adds 1 %
    found = specific_surface_per_um(solid, voxel)
    assert found == pytest.approx(theory, rel=0.03)
    assert mean_chord_nm(porosity, found) == pytest.approx(4 * porosity / theory * 1000, rel=0.03)


def test_a_gyroid(gaussian_field):
    n, cells = 96, 2
    u = np.arange(n) * 2 * np.pi * cells / n
    z, y, x = np.meshgrid(u, u, u, indexing="ij", sparse=True)
    solid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x) > 0
    # the gyroid's minimal surface has 3.0915 a^2 in a cell of edge a; the level surface differs by less than 0.1 %,
    # and the volume's last crossing may fall between the outermost voxels: 1 part in 2 * 48
    edge_um = n / cells * 0.05
    assert specific_surface_per_um(solid, 50.0) == pytest.approx(3.0915 / edge_um, rel=0.02)
    assert solid.mean() == pytest.approx(0.5, abs=0.01)


def test_the_weights_are_the_solid_angles_of_the_directions():
    offsets = np.array([o for o in np.ndindex(3, 3, 3) if o != (1, 1, 1)]) - 1
    unit = offsets / np.linalg.norm(offsets, axis=1)[:, None]
    cells = SphericalVoronoi(unit)
    cells.sort_vertices_of_regions()
    share = cells.calculate_areas() / (4 * np.pi)
    counted = count_crossings(np.zeros((3, 3, 3), bool), None, 1.0)
    for step, weight in zip(counted.steps_nm, counted.weights, strict=True):
        cell = share[np.isclose(np.linalg.norm(offsets, axis=1), step)]
        assert weight == pytest.approx(2 * cell[0], abs=2e-5)


def test_regions_and_degenerate_masks():
    mask = ball(8, 24)
    assert np.isnan(specific_surface_per_um(mask, 50.0, region=np.zeros_like(mask)))
    assert specific_surface_per_um(np.ones((4, 4, 4), bool), 50.0) == 0
    assert np.isnan(specific_surface_per_um(np.ones((1, 1, 1), bool), 50.0))
    assert np.isnan(mean_chord_nm(0.5, 0.0))
    with pytest.raises(IncompatibleError, match="Crop them alike"):
        count_crossings(mask, mask[:-1], 50.0)


def test_crossings_are_additive_over_slices(gaussian_field):
    mask = gaussian_field((32, 32, 32), 10, np.random.default_rng(0)) > 0
    whole = count_crossings(mask, None, 50.0)
    assert np.array_equal(whole.crossed[:, :31].sum(axis=1) + whole.crossed[:, 31], whole.crossed.sum(axis=1))
    upper = count_crossings(mask[:17], None, 50.0)
    assert np.array_equal(upper.crossed[:, :16], whole.crossed[:, :16])


def test_closing_fills_what_no_ball_reaches():
    shell = ball(20, 60) & ~ball(6, 60)
    assert np.array_equal(closed_envelope(shell, 6.5 * 50, 50.0), ball(20, 60))
    # a digital ball of 4 voxels does not reach every corner of a digital hole of 6: a few of its 905 voxels
    assert np.count_nonzero(closed_envelope(shell, 4 * 50, 50.0) & ~shell) < 0.1 * np.count_nonzero(ball(6, 60))
    two = ball(8, 60, (0, 0, -12)) | ball(8, 60, (0, 0, 12))
    assert np.count_nonzero(closed_envelope(two, 100.0, 50.0) & ~two) < 0.02 * np.count_nonzero(two)
    with pytest.raises(ParameterError):
        closed_envelope(two, -1.0, 50.0)


def test_what_lies_beyond_opens_no_body():
    lamellae = np.zeros((20, 20, 20), bool)
    lamellae[:, :, ::4] = True
    beyond = np.zeros_like(lamellae)
    beyond[:, 14:] = True
    closed = closed_envelope(lamellae & ~beyond, 150.0, 50.0, beyond=beyond)
    assert np.array_equal(closed[:, :, :17], ~beyond[:, :, :17])
    assert not (closed & beyond).any()


def test_closing_is_extensive_increasing_and_all_but_idempotent(gaussian_field):
    field = gaussian_field((40, 40, 40), 9, np.random.default_rng(2))
    small, large = field > 1.2, field > 0.9
    a, b = closed_envelope(small, 150, 50.0), closed_envelope(large, 150, 50.0)
    assert (a >= small).all()
    assert (b >= a).all()
    assert np.array_equal(closed_envelope(a, 150, 50.0), a)
