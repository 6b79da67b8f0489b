"""Figures of states: what is cut where, what is written beside the paper's numbers, and that a lost layer is drawn."""

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from skimage.color import rgb2lab

from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.report.ray_casting import FOIL, SILICON
from npsi_twin.report.rendering import Rendering, RenderingRecipe
from npsi_twin.report.sheet import ATTENUATION_COLOURS, FOIL_GREY, LARGEST_ATTENUATION, painted, painted_section
from npsi_twin.report.state_figures import (
    CapacityCurve,
    attenuation_profiles_figure,
    capacity_figure,
    sections_figure,
    seven_states_figure,
    thickness_bars_figure,
)
from npsi_twin.report.state_picture import Section, StatePictureRecipe, picture_state
from npsi_twin.seeds import Seeds
from npsi_twin.txm.contrast import contrast
from npsi_twin.volumes import Phase, Volume, VoxelGrid

VOXEL_NM, COPPER_PER_UM = 100.0, 0.05
SHAPE, FOIL_ROW = (16, 90, 40), 60
RECIPE = StatePictureRecipe(
    rendering=RenderingRecipe(pixel_nm=200.0, samples_per_edge=1, smoothing_nm=80.0),
    measurement=MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=0.0, crofton_directions=3),
)


def _state(name, rows_of_silicon, normalised=0.2, *, tilt_rows=0.0, gradient=0.0):
    """A slab of silicon above a foil; its attenuation may grow with height, and the foil's surface along z."""
    z, y, _ = np.indices(SHAPE)
    surface = FOIL_ROW - 0.5 - tilt_rows * (z / (SHAPE[0] - 1) - 0.5)  # row coordinate of the foil's surface
    copper = np.clip(y + 0.5 - surface, 0, 1)
    silicon = np.where((surface - y <= rows_of_silicon) & (copper == 0), 1.0, 0.0)
    phase = np.where(copper > 0.5, Phase.CURRENT_COLLECTOR, np.where(silicon > 0, Phase.SILICON, Phase.VOID))
    nothing = np.zeros(SHAPE, np.float32)
    composition = SimpleNamespace(
        phase=phase.astype(np.uint8), silicon_fraction=silicon.astype(np.float32), bismuth_fraction=nothing,
        current_collector_fraction=copper.astype(np.float32), void_fraction=(1 - copper - silicon).astype(np.float32),
        voxel_nm=VOXEL_NM,
    )  # fmt: skip
    height_um = (surface - y) * VOXEL_NM / 1000
    attenuation = COPPER_PER_UM * (copper + silicon * (normalised + gradient * height_um))
    attenuation = attenuation.astype(np.float32)
    measured = measure(Volume(composition.phase, VOXEL_NM), Volume(attenuation, VOXEL_NM), RECIPE.measurement)
    return picture_state(name, composition, attenuation, measured, RECIPE)


@pytest.fixture(scope="module")
def states():
    return [
        _state("pristine", 20),
        _state("1000/2nd-lithiation", 40, 0.07),
        _state("1000/500", 50, 0.05),
        _state("1000/1556", 20, 0.05),
        _state("2000/1st-lithiation", 48, 0.1),
        _state("2000/100", 30, 0.1),
        _state("2000/460", 0),
    ]


def _texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


@pytest.mark.parametrize("tilt_rows", [0.0, 3.0])
def test_the_parallel_section_lies_at_its_height_above_the_foil_s_plane(tilt_rows):
    gradient = 0.1
    values = _state("tilted", 30, gradient=gradient, tilt_rows=tilt_rows).parallel.normalised_attenuation
    # Labels round the foil's surface to whole voxels, evenly over a tilt of three: the plane is off by at most half a
    # voxel for the flat foil, whose label begins half a voxel above its surface, and 0.3 voxels at a tilt's ends.
    np.testing.assert_allclose(values, 0.2 + gradient * 0.972, atol=gradient * 0.6 * VOXEL_NM / 1000)
    # Interpolated between rows: a section of the nearest row would vary by a whole voxel's step over the tilt.
    assert np.ptp(values) < 0.5 * gradient * VOXEL_NM / 1000 * max(tilt_rows, 0.01)


def test_the_perpendicular_section_counts_from_the_foil(states):
    section = states[0].perpendicular
    rows = np.flatnonzero(section.normalised_attenuation[:, 0] > 0.1)
    top_um = section.extent_um[3] - rows[0] * VOXEL_NM / 1000
    assert top_um == pytest.approx(2.0, abs=VOXEL_NM / 1000)  # 20 voxels; labels round the surface by half a voxel
    assert section.foil_share[-1].min() == 1.0


