"""The README's table names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_test_that_the_table_names_is_there():
    rows = [line for line in (TESTS / "faults" / "README.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    named = [re.findall(r"`([\w/]+\.py)::(\w+)`", row) for row in rows[1:]]
    assert all(named)
    lost = [
        (path, name) for row in named for path, name in row if f"def {name}(" not in (TESTS / path).read_text("utf-8")
    ]
    assert lost == []
