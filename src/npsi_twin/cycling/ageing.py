"""Ageing: a pristine scene becomes the scene of a condition by an ordered list of mechanisms.

`Electrode`, `AgeingHypothesis`, `Condition`, `Seeds` -> `Electrode`. A hypothesis is a tuple of mechanisms in the
order in which they act, printable as such, never a set of switches. A mechanism takes a scene and gives a scene; it
may change places, envelopes, levels and lithium, it writes its part of the cell's history, and it states its own
references. A pristine condition leaves every scene as it is.

Lithiation comes before losses that follow from it, and yet must know what is left to charge: a list is played once
with all silicon active, and once more with the active share that came out. Losses here depend on the nominal
charge, and through the contacts on who stands next to whom, so that the second playing comes close to the first.

Shipped are `NONE`, `SWELLING` (first lithiations), `AGGLOMERATION` (the paper's), `DEPTH_FATIGUE` (the null),
`SEI_SWELLING` and `CONTACT_LOSS`; `register_hypothesis` and `register_mechanism` add others, and a specification can
list mechanisms of its own. Parameters without a published range are named by the word *assumed* in their source.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from npsi_twin.cycling.agglomeration import Agglomeration
from npsi_twin.cycling.blocked_diffusion import BlockedDiffusion
from npsi_twin.cycling.capacity import FULL_CAPACITY_MAH_PER_G, ContactLoss, DepthFatigue, with_history
from npsi_twin.cycling.delamination import Delamination
from npsi_twin.cycling.lithiation import Lithiation
from npsi_twin.cycling.macropores import Macropores
from npsi_twin.cycling.protocol import Condition, condition
from npsi_twin.cycling.pulverisation import Pulverisation
from npsi_twin.cycling.sei import SeiGrowth
from npsi_twin.cycling.swelling import Swelling
from npsi_twin.electrode.scene import Electrode
from npsi_twin.errors import IncompatibleError, ParameterError
from npsi_twin.recipes import MadeBy, Recipe, parameter
from npsi_twin.seeds import Seeds

#: Change of the active share below which a list is not played again.
_SAME_SHARE = 1e-6


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
    full_capacity_mah_per_g
        What silicon that takes part can hold, mAh/g; 2500 to 3579 in practice.

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
    full_capacity_mah_per_g: float = FULL_CAPACITY_MAH_PER_G

    def __str__(self) -> str:
        return f"{self.name}: {' -> '.join(m.name for m in self.mechanisms) or 'no mechanism'}"

    def explain(self) -> str:
        """Return the list with every parameter that is not at its default, one mechanism a line.

        Examples
        --------
        >>> print(AgeingHypothesis("mine", (Lithiation(depth_gradient=0.3), Swelling())).explain())
        mine
          lithiation (depth_gradient = 0.3)
          swelling
        """
        lines = [self.name]
        for mechanism in self.mechanisms:
            changed = mechanism.model_dump(exclude_defaults=True) if isinstance(mechanism, Recipe) else {}
            values = ", ".join(f"{key} = {value}" for key, value in changed.items())
            lines.append(f"  {mechanism.name}" + (f" ({values})" if values else ""))
        return "\n".join(lines)


#: Nothing ages; it describes the pristine electrode.
NONE = AgeingHypothesis("none")
#: Silicon takes up lithium and grows; nothing breaks, moves apart or is lost.
SWELLING = AgeingHypothesis(
    "swelling", (Lithiation(), Swelling()), last_cycle=2, beyond="agglomeration, pulverisation and delamination"
)
#: The paper's: agglomeration blocks diffusion and concentrates stress, and the layer comes off.
AGGLOMERATION = AgeingHypothesis(
    "agglomeration",
    (
        Lithiation(), Swelling(), Agglomeration(), SeiGrowth(coulombic_efficiency=0.9999), Pulverisation(),
        Macropores(), BlockedDiffusion(), Delamination(),
    ),
)  # fmt: skip
#: The null: silicon drops out with the depth of charge, whatever its neighbours do.
DEPTH_FATIGUE = AgeingHypothesis(
    "depth-fatigue",
    (DepthFatigue(), Lithiation(), Swelling(), Pulverisation(), Macropores(first_rise=0.41, cycle_rise=3.0)),
)
#: The layer fills with what the electrolyte leaves, and comes off as it thickens.
SEI_SWELLING = AgeingHypothesis(
    "sei-swelling",
    (Lithiation(), Swelling(), SeiGrowth(coulombic_efficiency=0.99), Pulverisation(), Delamination()),
)
#: Particles lose contact, at the same rate at every capacity.
CONTACT_LOSS = AgeingHypothesis(
    "contact-loss",
    (ContactLoss(), Lithiation(), Swelling(), Pulverisation(), Macropores(first_rise=0.41, cycle_rise=3.0)),
)
#: What this package ships.
HYPOTHESES_SHIPPED = (NONE, SWELLING, AGGLOMERATION, DEPTH_FATIGUE, SEI_SWELLING, CONTACT_LOSS)
_HYPOTHESES: dict[str, AgeingHypothesis] = {known.name: known for known in HYPOTHESES_SHIPPED}
_MECHANISMS: dict[str, type[Recipe]] = {
    str(kind.model_fields["mechanism"].default): kind
    for kind in (
        Lithiation, Swelling, Agglomeration, Macropores, SeiGrowth, BlockedDiffusion, Pulverisation, Delamination,
        DepthFatigue, ContactLoss,
    )
}  # fmt: skip


def hypotheses() -> Mapping[str, AgeingHypothesis]:
    """Return all known hypotheses by name, shipped and registered."""
    return dict(_HYPOTHESES)


def mechanisms() -> Mapping[str, type[Recipe]]:
    """Return all mechanisms that a specification can list, by name."""
    return dict(_MECHANISMS)


def register_hypothesis(hypothesis: AgeingHypothesis) -> None:
    """Make a hypothesis known to `hypothesis` and to specifications.

    Raises
    ------
    IncompatibleError
        If another hypothesis has the name.
    """
    if _HYPOTHESES.get(hypothesis.name, hypothesis) != hypothesis:
        raise IncompatibleError(f"hypothesis: {hypothesis.name!r} is taken by another one. Choose another name.")
    _HYPOTHESES[hypothesis.name] = hypothesis


def register_mechanism(kind: type[Recipe]) -> type[Recipe]:
    """Make a mechanism known to specifications; also usable as a class decorator.

    The class is a `Recipe` with `act`, `name`, and a field ``mechanism`` whose default is its name.

    Raises
    ------
    ParameterError
        If the class lacks one of these.
    IncompatibleError
        If another mechanism has the name.

    Examples
    --------
    >>> @register_mechanism
    ... class Bleaching(Recipe):
    ...     mechanism: Literal["bleaching"] = "bleaching"
    ...     name = property(lambda self: self.mechanism)
    ...     def act(self, electrode, condition, *, seeds):
    ...         return electrode
    >>> "bleaching" in mechanisms()
    True
    """
    field = kind.model_fields.get("mechanism")
    if field is None or not isinstance(field.default, str) or not callable(getattr(kind, "act", None)):
        raise ParameterError(
            f"mechanism: {kind.__name__} needs a field `mechanism` with its name as default, and a method "
            "`act(electrode, condition, *, seeds)`; specifications find it by that name. Add them."
        )
    known = _MECHANISMS.get(field.default)
    if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise IncompatibleError(f"mechanism: {field.default!r} is taken by {known.__name__}. Choose another name.")
    _MECHANISMS[field.default] = kind
    return kind


def hypothesis(name: str) -> AgeingHypothesis:
    """Return a hypothesis by name.

    Raises
    ------
    ParameterError
        If there is no such hypothesis.

    Examples
    --------
    >>> hypothesis("none") is NONE
    True
    """
    if name not in _HYPOTHESES:
        raise ParameterError(
            f"ageing hypothesis: got {name!r}; known are {', '.join(_HYPOTHESES)}. Choose one of them, or list "
            "mechanisms of your own ([[ageing.mechanisms]])."
        )
    return _HYPOTHESES[name]


def _listed(given: Any) -> Any:
    """Turn a table with the key ``mechanism`` into the recipe of that name."""
    if not isinstance(given, Mapping):
        return given
    name = given.get("mechanism")
    if name not in _MECHANISMS:
        raise ValueError(f"mechanism = {name!r} is not known; known are {', '.join(_MECHANISMS)}")
    return _MECHANISMS[str(name)].model_validate(given)


class AgeingRecipe(Recipe):
    """Which state of the electrode is made, and what brings it there."""

    condition: str = parameter(
        "pristine",
        "one of the paper's conditions by name, or any '<capacity in mAh/g>/<cycle>'",
        source="Zhao 2018, section 2.2",
    )
    end_state: Literal["lithiated", "delithiated"] = parameter(
        "lithiated",
        "state in which a cycled cell is opened",
        source="stated for first lithiations; assumed for later cycles",
    )
    hypothesis: str = parameter("none", "ageing hypothesis, by name; 'own' for the mechanisms listed", source="assumed")
    mechanisms: Annotated[
        tuple[SerializeAsAny[Annotated[Recipe, BeforeValidator(_listed)]], ...], Field(strict=False)
    ] = parameter((), "mechanisms of a hypothesis of your own, in the order in which they act")

    @model_validator(mode="after")
    def _known(self) -> "AgeingRecipe":
        if bool(self.mechanisms) != (self.hypothesis == "own"):
            raise ParameterError(
                f"ageing: hypothesis = {self.hypothesis!r} with {len(self.mechanisms)} mechanisms listed; mechanisms "
                "are listed for the hypothesis 'own' and for no other. Set hypothesis = \"own\", or leave the list out."
            )
        _check_possible(self.how(), self.what())
        return self

    def what(self) -> Condition:
        """Return the condition of that name, ending as asked."""
        return condition(self.condition).ending(self.end_state)

    def how(self) -> AgeingHypothesis:
        """Return the hypothesis of that name."""
        return AgeingHypothesis("own", self.mechanisms) if self.mechanisms else hypothesis(self.hypothesis)  # type: ignore[arg-type]  # registered mechanisms act


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
        The aged scene with its history; the very same scene for a pristine condition.

    Raises
    ------
    ParameterError
        If the condition was cycled and the hypothesis has no mechanism, or goes beyond the hypothesis's last cycle.
    IncompatibleError
        If the scene was aged before, or a mechanism cannot act after the ones before it.

    Examples
    --------
    >>> from npsi_twin.electrode.build import ElectrodeRecipe, build_electrode
    >>> from npsi_twin.electrode.specimen import SpecimenRecipe
    >>> small = ElectrodeRecipe(specimen=SpecimenRecipe(width_um=2.0, length_um=2.0))
    >>> scene = build_electrode(small, seeds=Seeds(1))
    >>> worn = AgeingHypothesis("worn", (DepthFatigue(), Lithiation(), Swelling()))
    >>> aged = age(scene, worn, condition("2000/100").ending("lithiated"), seeds=Seeds(1))
    >>> round(float(aged.history.active_fraction[99]), 2), aged.history.life_cycles
    (0.93, 440.0)
    """
    _check_possible(hypothesis, condition)
    if condition.is_pristine:
        return electrode
    if electrode.history is not None:
        raise IncompatibleError(
            "ageing: the scene has a history already; the road to a condition starts from a pristine electrode. Build "
            "one, and age it once."
        )
    charged = 1.0
    for _ in range(2):
        begun = with_history(electrode, condition, hypothesis.full_capacity_mah_per_g, charged)
        aged = reduce(
            lambda scene, mechanism: mechanism.act(scene, condition, seeds=seeds), hypothesis.mechanisms, begun
        )
        active = float(aged.history.active_fraction[condition.cycle - 1]) if aged.history else 1.0
        if abs(active - charged) < _SAME_SHARE:
            break
        charged = active
    acted = [m.name + (m.digest() if isinstance(m, Recipe) else "") for m in hypothesis.mechanisms]
    capacity = f"{hypothesis.full_capacity_mah_per_g:g}"
    recipe = "\n".join((electrode.made_by.recipe_digest, repr(condition), capacity, *acted))
    return replace(aged, made_by=MadeBy("age", hashlib.sha256(recipe.encode()).hexdigest(), seeds.root))


def _check_possible(hypothesis: AgeingHypothesis, condition: Condition) -> None:
    if not condition.is_pristine and not hypothesis.mechanisms:
        raise ParameterError(
            f"ageing: condition {condition.name!r} was cycled, and hypothesis {hypothesis.name!r} has no mechanism; an "
            "electrode does not stay as it was. Use the condition 'pristine', another hypothesis "
            f"({', '.join(name for name, known in _HYPOTHESES.items() if known.mechanisms)}), or mechanisms of your "
            "own ([[ageing.mechanisms]])."
        )
    if hypothesis.last_cycle is not None and condition.cycle > hypothesis.last_cycle:
        raise ParameterError(
            f"ageing: condition {condition.name!r} is of cycle {condition.cycle}, and hypothesis {hypothesis.name!r} "
            f"describes cycles up to {hypothesis.last_cycle}; by then {hypothesis.beyond} act, which are not part of "
            "it. Choose an earlier condition or another hypothesis."
        )
