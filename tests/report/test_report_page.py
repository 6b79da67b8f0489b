"""The page: nothing from outside becomes markup, pictures travel inside, equal input gives equal bytes."""

import json

import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.report.budget_section import budget_sections
from npsi_twin.report.curve_figures import Curve, _classes, draw_accuracy, draw_profiles
from npsi_twin.report.figures import draw_thickness
from npsi_twin.report.page import Picture, Table, write_page
from npsi_twin.report.run_tables import comparison_tables
from npsi_twin.specification import Specification


def _page(folder, name):
    draw_profiles(folder / "a.png", curves={"local": [Curve("truth", np.arange(3.0), np.arange(3.0) / 10)]})
    write_page(
        folder / name,
        title="<script>alert(1)</script>",
        summary=["a & b"],
        sections=[Picture(folder / "a.png", "P", "C"), Table("T", "N", ("h",), [("<b>",)])],
        provenance={"sample": "<img src=x>"},
    )
    return (folder / name).read_text()


def test_text_never_becomes_markup(tmp_path):
    page = _page(tmp_path, "a.html")
    assert "<script>alert" not in page
    assert page.count("<script") == 1  # the page's own
    assert "<img src=x>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_equal_pages_have_equal_bytes(tmp_path):
    assert _page(tmp_path, "a.html") == _page(tmp_path, "b.html")


def test_maps_without_any_value_are_drawn(tmp_path):
    nothing = np.full((4, 5), np.nan)
    draw_thickness(tmp_path / "t.png", maps_um={"truth": nothing, "recovered": nothing}, pixel_nm=50.0)
    assert (tmp_path / "t.png").stat().st_size > 1000


def test_heights_that_few_columns_reach_are_not_drawn():
    """At the rim of the volume a profile plunged: the mean of the few columns that reach there."""
    share = np.array([1.0, 1.0, 0.6, 0.4, 0.01])
    curve = Curve.of("truth", np.stack([np.arange(5.0) * 1000, np.full(5, 0.2), np.full(5, 0.01), share]))
    assert curve.distance_um.tolist() == [0, 1, 2]
    assert curve.spread.tolist() == [0.01] * 3
    old = Curve.of("truth", np.stack([np.arange(5.0), np.arange(5.0)]))
    assert (old.values.size, old.spread) == (5, None)


def test_accuracy_is_drawn_without_classes_that_hold_nothing(tmp_path):
    curve = {"edges_nm": [None, -50.0, 0.0, 50.0, None], "share": [None, 0.5, 0.75, 1.0], "n": [0, 4, 8, 2]}
    middle, share, n = _classes(curve)
    assert (middle.tolist(), share.tolist(), n.tolist()) == ([-25, 25, 75], [0.5, 0.75, 1.0], [4, 8, 2])
    draw_accuracy(tmp_path / "a.png", curves={"by_distance": curve, "by_ligament": curve, "by_pore": None})
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_scores_become_one_table_and_older_comparisons_have_none():
    entry = {"value": 0.9, "spread": 0.01, "n": 8, "unit": "", "note": "TP"}
    far = {"value": None, "spread": None, "n": 0, "unit": "nm", "note": "no surface"}
    comparison = {"rows": [], "segmentation_accuracy": None}
    assert [table.title for table in comparison_tables(comparison)] == ["Truth, recovered, published"]
    comparison["label_scores"] = {"quantities": {"dice_silicon_layer": entry, "boundary_mean_nm": far}}
    _, table = comparison_tables(comparison)
    assert table.rows == [
        ("dice silicon layer", "", "0.9 ± 0.01", "1", "TP"),
        ("boundary mean", "nm", "–", "0", "no surface"),
    ]


def test_a_budget_in_the_runs_folder_is_shown_and_says_whose_it_is(tmp_path):
    assert budget_sections(tmp_path, Specification()) == []
    (tmp_path / "budget").mkdir()
    (tmp_path / "budget" / "budget.png").write_bytes(b"\x89PNG")
    assert budget_sections(tmp_path, Specification()) == []  # a picture alone tells nothing
    tree = {
        "specification": "needle",
        "specification_digest": Specification().digest(),
        "summary": ["Thin.", "Porous."],
    }
    (tmp_path / "budget" / "budget.json").write_text(json.dumps(tree))
    (own,), (other,) = (budget_sections(tmp_path, Specification(seed=seed)) for seed in (42, 43))
    assert own.path == tmp_path / "budget" / "budget.png"
    assert own.caption.endswith("of this run's specification. Thin. Porous.")
    assert "another specification, 'needle'" in other.caption
    rows = "metric,switch,truth,bias,bias_low,bias_high,variance,variance_low,variance_high,note\n"
    rows += "porosity_layer,optics,0.67,-0.0123456,-0.02,-0.01,1e-5,,,\nporosity_layer,all,0.67,,,,,,,no <layer>\n"
    (tmp_path / "budget" / "budget.csv").write_text(rows)
    _, table = budget_sections(tmp_path, Specification())
    assert table.rows[0] == ("porosity layer", "optics", "0.67", "-0.0123", "-0.02 to -0.01", "1e-05", "")
    assert table.rows[1] == ("porosity layer", "all", "0.67", "–", "", "–", "no <layer>")
    (tmp_path / "budget" / "budget.csv").write_text("metric\nporosity\n")
    with pytest.raises(DataError, match=r"budget\.csv: holds no error budget"):
        budget_sections(tmp_path, Specification())
    (tmp_path / "budget" / "budget.json").write_text("[]")
    with pytest.raises(DataError, match="holds no error budget"):
        budget_sections(tmp_path, Specification())
