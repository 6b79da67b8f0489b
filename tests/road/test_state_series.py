"""The seven states: cut to what is seen, each a specimen of its own, drawn and written down."""

import csv

import numpy as np
import pytest
from pydantic import ValidationError

from npsi_twin.comparison.targets import targets
from npsi_twin.cycling.protocol import CONDITIONS
from npsi_twin.electrode.build import ElectrodeRecipe
from npsi_twin.electrode.specimen import SpecimenRecipe
from npsi_twin.electrode.voxelise import voxelise
from npsi_twin.errors import DataError, IncompleteError, ParameterError, ResourceError
from npsi_twin.morphology.measure import MeasurementRecipe
from npsi_twin.repetition import repeat
from npsi_twin.report.rendering import RenderingRecipe
from npsi_twin.report.state_picture import StatePictureRecipe
from npsi_twin.seeds import Seeds
from npsi_twin.specification import parse_values
from npsi_twin.state_series import (
    FILES,
    LOADINGS,
    StateSeriesRecipe,
    asked_states,
    build_specimen,
    draw_loading,
    make_states,
    own_seeds,
    play_states,
    view_state,
    write_states,
)
from npsi_twin.verification import verify
from npsi_twin.volumes import Phase, VoxelGrid

MEASUREMENT = MeasurementRecipe(edge_margin_nm=0.0, closing_radius_nm=0.0, crofton_directions=3)
TINY = ElectrodeRecipe(specimen=SpecimenRecipe(shape="block", width_um=3.0, length_um=2.0))


def test_loadings_have_their_mean_and_their_variation():
    drawn = np.array([draw_loading(0.2, seeds=Seeds(n)) for n in range(400)])
    assert LOADINGS[0] <= drawn.min() < drawn.max() <= LOADINGS[1]
    # 400 draws of a standard deviation of 0.2: the mean is known to 0.01, the deviation to 0.007; four times that.
    assert drawn.mean() == pytest.approx(1, abs=0.04)
    assert drawn.std() == pytest.approx(0.2, abs=0.03)


def test_loading_scales_the_layer_and_nothing_else():
    plain, loaded = (build_specimen(TINY, loading, seeds=Seeds(3)) for loading in (1.0, 1.3))
    assert loaded.layer.mean_nm == pytest.approx(1.3 * plain.layer.mean_nm)
    assert loaded.layer.sd_nm == pytest.approx(1.3 * plain.layer.sd_nm)
    assert (loaded.foil.mean_nm, loaded.foil.sd_nm) == (plain.foil.mean_nm, plain.foil.sd_nm)


def test_every_condition_has_seeds_of_its_own():
    assert len({own_seeds(name, seeds=Seeds(1)).root for name in CONDITIONS}) == 7
    assert own_seeds("2000/100", seeds=Seeds(1)) == own_seeds("2000/100", seeds=Seeds(1))


def test_a_view_is_a_cut_out_of_the_voxelised_scene_and_reaches_foil_and_air():
    electrode = build_specimen(TINY, 1.0, seeds=Seeds(3))
    view = view_state(electrode, 100.0, 8.0, MEASUREMENT)
    seen = view.composition.phase
    whole = voxelise(electrode, VoxelGrid((20, 120, 30), 100.0), range(20))
    # The whole grid is symmetric about the axis, the view is not: find it by its foil.
    above = int(np.argmax((whole.phase == Phase.CURRENT_COLLECTOR).any(axis=(0, 2))))
    here = int(np.argmax((seen == Phase.CURRENT_COLLECTOR).any(axis=(0, 2))))
    rows = slice(above - here, above - here + seen.shape[1])
    np.testing.assert_array_equal(seen, whole.phase[:, rows])
    np.testing.assert_array_equal(view.composition.silicon_fraction, whole.silicon_fraction[:, rows])
    for name in ("foil_attenuation_per_um", "air_attenuation_per_um", "silicon_areal_inventory_um"):
        assert np.isfinite(view.measured[name].value), view.measured[name].note


