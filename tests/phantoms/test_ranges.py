"""Ranges are read strictly and drawn evenly, each case by its number alone."""

import numpy as np
import pytest

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.phantoms.draws import PhantomRecipe, draw_specimen, phantom_base, split_of
from npsi_twin.phantoms.ranges import draw_values, load_ranges, parse_ranges
from npsi_twin.seeds import Seeds
from npsi_twin.specification import Specification
from npsi_twin.variations import Range, with_values

POROSITY = "[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[electrode", "not valid TOML"),
        ("draw = 'halton'", "'sobol' or 'plain'"),
        ("[electrode.silicon]\nporosity = {low = 0.5, high = 0.7}", "did you mean 'porosity_fraction'?"),
        ("[electrode.silicon]\nporosity_fraction = {low = 0.1, high = 0.7}", "greater than or equal to 0.3"),
        ("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.9}", "less than or equal to 0.8"),
        ("[electrode.silicon]\nporosity_fraction = {low = 0.7, high = 0.5}", "is larger than high"),
        ("[electrode.silicon]\nporosity_fraction = {low = 0.5}", "two finite numbers"),
        ("[electrode.silicon]\nporosity_fraction = {low = nan, high = 0.7}", "two finite numbers"),
        ("[electrode.silicon]\nporosity_fraction = {low = true, high = 0.7}", "two finite numbers"),
        ("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7, scale = 'cubic'}", "'linear' is for"),
        ("[electrode.silicon]\nporosity_fraction = 0.6", "a range is a table"),
        ("[electrode.specimen]\nneedle_offset_across_um = {low = -1.0, high = 1.0, scale = 'log'}", "above 0"),
        ("[microscope.stage]\nviews = {low = 90.5, high = 200}", "valid integer"),
        ("[electrode.specimen]\nshape = {choices = ['needle', 'cube']}", "'needle' or 'block'"),
        ("[electrode.specimen]\nshape = {choices = []}", "at least one value"),
        ("[ageing.condition]\nchoices = ['pristine', 3]", "valid string"),
        ("[ageing]\nchoices = [{condition = '2000/100'}]", "was cycled"),
        ("[ageing]\nchoices = ['pristine']", "tables of its fields"),
        ("[electrode]\nsilicon = {low = 1, high = 2}", "is a section"),
        ("seed = {low = 1, high = 2}", "only electrode, ageing, microscope, reconstruction vary"),
        ("[measurement]\nblocks = {low = 2, high = 9}", "only electrode"),
        (POROSITY + "['electrode.silicon.porosity_fraction']\nlow = 0.5\nhigh = 0.6", "given twice"),
        (
            "[ageing]\nchoices = [{condition = 'pristine'}]\n['ageing.end_state']\nchoices = ['lithiated']",
            "beside ageing",
        ),
    ],
)
def test_ranges_that_may_not_be_are_refused_with_their_reason(text, said):
    with pytest.raises(ParameterError, match="ranges: ") as refused:
        parse_ranges(text)
    assert said in str(refused.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ParameterError) as refused:
        parse_ranges("[electrode.silicon]\nporosity = {}\n[microscope.stage]\nviews = {low = 9, high = 1}")
    assert len(str(refused.value).splitlines()) == 2


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="--vary"):
        load_ranges(tmp_path / "none.toml")


def test_ends_are_reached_and_not_passed():
    nearly = 1 - 2.0**-31
    for entry in (Range(("a",), 0.5, 0.7), Range(("a",), 2.0, 9000.0, log=True), Range(("a",), 3, 9)):
        # Half a cell of 2**-30 from an end, times a slope of at most high ln(high / low).
        assert entry.at(1 - nearly) == pytest.approx(entry.low, rel=1e-7)
        assert entry.at(nearly) == pytest.approx(entry.high, rel=1e-7)
        assert entry.low <= entry.at(1 - nearly) <= entry.at(nearly) <= entry.high
    drawn = [Range(("a",), 3, 9).at((k + 0.5) / 700) for k in range(700)]
    assert np.bincount(drawn)[3:].tolist() == [100] * 7


@pytest.mark.parametrize("part", ["specimen", "scan"])
def test_sobol_points_are_even_in_every_coordinate_and_in_pairs(part):
    ranges, seeds = load_ranges(None), Seeds(7)
    numeric = [entry for entry in ranges.of(part) if isinstance(entry.low, float) and not entry.choices]
    drawn = [draw_values(ranges, part, number, 0, seeds=seeds) for number in range(64)]
    for entry in numeric:
        values = np.array([values[entry.name] for values in drawn])
        scale = np.log if entry.log else np.asarray
        u = (scale(values) - scale(entry.low)) / (scale(entry.high) - scale(entry.low))
        # 64 points of a (t, m, s)-net shifted digitally: each 64th of every axis holds exactly one.
        assert sorted(np.floor(64 * u).astype(int)) == list(range(64))


def test_a_draw_follows_from_root_part_number_and_attempt_alone():
    ranges = load_ranges(None)
    one = draw_values(ranges, "scan", 5, 0, seeds=Seeds(1))
    assert one == draw_values(ranges, "scan", 5, 0, seeds=Seeds(1))
    others = [
        draw_values(ranges, "scan", 6, 0, seeds=Seeds(1)),
        draw_values(ranges, "scan", 5, 1, seeds=Seeds(1)),
        draw_values(ranges, "scan", 5, 0, seeds=Seeds(2)),
        draw_values(parse_ranges(ranges.text.replace('"sobol"', '"plain"')), "scan", 5, 0, seeds=Seeds(1)),
    ]
    assert all(other != one for other in others)


def test_shipped_ranges_fit_the_shipped_base():
    ranges, base = load_ranges(None), phantom_base()
    drawn = [draw_specimen(PhantomRecipe(), ranges, base, number, seeds=Seeds(3)) for number in range(16)]
    assert not any(entry.refused or entry.scans[0].refused for entry in drawn)
    assert len({entry.scans[0].specification.ageing.condition for entry in drawn}) >= 3
    assert len({entry.seed for entry in drawn}) == 16


def test_scans_of_a_specimen_share_electrode_seed_and_split():
    recipe, base = PhantomRecipe(scans_per_specimen=3), phantom_base()
    for number in range(4):
        drawn = draw_specimen(recipe, load_ranges(None), base, number, seeds=Seeds(3))
        made = [scan.specification for scan in drawn.scans]
        assert len({(entry.electrode, entry.ageing, entry.seed) for entry in made}) == 1
        assert len({entry.microscope for entry in made}) == 3
        assert drawn.scans[0].seed == drawn.seed
        assert len({scan.seed for scan in drawn.scans}) == 3


def test_split_is_near_its_shares_at_any_size():
    recipe = PhantomRecipe(train_fraction=0.6, validation_fraction=0.2)
    parts = [split_of(number, recipe) for number in range(1000)]
    for size in (10, 37, 200, 1000):
        for part, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            # The golden sequence's discrepancy is below (0.5 + log(size)) / size; an interval has two ends.
            assert abs(parts[:size].count(part) - share * size) <= 1 + 2 * np.log(size)
    assert split_of(0, recipe) == "train"


def test_values_that_do_not_fit_together_are_refused():
    with pytest.raises(ParameterError, match="specimen would end inside the field"):
        with_values(Specification(), {"microscope.detector.rows": 400})
