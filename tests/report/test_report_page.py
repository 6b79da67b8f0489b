"""The page: nothing from outside becomes markup, pictures travel inside, equal input gives equal bytes."""

import json

import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.report.budget_section import budget_sections
from npsi_twin.report.curve_figures import Curve, draw_profiles
from npsi_twin.report.figures import draw_thickness
from npsi_twin.report.page import Picture, Table, write_page
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
    (tmp_path / "budget" / "budget.json").write_text("[]")
    with pytest.raises(DataError, match="holds no error budget"):
        budget_sections(tmp_path, Specification())
