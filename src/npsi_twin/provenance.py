"""What a run says of its making: code, environment, inputs and times in ``run.json``, and an RO-Crate of the whole.

`remember` adds to the state of a `RunFolder`, while it runs, what a reader needs to make it again; `finish` completes
it and writes ``ro-crate-metadata.json``, which other programs read.
"""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from npsi_twin.execution import RunFolder, code_sha256, file_sha256, threads, write_text_whole
from npsi_twin.storage.ro_crate import CRATE, crate_text

#: In the folder of a run: what was asked for.
SPECIFICATION = "specification.toml"
#: Variables that may change how libraries compute, though not what comes out of ours.
_VARIABLES = (
    "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_DISABLE_JIT",
    "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
#: Extras that no result depends on.
_TOOLS = ("test", "lint", "validation")


@cache
def package_versions() -> Mapping[str, str]:
    """Return the versions of everything that the package needs, and of what it uses where it is there."""
    names = {"npsi-twin"}
    for requirement in requires("npsi-twin") or ():
        name, _, condition = requirement.partition(";")
        if not any(f'"{tools}"' in condition.replace("'", '"') for tools in _TOOLS):
            names.add(re.split(r"[^\w.-]", name, maxsplit=1)[0])
    found = {}
    for name in sorted(names, key=str.lower):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def input_facts(path: Path, digest: str) -> dict[str, Any]:
    """Return where an input from outside the run lay, and what it was."""
    facts: dict[str, Any] = {"path": str(path.resolve()), "sha256": digest}
    return facts | ({"bytes": path.stat().st_size} if path.is_file() else {})


def remember(
    run: RunFolder,
    *,
    asked: Sequence[str] = (),
    inputs: Sequence[Mapping[str, Any]] = (),
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Add code, environment, inputs and the time of the beginning to the state of a run.

    Parameters
    ----------
    run
        The run; what its state knows already of its beginning stays when it is resumed.
    asked
        Files of the folder that say what was asked for, such as ``specification.toml``.
    inputs
        `input_facts` of what was read from outside the folder.
    arguments
        What else the caller stated.
    """
    # One of an earlier run would speak of files that are about to change.
    (run.path / CRATE).unlink(missing_ok=True)
    run.state.setdefault("started", _now())
    run.state |= {
        "code_sha256": code_sha256(),
        "environment": {
            "packages": dict(package_versions()),
            "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
            "threads": threads(),
        },
        "asked": {name: file_sha256(run.path / name) for name in asked},
        "inputs": [dict(entry) for entry in inputs],
        "arguments": dict(arguments or {}),
    }
    run.save()


def finish(run: RunFolder, *, parts: Mapping[str, str] | None = None) -> None:
    """Say that everything is there, and write the RO-Crate.

    Parameters
    ----------
    run
        The run.
    parts
        Name -> SHA-256 of files that belong to it beside those of its stages.
    """
    run.state["ended"] = _now()
    run.complete()
    write_text_whole(run.path / CRATE, crate_text(run.path, run.state, parts or {}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
