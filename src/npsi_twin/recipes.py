"""What a recipe is: a frozen, typed, hashable request that round-trips through TOML.

Recipes say what to make; products say what was made and carry a `MadeBy`. Every field of a recipe is declared with
`parameter`, which makes it state its unit and its source; `describe` lists them for the reference page and for
``npsi-twin explain``.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """A request: frozen, without unknown fields, without NaN or infinity, without silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, validate_default=True)

    def digest(self) -> str:
        """Return the SHA-256 of the recipe's canonical JSON, the same on every machine."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def parameter(default: Any, description: str, *, unit: str = "", source: str = "", **bounds: Any) -> Any:
    """Declare a recipe's field.

    Parameters
    ----------
    default
        The default value.
    description
        One line that becomes the reference page and the comment in a written specification.
    unit
        Unit, repeated from the field's suffix in readable form; empty for a dimensionless or textual field.
    source
        Where the default comes from, with the word *stated*, *inferred* or *assumed*.
    **bounds
        pydantic's bounds: ``gt``, ``ge``, ``lt``, ``le``, ``min_length`` and so on.

    Examples
    --------
    >>> class Slit(Recipe):
    ...     width_um: float = parameter(5.0, "slit width", unit="um", source="assumed", gt=0)
    >>> Slit().width_um
    5.0
    """
    return Field(default, description=description, json_schema_extra={"unit": unit, "source": source}, **bounds)


class Described(NamedTuple):
    """One field of a recipe tree, ready to be printed."""

    path: str
    value: Any
    unit: str
    source: str
    description: str


def describe(recipe: Recipe, prefix: str = "") -> Iterator[Described]:
    """Walk a recipe tree and yield every leaf with its dotted path, value, unit, source and description."""
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Recipe):
            yield from describe(value, f"{prefix}{name}.")
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield Described(
            f"{prefix}{name}",
            value,
            str(extra.get("unit", "")),
            str(extra.get("source", "")),
            field.description or "",
        )


@dataclass(frozen=True)
class MadeBy:
    """Where a product came from.

    Attributes
    ----------
    stage
        Name of the verb that made it (``"build_electrode"``, ``"reconstruct"`` and so on).
    recipe_digest
        `Recipe.digest` of the recipe used.
    root_seed
        The root seed, or None where the stage draws no random numbers.
    backend
        What an ``"auto"`` choice became; empty where there was none.
    """

    stage: str
    recipe_digest: str
    root_seed: int | None = None
    backend: str = ""

    @property
    def software(self) -> str:
        """Return ``"npsi-twin <version>"``."""
        return f"npsi-twin {version('npsi-twin')}"
