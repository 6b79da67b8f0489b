"""The RO-Crate of a run: ``ro-crate-metadata.json``, which says in schema.org's words what was made from what.

The state of a run -> JSON-LD after RO-Crate 1.1 and the profile Process Run Crate 0.5. The run is a ``CreateAction``
with its times, environment and seed; every stage is one too, with the files that it read and wrote and the backend that
it took. Files carry their SHA-256. Equal runs give equal crates, but for times, seconds and the machine.

References
----------
S. Soiland-Reyes et al., Data Sci. 5 (2022) 97, doi:10.3233/DS-210053 (RO-Crate).
S. Leo et al., PLoS ONE 19 (2024) e0309210, doi:10.1371/journal.pone.0309210 (Workflow Run RO-Crate).
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

CRATE = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
_COMPLETED = {"@id": "http://schema.org/CompletedActionStatus"}
_FORMATS = {
    ".h5": "application/x-hdf5",
    ".csv": "text/csv",
    ".json": "application/json",
    ".toml": "application/toml",
    ".html": "text/html",
    ".parquet": "application/vnd.apache.parquet",
}


def crate_text(folder: Path, state: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    """Return the crate of a complete run.

    Parameters
    ----------
    folder
        Its folder; files are asked for their sizes.
    state
        What its ``run.json`` holds.
    parts
        Name -> SHA-256 of files that no stage recorded, such as those of the cases of a set.
    """
    files = dict(state.get("asked", {}))
    for entry in state["stages"].values():
        files |= entry["files"] | entry.get("inputs", {})
    files |= parts
    inputs = {_address(entry): entry for entry in state.get("inputs", [])}
    settings = _settings(state)
    actions = [_stage_action(name, entry, state, inputs) for name, entry in state["stages"].items()]
    graph = [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _SPECIFICATION},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Run of npsi-twin: {folder.resolve().name}",
            "description": f"Made by `{state.get('command', '')}`",
            "datePublished": state["ended"],
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [_id(quote(name)) for name in files],
            "mentions": [_id("#run"), *(_id(action["@id"]) for action in actions)],
        },
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        *_software(state),
        {
            "@id": "#run",
            "@type": "CreateAction",
            "name": "the whole run",
            "description": state.get("command", ""),
            "startTime": state["started"],
            "endTime": state["ended"],
            "actionStatus": _COMPLETED,
            "instrument": _id("#npsi-twin"),
            "object": [
                *(_id(quote(name)) for name in state.get("asked", {})),
                *(_id(address) for address in inputs),
                *(_id(entry["@id"]) for entry in settings),
            ],
            "result": [
                *(_id(quote(name)) for entry in state["stages"].values() for name in entry["files"]),
                *(_id(quote(name)) for name in parts),
            ],
            "environment": [_id(entry["@id"]) for entry in _variables(state)],
        },
        *actions,
        *settings,
        *_variables(state),
        *(_file(folder, name, digest) for name, digest in files.items()),
        *({**_named(address, entry), "sha256": entry["sha256"]} for address, entry in inputs.items()),
    ]
    tree = {"@context": _CONTEXT, "@graph": [_without_empty(entity) for entity in graph]}
    return json.dumps(tree, indent=2) + "\n"


def _id(name: str) -> dict[str, str]:
    return {"@id": name}


def _without_empty(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entity.items() if value not in ([], "")}


def _address(entry: Mapping[str, Any]) -> str:
    # It lies outside the crate, which is to be passed on: its hash says what it was, run.json where it lay.
    return f"#input-{quote(Path(entry['path']).name)}"


def _named(address: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    size = {"contentSize": str(entry["bytes"])} if "bytes" in entry else {}
    return {"@id": address, "@type": "CreativeWork", "name": Path(entry["path"]).name, **size}


def _file(folder: Path, name: str, digest: str) -> dict[str, Any]:
    path, kind = folder / name, _FORMATS.get(PurePosixPath(name).suffix, "application/octet-stream")
    size = {"contentSize": str(path.stat().st_size)} if path.is_file() else {}
    return {"@id": quote(name), "@type": "File", "name": name, "encodingFormat": kind, "sha256": digest, **size}


def _software(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the package and what it rests on, with versions."""
    packages = {**state["versions"], **state.get("environment", {}).get("packages", {})}
    own = packages.pop("npsi-twin")
    others = [
        {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": number}
        for name, number in {"python": state["python"], **packages}.items()
    ]
    twin = {
        "@id": "#npsi-twin",
        "@type": "SoftwareApplication",
        "name": "npsi-twin",
        "softwareVersion": own,
        "identifier": f"sha256:{state['code_sha256']}",
        "softwareRequirements": [_id(entry["@id"]) for entry in others],
        "operatingSystem": state["platform"],
    }
    return [twin, *others]


def _settings(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the seed and what the request consists of, as values that went into the run."""
    values = {"seed": state["seed"]} if "seed" in state else {}
    values |= {f"request {name}": value for name, value in state["request"].items()}
    values |= {f"argument {name}": value for name, value in state.get("arguments", {}).items()}
    return [
        {
            "@id": f"#{quote(name)}",
            "@type": "PropertyValue",
            "name": name,
            "value": value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True),
        }
        for name, value in values.items()
    ]


def _variables(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    variables = state.get("environment", {}).get("variables", {})
    return [
        {"@id": f"#environment-{name}", "@type": "PropertyValue", "name": name, "value": value}
        for name, value in variables.items()
    ]


def _stage_action(
    name: str, entry: Mapping[str, Any], state: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what one stage read and wrote, and by which backend."""
    backend = {"description": f"projector: {entry['projector']}"} if "projector" in entry else {}
    first = name == next(iter(state["stages"]))
    return {
        "@id": f"#stage-{quote(name)}",
        "@type": "CreateAction",
        "name": name,
        **backend,
        "instrument": _id("#npsi-twin"),
        "object": [
            *(_id(quote(file)) for file in (*state.get("asked", {}), *entry.get("inputs", {}))),
            *(_id(address) for address in inputs if first),
        ],
        "result": [_id(quote(file)) for file in entry["files"]],
        "actionStatus": _COMPLETED,
    }
