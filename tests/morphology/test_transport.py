import numpy as np
import pytest

from npsi_twin.errors import NotConvergedError
from npsi_twin.morphology import transport
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.morphology.transport import tortuosity_factor
from npsi_twin.volumes import Phase, Volume


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_open_box_and_straight_channels(axis):
    assert tortuosity_factor(np.ones((5, 6, 7), bool), axis) == pytest.approx(1.0, abs=1e-4)
    channels = np.zeros((8, 8, 8), bool)
    np.moveaxis(channels, axis, 0)[:, ::3, 1::2] = True
    assert tortuosity_factor(channels, axis) == pytest.approx(1.0, abs=1e-4)
    blocked = channels.copy()
    np.moveaxis(blocked, axis, 0)[4] = False
    assert np.isnan(tortuosity_factor(blocked, axis))


def test_a_zigzag_has_the_resistance_of_its_cells():
    # one voxel wide: five voxels up, three across and four up are 12 in series, half a voxel at either end included,
    # between faces 9 voxels apart in an area of 4 x 1
    path = np.zeros((9, 1, 4), bool)
    path[:5, 0, 0] = path[4, 0, :] = path[4:, 0, 3] = True
    cells = 12
    effective = 1 / cells * 9 / 4
    assert tortuosity_factor(path, 0) == pytest.approx(path.mean() / effective, rel=1e-3)


def test_layers_in_series_and_dead_ends():
    # a plate with a hole resists by itself; a closed pore adds to the fraction and conducts nothing
    wall = np.zeros((6, 4, 4), bool)
    wall[:, :2] = True
    closed = wall.copy()
    closed[2:4, 3, 1:3] = True
    assert tortuosity_factor(closed, 0) == pytest.approx(closed.mean() / 0.5, rel=1e-3)


def test_a_lattice_of_cylinders():
    """Across insulating cylinders on a square lattice (Rayleigh; Perrins et al. 1979)."""
    f = np.pi * 0.09
    effective = 1 - 2 * f / (1 + f - 0.305827 * f**4 - 0.013362 * f**8)
    error = {}
    for cell in (40, 80):
        y, x = np.indices((cell, cell)) - (cell - 1) / 2
        fluid = np.broadcast_to(np.hypot(y, x) >= 0.3 * cell, (2, cell, cell))
        error[cell] = tortuosity_factor(fluid, 1) * effective / (1 - f) - 1
        assert tortuosity_factor(fluid, 0) == pytest.approx(1.0, abs=1e-4)
    # a rough cylinder resists like one wider by a share of a voxel: the error halves with the voxel
    assert 0 < error[80] < error[40] < 0.03
    assert error[40] / error[80] == pytest.approx(2.0, abs=0.3)


def test_no_steady_flow_is_an_error_and_a_reason(monkeypatch, gaussian_field):
    monkeypatch.setattr(transport, "_MOST_ITERATIONS", 2)
    mask = gaussian_field((24, 24, 24), 10.0, np.random.default_rng(0)) > 0
    with pytest.raises(NotConvergedError, match="smaller volume"):
        tortuosity_factor(mask, 0)
    labels = Volume(mask.astype(np.uint8), 50.0)
    found = measure(labels, None, MeasurementRecipe(tortuosity=True))
    assert "smaller volume" in found["tortuosity_pores"].note


def test_through_a_layer_on_its_foil():
    values = np.zeros((6, 30, 12), np.uint8)
    values[:, 20:] = Phase.CURRENT_COLLECTOR
    values[:, 6:20, ::2] = Phase.SILICON
    recipe = MeasurementRecipe(tortuosity=True, edge_margin_nm=0.0)
    found = measure(Volume(values, 50.0), None, recipe)
    assert found["tortuosity_silicon"].value == pytest.approx(1.0, abs=1e-4)
    assert found["tortuosity_pores"].value == pytest.approx(1.0, abs=1e-4)
    assert "14 rows" in found["tortuosity_pores"].note
    values[:, 10] = np.where(values[:, 10] == Phase.VOID, Phase.CARBON_BINDER, values[:, 10])
    found = measure(Volume(values, 50.0), None, recipe)
    assert found["tortuosity_pores"].note == "no path of pores leads through the layer"
    assert measure(Volume(values, 50.0))["tortuosity_pores"].note == "not asked for (tortuosity = false)"
