"""Ageing: a pristine scene becomes the scene of a condition by an ordered list of mechanisms.

`Electrode`, `AgeingHypothesis`, `Condition`, `Seeds` -> `Electrode`. A hypothesis is a tuple of mechanisms in the
order in which they act, printable as such, never a set of switches. A mechanism takes a scene and gives a scene; it
may change places, envelopes, levels and lithium, and it states its own references. A pristine condition leaves every
scene as it is.

This version ships `NONE`, which describes pristine electrodes only, and `SWELLING`: lithiation and swelling, for
electrodes in their first lithiations.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import Protocol

from pydantic import model_validator

from npsi_twin.cycling.lithiation import Lithiation
from npsi_twin.cycling.protocol import Condition, condition
from npsi_twin.cycling.swelling import Swelling
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import ParameterError
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.seeds import Seeds


class Mechanism(Protocol):
    """One thing that cycling does to an electrode."""

    @property
    def name(self) -> str:
        """Name of the mechanism and of its random streams, for example ``"lithiation"``."""

    def act(self, electrode: Electrode, condition: Condition, *, seeds: Seeds) -> Electrode:
        """Return the scene after this mechanism; the input stays untouched."""


@dataclass(frozen=True)
class AgeingHypothesis:
    """An ordered list of mechanisms.

    Attributes
    ----------
    name
        By which specifications call it.
    mechanisms
        In the order in which they act.
    last_cycle
        Last cycle that they may describe; None: any.
    beyond
        What acts after the last cycle and is not among them.

    Examples
    --------
    >>> print(NONE)
    none: no mechanism
    >>> print(SWELLING)
    swelling: lithiation -> swelling
    """

    name: str
    mechanisms: tuple[Mechanism, ...] = ()
    last_cycle: int | None = None
    beyond: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {' -> '.join(m.name for m in self.mechanisms) or 'no mechanism'}"


#: Nothing ages; it describes the pristine electrode.
NONE = AgeingHypothesis("none")
#: Silicon takes up lithium and grows; nothing breaks, moves apart or is lost.
SWELLING = AgeingHypothesis(
    "swelling", (Lithiation(), Swelling()), last_cycle=2, beyond="agglomeration, pulverisation and delamination"
)
#: Hypotheses by name.
HYPOTHESES = MappingProxyType({known.name: known for known in (NONE, SWELLING)})


def hypothesis(name: str) -> AgeingHypothesis:
    """Return a hypothesis by name.

    Raises
    ------
    ParameterError
        If this version has no such hypothesis.

    Examples
    --------
    >>> hypothesis("none") is NONE
    True
    """
    if name not in HYPOTHESES:
        raise ParameterError(
            f"ageing hypothesis: got {name!r}; this version knows {', '.join(HYPOTHESES)}. "
            "Choose one of them, or pass an AgeingHypothesis of your own mechanisms to `age`."
        )
    return HYPOTHESES[name]


class AgeingRecipe(Recipe):
    """Which state of the electrode is made, and what brings it there."""

    condition: str = parameter("pristine", "one of the paper's conditions, by name", source="Zhao 2018, section 2.2")
    hypothesis: str = parameter("none", "ageing hypothesis, by name", source="assumed")

    @model_validator(mode="after")
    def _known(self) -> "AgeingRecipe":
        _check_possible(self.how(), self.what())
        return self

    def what(self) -> Condition:
        """Return the condition of that name."""
        return condition(self.condition)

    def how(self) -> AgeingHypothesis:
        """Return the hypothesis of that name."""
        return hypothesis(self.hypothesis)


def age(electrode: Electrode, hypothesis: AgeingHypothesis, condition: Condition, *, seeds: Seeds) -> Electrode:
    """Age a pristine scene to a condition.

    Parameters
    ----------
    electrode
        A pristine scene.
    hypothesis
        Mechanisms, in the order in which they act.
    condition
        What the electrode went through.
    seeds
        Root of the mechanisms' streams.

    Returns
    -------
    Electrode
        The aged scene; the very same scene for a pristine condition.

    Raises
    ------
    ParameterError
        If the condition was cycled and the hypothesis has no mechanism, or goes beyond the hypothesis's last cycle.
    """
    _check_possible(hypothesis, condition)
    if condition.is_pristine:
        return electrode
    aged = reduce(
        lambda scene, mechanism: mechanism.act(scene, condition, seeds=seeds), hypothesis.mechanisms, electrode
    )
    acted = [m.name + (m.digest() if isinstance(m, Recipe) else "") for m in hypothesis.mechanisms]
    recipe = "\n".join((electrode.made_by.recipe_digest, repr(condition), *acted))
    return replace(aged, made_by=MadeBy("age", hashlib.sha256(recipe.encode()).hexdigest(), seeds.root))


def _check_possible(hypothesis: AgeingHypothesis, condition: Condition) -> None:
    if not condition.is_pristine and not hypothesis.mechanisms:
        raise ParameterError(
            f"ageing: condition {condition.name!r} was cycled, and hypothesis {hypothesis.name!r} has no mechanism; an "
            "electrode does not stay as it was. Use the condition 'pristine', another hypothesis "
            f"({', '.join(name for name, known in HYPOTHESES.items() if known.mechanisms)}), or pass an "
            "AgeingHypothesis of your own mechanisms to `age`."
        )
    if hypothesis.last_cycle is not None and condition.cycle > hypothesis.last_cycle:
        raise ParameterError(
            f"ageing: condition {condition.name!r} is of cycle {condition.cycle}, and hypothesis {hypothesis.name!r} "
            f"describes cycles up to {hypothesis.last_cycle}; by then {hypothesis.beyond} act, which are not part of "
            "this version. Choose an earlier condition, or pass an AgeingHypothesis of your own mechanisms to `age`."
        )
