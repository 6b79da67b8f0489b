"""TOML from outside: specifications, ranges of phantoms, tables of compounds, microscopes. One clear error each."""

import time

import pytest

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.object_scan import microscope_from
from npsi_twin.phantoms.ranges import load_ranges
from npsi_twin.specification import Specification, load_specification, parse_specification, to_toml
from npsi_twin.storage.own_object import read_compounds
from npsi_twin.toml_files import parse_toml

READERS = {
    "specification": load_specification,
    "ranges": load_ranges,
    "compounds": lambda path: read_compounds(path, 8.0),
    "microscope": lambda path: microscope_from(str(path)),
}
TEXTS = {
    "duplicate key": ("seed = 1\nseed = 2", "not valid TOML: Cannot overwrite"),
    "duplicate table": ("[microscope]\n[microscope]", "not valid TOML"),
    "broken": ("seed = ", "not valid TOML"),
    "NUL": ("seed = \0", "not valid TOML"),
    "deep arrays": ("a = " + "[" * 100_000, "nested deeper than 32"),
    "deep tables": ("a = " + "{a = " * 100_000, "nested deeper than 32"),
    "deep but closed": ("a = " + "[" * 40 + "]" * 40, "nested deeper than 32"),
    "a long key": ("[" + "a." * 50_000 + "a]", "a line with more than 1000 dots"),
    "a deep key": ("[" + "a." * 60 + "a]", "nested deeper than 32"),
    "5000 digits": ("seed = " + "9" * 5000, "number that cannot be read"),
    "200 000 bits": ("seed = 0x" + "f" * 50_000, "whole number of 200000 bits; 128 are the most"),
    "beyond floating point": ("[microscope]\nenergy_kev = 1" + "0" * 400, "128 are the most"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS.keys())
def test_a_fault_of_toml_is_one_line_wherever_it_is_read(tmp_path, read, text, message):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_what_is_no_text_is_refused(tmp_path, read):
    (tmp_path / "a.toml").write_bytes("seed = 7".encode("utf-16"))
    with pytest.raises(DataError, match="cannot be read.*TOML is UTF-8"):
        read(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ParameterError, match="larger than 1 MB"):
        read(tmp_path / "b.toml")
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises((DataError, ParameterError), match="is no file|cannot be read|neither a file"):
            read(path)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfseed = 7\r\n")
    assert load_specification(tmp_path / "a.toml").seed == 7


def test_a_large_seed_is_a_seed():
    assert parse_specification(f"seed = {2**128 - 1}").seed == 2**128 - 1


def test_hostile_text_takes_no_time():
    """Parsers of TOML take time that grows with the square of a key's parts; a megabyte of them must not hang."""
    start = time.process_time()
    for text in (
        "[" + "a." * 499_000 + "a]",
        "a" * 999_999,
        "." * 999_999,
        'a = "' + "\\u0041" * 160_000,
        "[[" * 400_000,
    ):
        with pytest.raises(ParameterError):
            parse_toml(text, "a.toml")
    # Each takes milliseconds where it is refused at sight, and minutes where it is not.
    assert time.process_time() - start < 30


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ParameterError) as caught:
        parse_specification('seed = "' + "x" * 100_000 + '"')
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["\U0001f600 np-Si", "Ωmega", 'a "quoted" \\ name', "<script>alert(1)</script>", "-x y"]
)
def test_any_printable_name_survives_the_round_trip(name):
    specification = Specification(name=name)
    assert parse_specification(to_toml(specification)) == specification


@pytest.mark.parametrize("code", ["\\u0000", "\\n", "\\u007f", "\\u001b"])
def test_control_characters_in_a_name_are_refused(code):
    with pytest.raises(ParameterError, match="name = .*without control characters"):
        parse_specification(f'name = "a{code}b"')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]\nmaterial = ['copper']", "is not known"),
        (f"[{'9' * 4000}]\nmaterial = 'copper'", "is no label"),
        ("['²']\nmaterial = 'copper'", "is no label"),
        (f"[1]\nformula = 'Si{'(' * 5000}'\ndensity_g_per_cm3 = 1", "of 5002 characters"),
    ],
)
def test_odd_tables_of_compounds_are_named(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_compounds(tmp_path / "c.toml", 8.0)