def test_the_3d_picture_counts_from_the_foil(states):
    # The surface of the foil is seen on both sides of the origin in every state, however high its layer is.
    for state in states:
        left, right, bottom, top = state.rendering_extent_um
        assert left == pytest.approx(-right)
        assert bottom < 0 < top
    lost, thick = states[-1], states[2]
    depth_um = [state.rendering_extent_um[2] for state in (lost, thick)]
    # The foil's lower edge is at one place in both; a picture's edges are whole pixels.
    assert _lowest_seen(lost) == pytest.approx(_lowest_seen(thick), abs=2 * 0.2), depth_um


def _lowest_seen(state):
    seen = np.flatnonzero((state.rendering.body != 0).any(axis=1))[-1]
    return state.rendering_extent_um[3] - (seen + 1) * state.rendering.sample_nm / 1000


def test_spread_of_the_profile():
    # Uniform along z: no spread. With every other block of slices twice as dense: sd = (2a - a) / 2 = a / 2.
    plain = _state("plain", 20, 0.1)
    within = (plain.measured.profile_distance_nm > 300) & (plain.measured.profile_distance_nm < 1500)
    np.testing.assert_allclose(plain.profile_spread[within], 0, atol=1e-7)

    composition = SimpleNamespace(**_composition_of_two_densities())
    attenuation = composition.attenuation
    measured = measure(Volume(composition.phase, VOXEL_NM), Volume(attenuation, VOXEL_NM), RECIPE.measurement)
    picture = picture_state("two", composition, attenuation, measured, RECIPE)
    np.testing.assert_allclose(picture.profile_spread[within], 0.05, rtol=1e-5)


