"""Write what a validation measured, so that every number in its README is rendered and never typed."""

import argparse
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

START, END = "<!-- result -->", "<!-- /result -->"
SOFTWARE = ("npsi-twin", "numpy", "scipy", "finufft", "astra-toolbox")


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
    measured_with = _provenance(machine)
    result = {"passed": all(row["passed"] is not False for row in rows), "rows": rows, **measured_with}
    _write(folder, result, rows, _told(measured_with))


def render_parts(
    folder: Path,
    parts: Mapping[str, Callable[[], list[dict[str, Any]]]],
    asked: Sequence[str] = (),
    machine: str | None = None,
) -> None:
    """Measure some parts of a page and keep what the others measured before, each with what it was measured with.

    A part that fails becomes a failed row, one whose package is not installed a row that says so: neither loses the
    rest. The page is written after every part.

    Parameters
    ----------
    folder
        The validation's folder, as for `render`.
    parts
        What measures the rows of each part, in the order of the page.
    asked
        Names of the parts to measure; all when empty.
    machine
        What the timings were taken on.
    """
    file = folder / "result.json"
    for name in asked or parts:
        made = {"rows": _measured(name, parts[name]), **_provenance(machine)}
        # Read only now: another run may have measured another part meanwhile.
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("parts", {}) if file.is_file() else {}
        found[name] = made
        kept = {part: found[part] for part in parts if part in found}
        rows = [row for part in parts for row in (kept[part]["rows"] if part in kept else [_not_yet(part)])]
        told: dict[str, list[str]] = {}
        for part, entry in kept.items():
            told.setdefault(_told(entry), []).append(part)
        # Parts that share software and machine share a line; one line needs no names.
        foot = [f"{text} Parts: {', '.join(names)}." if len(told) > 1 else text for text, names in told.items()]
        passed = len(kept) == len(parts) and all(row["passed"] is not False for row in rows)
        _write(folder, {"passed": passed, "parts": kept}, rows, "\n\n".join(foot))


def asked_parts(parts: Mapping[str, Any]) -> list[str]:
    """Return the parts that the command line names; none for all."""
    reader = argparse.ArgumentParser(description="Measure a validation page, or some parts of it.")
    reader.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all when left out")
    asked: list[str] = reader.parse_args().parts
    if unknown := set(asked) - set(parts):
        reader.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return asked


def _measured(name: str, work: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return work()
    except Exception as error:  # one part's failure must not lose the others; it stays in the table
        if isinstance(error, ModuleNotFoundError) and not (error.name or "npsi_twin").startswith("npsi_twin"):
            return [_line(name, "its package", f"skipped: {error.name} is not installed; not measured", None)]
        return [_line(name, "runs", f"{type(error).__name__}: {error}", False)]


def _not_yet(name: str) -> dict[str, Any]:
    return _line(name, "measured", "not measured yet", None)


def _line(name: str, required: str, measured: str, passed: bool | None) -> dict[str, Any]:
    return {"requirement": f"part {name!r}", "required": required, "measured": measured, "passed": passed}


def _provenance(machine: str | None) -> dict[str, Any]:
    # TomoPy is named only where it is: most pages are rendered without it.
    present = (*SOFTWARE, "tomopy") if find_spec("tomopy") else SOFTWARE
    software = {name: _version(name) for name in present}
    return {"python": platform.python_version(), "software": software, "machine": machine}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "from its source" if name == "npsi-twin" else "not installed"


def _told(measured_with: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in measured_with["software"].items())
    machine = measured_with["machine"]
    return f"Python {measured_with['python']}; {versions}." + (f" Machine: {machine}." if machine else "")


def _write(folder: Path, result: dict[str, Any], rows: list[dict[str, Any]], foot: str) -> None:
    """Write result.json and the table between the markers of README.md."""
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    words = {True: "pass", False: "**FAIL**", None: "report"}
    table = ["| requirement | required | measured | |", "|---|---|---|---|"]
    table += [f"| {r['requirement']} | {r['required']} | {r['measured']} | {words[r['passed']]} |" for r in rows]
    table.append(f"\n{foot}")
    readme = folder / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(START)
    tail = rest.partition(END)[2]
    readme.write_text(head + START + "\n" + "\n".join(table) + "\n" + END + tail, encoding="utf-8")
