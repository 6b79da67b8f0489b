"""Write what a validation measured, so that every number in its README is rendered and never typed."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

START, END = "<!-- result -->", "<!-- /result -->"


def render(folder: Path, rows: list[dict[str, Any]], machine: str | None = None) -> None:
    """Write ``result.json`` and replace the result table of ``README.md``.

    Parameters
    ----------
    folder
        The validation's folder; its README.md must hold the two markers.
    rows
        One dict a requirement: ``requirement`` (text), ``required`` (text), ``measured`` (text or number) and
        ``passed`` (True, False, or None for a row that only reports).
    machine
        What the timings were taken on, where there are timings.
    """
    software = {name: version(name) for name in ("npsi-twin", "numpy", "scipy", "finufft", "astra-toolbox")}
    result = {
        "passed": all(row["passed"] is not False for row in rows),
        "rows": rows,
        "python": platform.python_version(),
        "software": software,
        "machine": machine,
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    words = {True: "pass", False: "**FAIL**", None: "report"}
    table = ["| requirement | required | measured | |", "|---|---|---|---|"]
    table += [f"| {r['requirement']} | {r['required']} | {r['measured']} | {words[r['passed']]} |" for r in rows]
    versions = ", ".join(f"{name} {number}" for name, number in software.items())
    table.append(f"\nPython {result['python']}; {versions}." + (f" Machine: {machine}." if machine else ""))
    readme = folder / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(START)
    tail = rest.partition(END)[2]
    readme.write_text(head + START + "\n" + "\n".join(table) + "\n" + END + tail, encoding="utf-8")