def _composition_of_two_densities():
    nothing = np.zeros(SHAPE, np.float32)
    copper, silicon = nothing.copy(), nothing.copy()
    copper[:, FOIL_ROW:], silicon[:, FOIL_ROW - 20 : FOIL_ROW] = 1, 1
    dense = np.where(np.arange(SHAPE[0]) // 2 % 2, 2.0, 1.0)[:, None, None]  # 8 blocks of 2 slices
    phase = (Phase.SILICON * silicon + Phase.CURRENT_COLLECTOR * copper).astype(np.uint8)
    return {
        "phase": phase, "silicon_fraction": silicon, "bismuth_fraction": nothing, "current_collector_fraction": copper,
        "void_fraction": 1 - copper - silicon, "voxel_nm": VOXEL_NM,
        "attenuation": (COPPER_PER_UM * (copper + 0.1 * dense * silicon)).astype(np.float32),
    }  # fmt: skip


def test_all_states_are_drawn_and_named(states):
    for draw in (seven_states_figure, sections_figure, thickness_bars_figure, attenuation_profiles_figure):
        texts = " ".join(_texts(draw(states)))
        for name in (
            "pristine",
            "2nd lithiation",
            "cycle 500",
            "cycle 1556",
            "1st lithiation",
            "cycle 100",
            "cycle 460",
        ):
            assert name in texts, (draw.__name__, name)
        assert "1000 mAh/g" in texts
        assert "2000 mAh/g" in texts


def test_a_lost_layer_says_so(states):
    assert not np.isfinite(states[-1].measured["thickness_silicon_um"].value)
    assert SILICON not in states[-1].rendering.body
    assert FOIL in states[-1].rendering.body
    for draw in (seven_states_figure, thickness_bars_figure):
        assert any("no layer left" in text for text in _texts(draw(states)))
        assert any("no layer left" in text for text in _texts(draw(states[-1:])))


def test_pictures_share_one_scale(states):
    um_per_inch = 5.0
    for draw in (seven_states_figure, sections_figure):
        figure = draw(states, um_per_inch=um_per_inch)
        pictures = [
            axes for axes in figure.axes if axes.images and axes.get_ylim() != (0, 1) and axes.get_xlim() != (0, 1)
        ]
        drawn = [axes for axes in pictures if axes.get_title() or axes.lines]
        assert len(drawn) >= len(states)
        for axes in drawn:
            width, height = axes.get_position().size * figure.get_size_inches()
            assert np.ptp(axes.get_xlim()) / width == pytest.approx(um_per_inch)
            assert np.ptp(axes.get_ylim()) / height == pytest.approx(um_per_inch)


def test_published_thicknesses_stand_at_their_heights(states):
    figure = thickness_bars_figure(states)
    heights = {
        round(float(y), 3) for axes in figure.axes for line in axes.lines for y in np.atleast_1d(line.get_ydata())
    }
    # 2.0; + 100 %; eight times; + 200 % of the paper's pristine 2.0 um.
    assert {2.0, 4.0, 16.0, 6.0} <= heights


def test_published_attenuations_and_lives(states):
    lines = [line for axes in attenuation_profiles_figure(states).axes for line in axes.lines]
    assert {0.2, 0.07} <= {line.get_ydata()[0] for line in lines}
    cycles = np.arange(1, 501)
    fading = CapacityCurve("2000", cycles, np.where(cycles <= 400, 2000.0, 1500.0), 400)
    figure = capacity_figure([CapacityCurve("1000", cycles, np.full(500, 1000.0)), fading])
    marks = {tuple(line.get_xydata()[0]) for line in figure.axes[0].lines if len(line.get_xdata()) == 1}
    assert {(435.0, 2000.0), (1556.0, 1000.0), (400.0, 2000.0)} == marks


def test_equal_states_give_equal_bytes(states, tmp_path):
    for name in ("a.png", "b.png"):
        seven_states_figure(states).savefig(tmp_path / name, metadata={"Software": None})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_colours_are_evenly_spaced():
    shades = np.linspace(0.02 / LARGEST_ATTENUATION, 1, 60)
    lab = rgb2lab(ATTENUATION_COLOURS(shades)[None, :, :3])[0]
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    # Made of 15 colours at equal distances along a curve; straight pieces in RGB cut its corners.
    assert steps.min() > 0.7 * steps.mean()
    assert steps.max() < 1.3 * steps.mean()
    blue, red = ATTENUATION_COLOURS(0.1), ATTENUATION_COLOURS(0.95)
    assert blue[2] > blue[0]
    assert red[0] > red[2]


def test_painting():
    body = np.array([[0, FOIL], [SILICON, FOIL]], np.uint8)
    light = np.array([[0, 0.8], [0.8, 0.8]], np.float32)  # 0.8 times an exposure of 1.25: fully lit
    rendering = Rendering(
        body, light, np.full((2, 2), 0.32, np.float32), np.zeros((2, 2), np.float32), 0.0, 0.0, 1.0, 1, None
    )
    image = painted(rendering)
    np.testing.assert_allclose(image[..., 3], [[0, 1], [1, 1]])
    np.testing.assert_allclose(image[0, 1, :3], FOIL_GREY, atol=1e-6)
    np.testing.assert_allclose(image[1, 0, :3], ATTENUATION_COLOURS(0.32 / LARGEST_ATTENUATION)[:3], atol=1e-6)


def test_foil_in_a_section_is_mixed_by_share():
    # Half copper, half air; and half copper, half silicon of 0.3: attenuation 0.5 and 0.65.
    section = Section(np.array([[0.5, 0.65, np.nan]], np.float32), np.array([[0.5, 0.5, 0]], np.float32), (0, 1, 0, 1))
    image = painted_section(section)
    np.testing.assert_allclose(image[0, 0, :3], 0.5 * np.array(FOIL_GREY) + 0.5, atol=0.01)
    silicon = np.array(ATTENUATION_COLOURS(0.3 / LARGEST_ATTENUATION)[:3])
    np.testing.assert_allclose(image[0, 1, :3], 0.5 * np.array(FOIL_GREY) + 0.5 * silicon, atol=0.01)
    assert image[0, :, 3].tolist() == [1, 1, 0]


def test_an_electrode_is_pictured():
    recipe = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=4.0, length_um=3.0))
    electrode = build_electrode(recipe, seeds=Seeds(1))
    composition = voxelise(electrode, VoxelGrid((30, 120, 40), 100.0), range(30))
    attenuation = contrast(composition, 8.0)
    measured = measure(Volume(composition.phase, 100.0), Volume(attenuation, 100.0), RECIPE.measurement)
    picture = picture_state("pristine", composition, attenuation, measured, RECIPE)
    silicon = picture.rendering.body == SILICON
    # Pristine silicon at 8 keV reads 0.320 everywhere, carbon and binder beside it at most 0.019 more.
    assert picture.rendering.normalised_attenuation[silicon].mean() == pytest.approx(0.32, abs=0.02)
    assert len(seven_states_figure([picture]).axes) > 0


def test_what_cannot_be_drawn_is_refused():
    for draw in (seven_states_figure, sections_figure, thickness_bars_figure, attenuation_profiles_figure):
        with pytest.raises(ParameterError, match="at least one"):
            draw([])
    with pytest.raises(ParameterError, match="at least one"):
        capacity_figure([])
    with pytest.raises(IncompatibleError, match="one capacity for each cycle"):
        CapacityCurve("x", np.arange(3), np.zeros(4))
    with pytest.raises(IncompatibleError, match="above the layer was not measured"):
        _state("no air", 80)
