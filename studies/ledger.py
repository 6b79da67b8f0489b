"""What every study does with its rows: play those that are missing, and write what was found into its README.

A row is what one specimen shows: facts that name it, and numbers. It stands in a CSV file under a key of everything
that went into it, so that a study goes on where it was interrupted and plays nothing twice; after a change of the
package's code begin with ``--fresh``.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import shutil
import time
from importlib.metadata import version
from pathlib import Path

from npsi_twin.errors import DataError, NotConvergedError, ParameterError
from npsi_twin.execution import write_text_whole

#: Why there may be no number: what nature, or a model's range, refuses.
REFUSALS = (DataError, NotConvergedError, ParameterError)


def arguments(what, here):
    """Read the command line; return it with ``out``, a folder in which the study's README stands."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest design that shows how it goes")
    parser.add_argument("--fresh", action="store_true", help="forget what was played before")
    parser.add_argument("--out", type=Path, default=here, help="folder of the results; this one")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.out.resolve() != here.resolve():
        shutil.copy(here / "README.md", given.out)
    return given


def key_of(*told):
    """Say in a few letters what a row was made from."""
    text = json.dumps([*told, version("npsi-twin")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def play_rows(tasks, path, *, fresh=False):
    """Return the rows of all tasks, in their order, and play those that the file does not hold yet.

    Parameters
    ----------
    tasks
        Of each the key, the facts that name its rows, and a function without arguments that gives a list of rows.
    path
        The CSV file; rows that no task asks for are dropped from it.
    """
    known = {} if fresh else _read(path)
    missing = [key for key, _, _ in tasks if key not in known]
    print(f"{len(tasks)} walks, {len(missing)} to go", flush=True)
    begun, done = time.perf_counter(), 0
    for key, facts, play in tasks:
        if key in known:
            continue
        try:
            known[key] = [{"failure": "", **row} for row in play()]
        except REFUSALS as error:
            known[key] = [{"failure": f"{type(error).__name__}: {error}"}]
        _write(path, tasks, known)
        done += 1
        spent = time.perf_counter() - begun
        left = spent / done * (len(missing) - done)
        print(
            f"{done}/{len(missing)} {' '.join(map(str, facts.values()))}: {spent:.0f} s, {left:.0f} s left", flush=True
        )
    _write(path, tasks, known)
    return [{**facts, **row} for key, facts, _ in tasks for row in known[key]]


def _read(path):
    rows = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row.pop("key"), []).append({name: _value(cell) for name, cell in row.items() if cell})
    for of_key in rows.values():
        for row in of_key:
            row.setdefault("failure", "")
    return rows


def _value(cell):
    """Return a number as a number and everything else as it stands."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _write(path, tasks, known):
    rows = [{"key": key, **facts, **row} for key, facts, _ in tasks if key in known for row in known[key]]
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text_whole(path, text.getvalue())


def mean_and_sd(values):
    """Return mean, standard deviation (NaN of fewer than two) and number of what is finite."""
    known = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    if not known:
        return math.nan, math.nan, 0
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, math.nan, len(known)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)), len(known)


def told(values, digits=3, sign=""):
    """Write mean and spread of numbers for a table; what could not be had as such."""
    mean, sd, n = mean_and_sd(values)
    if not n:
        return "none"
    spread = f" ± {sd:.{max(1, digits - 1)}g}" if math.isfinite(sd) else ""
    missing = len(values) - n
    return f"{mean:{sign}.{digits}g}{spread}" + (f" ({missing} of {len(values)} failed)" if missing else "")


def table(head, rows):
    """Return the lines of a table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def render(folder, parts, found):
    """Write ``result.json`` and replace what stands between the markers of ``README.md``."""
    write_text_whole(folder / "result.json", json.dumps(_plain(found), indent=1, allow_nan=False) + "\n")
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    for part, lines in parts.items():
        start, end = f"<!-- {part} -->", f"<!-- /{part} -->"
        if start not in text or end not in text:
            raise DataError(f"{readme}: has no place {start} for what was found. Restore the file.")
        head, _, rest = text.partition(start)
        text = head + start + "\n" + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    write_text_whole(readme, text)


def _plain(tree):
    """Return a tree without NaN, which JSON does not know."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def points(quick, sentences):
    """Return the lines of an answer, a point for each of its sentences, and whether it is a trial's."""
    trial = (
        ["**This is the `--quick` trial, which shows how the study goes and decides nothing.**", ""] if quick else []
    )
    return trial + [f"- {sentence}" for sentence in sentences]
