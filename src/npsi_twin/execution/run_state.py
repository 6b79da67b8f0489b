"""What the state of a run may look like: ``run.json`` comes from outside as much as any file that somebody passes on.

`check_state` refuses what is not of the types that the readers of a state rely on. Parts that are not named here are
left alone: each command keeps facts of its own in its request, its arguments and its stages.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

#: What the record of a reconstruction of a scan file says beside the scan's hash.
_OF_A_SCAN = ("scan", "recipe", "reading", "theta_unit", "assume_normalised")


def _below_its_folder(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name or not name:
        raise ValueError(f"names {name!r} as a file of the run; only files below its folder are. Do not trust it")
    return name


_Name = Annotated[str, AfterValidator(_below_its_folder)]
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Stage(_Part):
    files: dict[_Name, str]
    seconds: float = Field(default=0.0, ge=0)
    inputs: dict[_Name, str] = {}
    given_by_user: list[_Name] = []
    code: str | None = None


class _Input(_Part):
    path: _Text
    sha256: str
    bytes: int | None = None


class _Environment(_Part):
    packages: dict[str, str] = {}
    variables: dict[str, str] = {}
    threads: int | None = None


class _Reading(_Part):
    theta: str
    where: dict[str, str]
    line_integrals: bool
    repair: bool
    flats_from_air: bool


class _Request(_Part):
    specification: str | None = None
    sweep: str | None = None
    scan: _Text | None = None
    scan_sha256: str | None = None
    object_sha256: str | None = None
    recipe: str | None = None
    reading: _Reading | None = None
    theta_unit: Literal["deg", "rad"] | None = None
    assume_normalised: bool | None = None
    pixel_nm: float | None = None
    seed: int | None = None
    format: Literal["dataexchange", "nxtomo"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "_Request":
        if "scan_sha256" in self.model_fields_set:
            missing = [name for name in _OF_A_SCAN if name not in self.model_fields_set]
            empty = [name for name in (*_OF_A_SCAN[:3], "assume_normalised") if getattr(self, name) is None]
            if missing or empty:
                raise ValueError(f"names a scan, and lacks {', '.join(dict.fromkeys(missing + empty))}")
        for name in ("specification", "sweep", "scan_sha256", "object_sha256"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} is empty")
        return self


class _Arguments(_Part):
    only: list[str] = []
    pixel_nm: float | None = None
    allowed_roots: list[_Text] = []


class _State(_Part):
    request: _Request
    stages: dict[str, _Stage]
    status: Literal["complete", "incomplete"] = "incomplete"
    command: str = ""
    started: str = ""
    ended: str = ""
    python: str = ""
    platform: str = ""
    code_sha256: str | None = None
    versions: dict[str, str] = {}
    environment: _Environment = _Environment()
    asked: dict[_Name, str] = {}
    inputs: list[_Input] = []
    arguments: _Arguments = _Arguments()
    seed: int | None = None
    count: int = Field(default=0, ge=0)


def check_state(state: Any) -> dict[str, Any]:
    """Return a state that has the types its readers rely on.

    Raises
    ------
    ValueError
        Says what is wrong with it, and where.

    Examples
    --------
    >>> check_state({"request": {}, "stages": {}, "count": "x"})
    Traceback (most recent call last):
    ...
    ValueError: count: Input should be a valid integer
    """
    try:
        _State.model_validate(state)
        # Half of a pair of surrogates can be told in JSON, and neither be printed nor name a file.
        os.fsencode(json.dumps(state, ensure_ascii=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    return dict(state)
