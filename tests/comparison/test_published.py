import os
from pathlib import Path

import pytest

from npsi_twin.comparison.published import zhao2018
from npsi_twin.errors import ParameterError

yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def source():
    root = Path(__file__).resolve().parents[2]
    path = root.parent / "shared" / "paper" / "measurements.yaml"
    if "NPSI_TWIN_REAL_DATA" in os.environ and not path.exists():
        path = Path(os.environ["NPSI_TWIN_REAL_DATA"]).parent / "paper" / "measurements.yaml"
    if not path.exists():
        pytest.skip("the extraction sheet of the paper (../shared/paper/measurements.yaml) is not there")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def plain(value):
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if hasattr(value, "items") else value


def test_no_record_was_lost_or_changed(source):
    paper = zhao2018()
    assert [r["id"] for r in source["records"]] == list(paper.records)
    for row in source["records"]:
        record = paper[row["id"]]
        assert plain(record.value) == row["value"], row["id"]
        assert record.spread == row.get("sd")
        assert record.relation == row["op"]
        assert record.unit == (row["units"] or "")
        assert (record.section, record.origin, record.how_read) == (row["where"], row["src"], row["exact"])
        assert record.figure == str(row.get("fig", ""))
        assert dict(record.condition) == row.get("cond", {})
        # the sheet's own cross-references to other files stay behind
        assert record.note == row["note"].split("; see ..")[0]


def test_no_target_was_lost_or_changed(source):
    paper = zhao2018()
    assert [t["id"] for t in source["validation_targets"]] == list(paper.targets)
    for row in source["validation_targets"]:
        target = paper.targets[row["id"]]
        assert (target.expression, target.kind, target.value) == (row["expr"], row["kind"], row.get("value"))
        if "tol" in row:
            assert (target.low, target.high) == (row["value"] - row["tol"], row["value"] + row["tol"])
        else:
            assert (target.low, target.high) == (row.get("lo"), row.get("hi"))
        assert target.from_records == tuple(row.get("from", ()))
        assert target.note == row.get("note", "")


def test_targets_rest_on_records_that_exist():
    paper = zhao2018()
    for target in paper.targets.values():
        assert set(target.from_records) <= set(paper.records)
        if target.kind == "value" and target.low is not None:
            assert target.low <= target.value <= target.high


def test_what_has_no_number_says_so():
    paper = zhao2018()
    for record in paper.records.values():
        if record.how_read in ("qualitative", "figure_only"):
            assert record.value is None
            assert record.text() == "no number printed"
    with pytest.raises(ParameterError, match="figure_only"):
        paper["thick_values_fig3"].number()
    with pytest.raises(ParameterError, match="single number"):
        paper["fov"].number()


def test_the_citation_is_there_and_the_doi_is_marked():
    paper = zhao2018()
    assert "Nano Energy 52 (2018) 381-390" in paper.citation
    assert paper.doi_verified is False
    assert paper["tip_diameter"].text() == "< 50 um"
