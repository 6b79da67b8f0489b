"""One TOML file <-> the tree of recipes: exact round trips, and one clear line for every fault."""

import pytest

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.recipes import describe
from npsi_twin.specification import (
    PRESETS,
    Specification,
    explain_mechanisms,
    load_specification,
    parse_specification,
    parse_values,
    preset_specification,
    to_toml,
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_the_round_trip_through_toml(name):
    specification = preset_specification(name)
    again = parse_specification(to_toml(specification))
    assert again == specification
    assert again.digest() == specification.digest()


def test_the_embedded_default_is_the_demo():
    assert parse_specification("") == preset_specification("demo") == Specification()


def test_the_paper_is_carried_over():
    specification = preset_specification("zhao2018")
    microscope, silicon = specification.microscope, specification.electrode.silicon
    assert microscope.stage.views == 1201
    assert microscope.energy_kev == 8.0
    assert microscope.detector.pixel_nm == pytest.approx(25.4)
    assert microscope.optics.outer_zone_width_nm == 60.0
    # 52 x 62 um2 is the printed field.
    assert microscope.detector.rows * 25.4e-3 == pytest.approx(52, abs=0.1)
    assert microscope.detector.columns * 25.4e-3 == pytest.approx(62, abs=0.3)
    assert silicon.porosity_fraction == pytest.approx(0.604)
    assert silicon.mean_pore_nm == 400
    assert specification.electrode.specimen.width_um < 50


@pytest.mark.parametrize("leaf", list(describe(Specification())), ids=lambda leaf: leaf.path)
def test_every_field_says_what_it_is(leaf):
    assert leaf.description
    name = leaf.path.rsplit(".", 1)[-1]
    for suffix, unit in (("_nm", "nm"), ("_um", "um"), ("_kev", "keV"), ("_deg", "degrees"), ("_px", "pixel")):
        if name.endswith(suffix):
            assert unit in leaf.unit
    if leaf.unit:
        assert leaf.source


FAULTS = {
    "porosity in per cent": (
        "[electrode.silicon]\nporosity_fraction = 60.4",
        r"electrode\.silicon\.porosity_fraction = 60\.4.*did you mean 0\.604",
    ),
    "unknown key": ("[electrode.silicon]\nporosity = 0.6", r"electrode\.silicon\.porosity' is not a field"),
    "misspelt key": (
        "[electrode.silicon]\nmean_pore_um = 0.4",
        r"mean_pore_um' is not a field; did you mean 'mean_pore_nm'\?",
    ),
    "misspelt section": ("[microscop]\nenergy_kev = 8.0", r"'microscop' is not a field; did you mean 'microscope'\?"),
    "nan": ("[microscope]\nenergy_kev = nan", r"microscope\.energy_kev = nan keV.*finite"),
    "infinity": ("[microscope]\nenergy_kev = inf", r"microscope\.energy_kev = inf"),
    "negative size": ("[electrode.silicon]\nmean_pore_nm = -400.0", r"mean_pore_nm = -400\.0 nm.*greater than"),
    "text for a number": ('[microscope]\nenergy_kev = "8"', r"microscope\.energy_kev = '8' keV.*valid number"),
    "bool for an integer": ("seed = true", r"seed = True.*valid integer"),
    "fraction for an integer": ("seed = 1.5", r"seed = 1\.5.*valid integer"),
    "negative seed": ("seed = -1", r"seed = -1.*greater than or equal to 0"),
    "duplicate key": ("seed = 1\nseed = 2", "not valid TOML"),
    "broken TOML": ("seed = ", "not valid TOML"),
    "specimen shorter than the field": (
        "[electrode.specimen]\nlength_um = 3.0",
        r"electrode\.specimen\.length_um = 3 um.*end inside the field",
    ),
    "specimen wider than the field": (
        "[electrode.specimen]\nwidth_um = 40.0",
        r"electrode\.specimen reaches 2\d\.\d\d um.*field holds 9\.99 um.*allow_truncation",
    ),
    "a condition that is not part of this version": ('[ageing]\ncondition = "1000/500"', "no mechanism"),
    "an unknown condition": ('[ageing]\ncondition = "3000/1"', "3000/1.*pristine"),
    "an unknown algorithm": ('[reconstruction]\nalgorithm = "magic"', r"reconstruction\.algorithm = 'magic'.*sirt-fbp"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_place_and_remedy(text, message):
    with pytest.raises(ParameterError, match=message) as caught:
        parse_specification(text, "study.toml")
    assert str(caught.value).startswith("study.toml")


def test_every_fault_gets_its_line():
    text = "seed = -1\n[microscope]\nenergy_kev = nan\nwavelength = 1"
    with pytest.raises(ParameterError) as caught:
        parse_specification(text)
    assert len(str(caught.value).splitlines()) == 3


def test_changes_are_checked_like_a_file():
    recipe = Specification().reconstruction
    assert parse_values(recipe, {"rotation_axis_px": 12.5}, "reconstruction").rotation_axis_px == 12.5
    with pytest.raises(ParameterError, match=r"reconstruction\.algorithm"):
        parse_values(recipe, {"algorithm": "magic"}, "reconstruction")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_specification(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        load_specification(tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_text("#" * 1_100_000)
    with pytest.raises(ParameterError, match="larger than 1 MB"):
        load_specification(tmp_path / "large.toml")


def test_the_mechanisms_come_in_the_order_in_which_they_act():
    mechanisms = explain_mechanisms(Specification())
    order = [text.split()[0].strip(":,") for text in mechanisms]
    for earlier, later in (("foil", "powder"), ("powder", "pores"), ("pores", "specimen"), ("stage", "optics")):
        assert order.index(earlier) < order.index(later)
    assert any("pristine" in text for text in mechanisms)
