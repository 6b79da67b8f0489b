"""Whether a folder is still what was written: every file that it recorded, hashed again.

A folder of anything that a command made -> `Finding` for each recorded file: ``same``; ``given`` (not what a
stage wrote, but what a later stage read and named as the user's); ``changed``; ``missing``. What was asked for is
checked too: by its recorded hash, or, where an older run has none, ``specification.toml`` by the digest of its values.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.execution import STATE, file_sha256, read_state
from npsi_twin.specification import load_specification

Condition = Literal["same", "given", "changed", "missing"]
_MANIFEST, _SPECIFICATION = "manifest.jsonl", "specification.toml"


@dataclass(frozen=True)
class Finding:
    """What became of one recorded file.

    Attributes
    ----------
    file
        Its name in the folder.
    condition
        What became of it.
    recorded, found
        SHA-256 then and now; ``found`` is empty for a file that is missing.
    recorded_by
        What recorded it: a stage, ``"request"``, or a case.
    """

    file: str
    condition: Condition
    recorded: str
    found: str
    recorded_by: str


@dataclass(frozen=True)
class Verification:
    """What became of a folder.

    Attributes
    ----------
    folder
        The folder.
    status
        What its record says of itself: ``"complete"`` or ``"incomplete"``.
    findings
        Every recorded file, in the order of the records.
    """

    folder: Path
    status: str
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether no recorded file was changed or is missing."""
        return all(finding.condition in ("same", "given") for finding in self.findings)

    def of(self, condition: Condition) -> list[Finding]:
        """Return the files of one condition."""
        return [finding for finding in self.findings if finding.condition == condition]

    def as_text(self) -> str:
        """Return what is to be known, for people."""
        meanings: dict[Condition, str] = {
            "changed": "changed since {} wrote it",
            "missing": "missing, though {} wrote it",
            "given": "given by the user, as {} read it",
        }
        lines = [
            f"{finding.file}: {meaning.format(finding.recorded_by)}"
            for condition, meaning in meanings.items()
            for finding in self.of(condition)
        ]
        counts = Counter(finding.condition for finding in self.findings)
        told = ", ".join(f"{counts[kind]} {kind}" for kind in ("same", *meanings) if counts[kind])
        return "\n".join([*lines, f"{self.folder} ({self.status}): {told or 'no files'}"])

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for machines."""
        files = [vars(finding) for finding in self.findings]
        return {"folder": str(self.folder), "status": self.status, "sound": self.sound, "files": files}


def verify(folder: Path) -> Verification:
    """Hash every recorded file of a folder again.

    Parameters
    ----------
    folder
        Of a run with the budget that lies in it, a reconstruction, a scan, a sweep, a set of phantoms, a budget or
        states.

    Raises
    ------
    DataError
        When the folder holds no record, or one that cannot be read.
    """
    state = read_state(folder)
    found = [*_asked(folder, state), *_written(folder, state), *_cases(folder)]
    for nested in sorted([*folder.glob(f"twins/*/{STATE}"), *folder.glob(f"budget/{STATE}")]):
        prefix = nested.parent.relative_to(folder).as_posix()
        found += [
            Finding(f"{prefix}/{one.file}", one.condition, one.recorded, one.found, one.recorded_by)
            for one in verify(nested.parent).findings
        ]
    return Verification(folder, str(state.get("status", "incomplete")), tuple(found))


def _look(folder: Path, name: str, recorded: str, by: str) -> Finding:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        # The record may have been edited by anybody.
        raise DataError(f"{folder}: its record names {name}, which lies outside. It is not a record of ours.")
    if not path.is_file():
        return Finding(name, "missing", recorded, "", by)
    found = file_sha256(path)
    return Finding(name, "same" if found == recorded else "changed", recorded, found, by)


def _asked(folder: Path, state: dict[str, Any]) -> Iterator[Finding]:
    for name, digest in state.get("asked", {}).items():
        yield _look(folder, name, digest, "the request")
    if "specification" in state["request"] and _SPECIFICATION not in state.get("asked", {}):
        recorded = str(state["request"]["specification"])
        try:
            now = load_specification(folder / _SPECIFICATION).digest()
            yield Finding(_SPECIFICATION, "same" if now == recorded else "changed", recorded, now, "the request")
        except (DataError, ParameterError):
            there = (folder / _SPECIFICATION).is_file()
            yield Finding(_SPECIFICATION, "changed" if there else "missing", recorded, "", "the request")


def _written(folder: Path, state: dict[str, Any]) -> Iterator[Finding]:
    """Look at what stages wrote, and at what they read that none of them wrote."""
    stages = state["stages"]
    given = {
        (name, entry.get("inputs", {}).get(name)): stage
        for stage, entry in stages.items()
        for name in entry.get("given_by_user", [])
    }
    written = {name for entry in stages.values() for name in entry["files"]}
    for stage, entry in stages.items():
        for name, digest in entry["files"].items():
            finding = _look(folder, name, digest, stage)
            reader = given.get((name, finding.found))
            yield finding if reader is None else Finding(name, "given", finding.found, finding.found, reader)
    for (name, digest), stage in given.items():
        if name not in written:
            finding = _look(folder, name, str(digest), stage)
            same = finding.condition == "same"
            yield Finding(name, "given", str(digest), finding.found, stage) if same else finding


def _cases(folder: Path) -> Iterator[Finding]:
    """Look at the files of a set of phantoms, case by case."""
    for name, digest, case in _files_of_cases(folder):
        yield _look(folder, name, digest, case)


def _files_of_cases(folder: Path) -> list[tuple[str, str, str]]:
    """Return name, SHA-256 and case of the files of a set of phantoms; none for another folder."""
    path = folder / _MANIFEST
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(name, digest, str(line["case"])) for line in lines for name, digest in dict(line["files"]).items()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None


def recorded_files(folder: Path, state: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name and SHA-256 of every file that a folder recorded as made, and the stage or case that made it.

    Parameters
    ----------
    folder
        The folder.
    state
        What its ``run.json`` holds.
    """
    made = [
        (name, digest, stage) for stage, entry in state["stages"].items() for name, digest in entry["files"].items()
    ]
    return [*made, *_files_of_cases(folder)]