def test_a_hypothesis_that_is_silent_on_a_state_is_refused_before_anything_is_built():
    with pytest.raises(ValidationError, match="no mechanism"):
        StateSeriesRecipe(hypothesis="none")
    with pytest.raises(ValidationError, match="describes cycles up to 2"):
        StateSeriesRecipe(hypothesis="swelling")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"voxel_nm": -3.0}, r"states.voxel_nm = -3.0 nm: .* to 10; it is the edge of a voxel\."),
        (
            {"hypothesis": "foo"},
            r"got 'foo'; known are none, .* mechanisms of your own \(\[\[ageing.mechanisms\]\]\)\.",
        ),
    ],
)
def test_what_may_not_be_is_told_with_what_was_given_in_one_sentence(given, said):
    with pytest.raises(ParameterError, match=f"{said}$"):
        parse_values(StateSeriesRecipe(), given, "states")


def test_conditions_are_the_paper_s_and_each_once():
    for wrong in (("1500/20",), ("pristine", "pristine"), ()):
        with pytest.raises(ValidationError, match="conditions"):
            StateSeriesRecipe(conditions=wrong)
    assert StateSeriesRecipe(hypothesis="swelling", conditions=("pristine", "2000/1st-lithiation")).conditions


def test_states_are_a_run_folder_that_is_resumed_verified_and_repeated(tmp_path, monkeypatch):
    recipe = StateSeriesRecipe(
        hypothesis="contact-loss",
        conditions=("pristine", "2000/1st-lithiation"),
        electrode=TINY,
        voxel_nm=160.0,
        picture=StatePictureRecipe(
            rendering=RenderingRecipe(pixel_nm=200.0, samples_per_edge=1, smoothing_nm=120.0), measurement=MEASUREMENT
        ),
    )
    folder = tmp_path / "states"

    def killed(stage, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_states(recipe, folder, seeds=Seeds(1), progress=killed)
    with pytest.raises(ResourceError, match="--resume to go on, --overwrite"):
        make_states(recipe, folder, seeds=Seeds(1))
    with pytest.raises(IncompleteError, match="these differ: seed"):
        make_states(recipe, folder, seeds=Seeds(2), resume=True)
    made = make_states(recipe, folder, seeds=Seeds(1), resume=True, workers=2)
    assert asked_states(folder) == recipe
    assert {finding.file for finding in verify(folder).of("same")} == {*FILES, "states.toml"}
    assert len(made["files"]) == 7
    assert (folder / "ro-crate-metadata.json").is_file()
    told = []
    make_states(recipe, folder, seeds=Seeds(1), resume=True, progress=lambda *what: told.append(what))
    assert told == []  # nothing was left to do
    found = repeat(folder, tmp_path / "again")
    assert found.same, found.as_text()
    (folder / "states.toml").write_text((folder / "states.toml").read_text() + "# a note\n")
    with pytest.raises(DataError, match="was changed since"):
        repeat(folder, tmp_path / "third")


def test_states_are_played_drawn_and_written(tmp_path):
    recipe = StateSeriesRecipe(
        hypothesis="contact-loss",
        conditions=("pristine", "1000/500", "2000/1st-lithiation"),
        electrode=TINY,
        voxel_nm=160.0,
        picture=StatePictureRecipe(
            rendering=RenderingRecipe(pixel_nm=200.0, samples_per_edge=1, smoothing_nm=120.0), measurement=MEASUREMENT
        ),
    )
    told = []
    states = play_states(recipe, seeds=Seeds(1), progress=lambda *said: told.append(said))
    assert tuple(state.condition for state in states) == recipe.conditions
    assert told[-1] == ("states", 3, 3)
    assert [state.history is None for state in states] == [True, False, False]
    written = write_states(states, tmp_path / "new", dots_per_inch=50)
    assert [path.name for path in written] == [
        "seven_states.png", "sections.png", "thickness.png", "attenuation.png", "capacity.png", "states.csv",
        "targets.csv",
    ]  # fmt: skip
    with written[-1].open(newline="") as file:
        assert [row["target"] for row in csv.DictReader(file)] == list(targets())
    with written[-2].open(newline="") as file:
        rows = {row["condition"]: row for row in csv.DictReader(file)}
    assert float(rows["1000/500"]["life_cycles"]) == states[1].observables.life_cycles
    # Seeds belong to conditions, not to the order of play: the pristine cell alone is the same cell.
    alone = build_specimen(TINY, 1.0, seeds=own_seeds("pristine", seeds=Seeds(1)))
    again = view_state(alone, recipe.voxel_nm, recipe.energy_kev, MEASUREMENT)
    assert again.measured["thickness_silicon_um"].value == states[0].observables.thickness_covered_um
