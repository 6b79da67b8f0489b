"""One TOML file <-> the tree of recipes.

`load_specification` reads a file and says, in one message, what is wrong with it and where; `to_toml` writes a
commented file that reads back to the very same tree; `explain` lists every value with its unit and source.
`preset_specification` holds the specifications shipped by name.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from npsi_twin.cycling.ageing import AgeingRecipe
from npsi_twin.electrode.build import ElectrodeRecipe
from npsi_twin.errors import ParameterError
from npsi_twin.execution import ExecutionRecipe
from npsi_twin.morphology.measure import MeasurementRecipe
from npsi_twin.morphology.segmentation import SegmentationRecipe
from npsi_twin.recipes import Described, Recipe, describe, parameter
from npsi_twin.reconstruction.route import ReconstructionRecipe
from npsi_twin.toml_files import parse_toml, read_toml_text
from npsi_twin.txm.microscope import MicroscopeRecipe, simulation_grid
from npsi_twin.txm.presets import aps_32_id_c_2018

Part = TypeVar("Part", bound=Recipe)

PRESETS = ("demo", "tiny", "zhao2018", "zhao2018-7.11kev")
#: Longer values are cut in messages.
_LONGEST_SHOWN = 200


class Specification(Recipe):
    """Everything a run needs to know: electrode, ageing, microscope, reconstruction, segmentation and measurement."""

    name: str = parameter(
        "demo",
        "name of the specimen, used in the scan file and the report, without control characters",
        max_length=80,
        pattern=r"^[^\x00-\x1f\x7f]*$",
    )
    seed: int = parameter(42, "root of every random number", ge=0)
    electrode: ElectrodeRecipe = ElectrodeRecipe()
    ageing: AgeingRecipe = AgeingRecipe()
    microscope: MicroscopeRecipe = MicroscopeRecipe()
    reconstruction: ReconstructionRecipe = ReconstructionRecipe()
    segmentation: SegmentationRecipe = SegmentationRecipe()
    measurement: MeasurementRecipe = MeasurementRecipe()
    execution: ExecutionRecipe = ExecutionRecipe()

    @model_validator(mode="after")
    def _specimen_and_field_fit(self) -> "Specification":
        grid = simulation_grid(self.microscope)
        needed_um = grid.shape[0] * grid.voxel_nm / 1000
        built_um = self.electrode.specimen.length_um
        if built_um < needed_um:
            raise ValueError(
                f"electrode.specimen.length_um = {built_um:g} um, but the microscope sees {needed_um:.2f} um along the "
                "rotation axis (detector rows and their halo); the specimen would end inside the field. Give at least "
                f"{needed_um:.2f}, or fewer microscope.detector.rows"
            )
        field_um = self.microscope.field_radius_px * self.microscope.detector.pixel_nm / 1000
        reach_um = self.electrode.specimen.reach_um
        if reach_um > field_um and not self.microscope.allow_truncation:
            raise ValueError(
                f"electrode.specimen reaches {reach_um:.2f} um from the rotation axis, the microscope's field holds "
                f"{field_um:.2f} um in every view; what leaves the field falsifies the reconstruction. Give a smaller "
                "width_um, more microscope.detector.columns, or microscope.allow_truncation = true"
            )
        return self


def preset_specification(name: str) -> Specification:
    """Return a specification shipped by name.

    Parameters
    ----------
    name
        ``"demo"``: a crop at 2 x 2 binning that walks the whole road in minutes; ``"tiny"``: the same in seconds, too
        small for physics; ``"zhao2018"``: the full frame of the paper's instrument at 8 keV; ``"zhao2018-7.11kev"``: at
        the other end of the energies that it states, where its pixel is smaller.

    Raises
    ------
    ParameterError
        For any other name.

    Examples
    --------
    >>> preset_specification("zhao2018").microscope.stage.views
    1201
    """
    if name == "demo":
        return Specification()
    if name == "tiny":
        return _tiny()
    if name == "zhao2018":
        return _zhao2018("zhao2018", 8.0)
    if name == "zhao2018-7.11kev":
        return _zhao2018("zhao2018-7.11kev", 7.11)
    raise ParameterError(
        f"preset: got {name!r}; shipped are {', '.join(PRESETS)}. Write your own with `npsi-twin init`."
    )


def _tiny() -> Specification:
    """Return a run of seconds: a needle of 5 um, a dozen rows, few views."""
    demo = Specification()
    specimen = demo.electrode.specimen.model_copy(
        update={
            "width_um": 5.0,
            "length_um": 2.0,
            "foil_surface_height_um": -0.8,
            "needle_offset_across_um": 0.3,
            "needle_offset_height_um": -0.2,
        }
    )
    detector = demo.microscope.detector.model_copy(update={"rows": 12, "columns": 128})
    stage = demo.microscope.stage.model_copy(update={"views": 121})
    return Specification(
        name="tiny",
        electrode=demo.electrode.model_copy(update={"specimen": specimen}),
        microscope=demo.microscope.model_copy(update={"detector": detector, "stage": stage}),
        reconstruction=demo.reconstruction.model_copy(update={"sirt_iterations": 50}),
        execution=ExecutionRecipe(slab_rows=8),
    )


def _zhao2018(name: str, energy_kev: float) -> Specification:
    """Return the paper's experiment: the full frame of 32-ID-C and a needle that fits into it."""
    electrode = ElectrodeRecipe()
    specimen = electrode.specimen.model_copy(update={"width_um": 45.0, "length_um": 53.0})
    return Specification(
        name=name,
        electrode=electrode.model_copy(update={"specimen": specimen}),
        microscope=aps_32_id_c_2018(energy_kev),
        execution=ExecutionRecipe(slab_rows=16),
    )


def load_specification(path: Path) -> Specification:
    """Read a specification from a TOML file.

    Parameters
    ----------
    path
        The file; fields it leaves out take their defaults.

    Raises
    ------
    ParameterError
        For broken TOML, unknown fields (with the nearest valid name) and values that may not be; one line a fault.
    DataError
        When the file cannot be read.
    """
    text = read_toml_text(path, "a TOML file, for example from `npsi-twin init`")
    return parse_specification(text, str(path))


def parse_specification(text: str, where: str = "specification") -> Specification:
    """Read a specification from TOML text; see `load_specification`.

    Examples
    --------
    >>> parse_specification("seed = 7").seed
    7
    """
    tree = parse_toml(text, where)
    try:
        return Specification.model_validate(tree)
    except ValidationError as error:
        faults = [f"{where}: {_explain_fault(Specification, fault)}" for fault in error.errors()]
        raise ParameterError("\n".join(faults)) from None


def _explain_fault(root: type[Recipe], fault: ErrorDetails, section: tuple[str, ...] = ()) -> str:
    location = fault["loc"]
    path = ".".join(str(part) for part in (*section, *location))
    parent = _recipe_at(root, location[:-1])
    key = str(location[-1]) if location else ""
    if fault["type"] == "extra_forbidden" and parent is not None:
        near = difflib.get_close_matches(key, parent.model_fields, n=1, cutoff=0.5)
        known = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(parent.model_fields)}."
        return f"'{path}' is not a field; {known}"
    message = fault["msg"].removeprefix("Value error, ").rstrip(".")
    if parent is None or key not in parent.model_fields:
        return f"{path}: {message}." if path else f"{message}."
    field = parent.model_fields[key]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" {extra['unit']}" if extra.get("unit") else ""
    given = fault["input"]
    shown = repr(given) if len(repr(given)) <= _LONGEST_SHOWN else f"{repr(given)[:_LONGEST_SHOWN]}..."
    meaning = f"; it is the {field.description}" if field.description else ""
    text = f"{path} = {shown}{unit}: {message}{meaning}."
    bounds = fault.get("ctx", {})
    limit = bounds.get("le", bounds.get("lt"))
    if isinstance(given, int | float) and limit is not None and limit <= 1 < given <= 100:
        text += f" It is a fraction: did you mean {given / 100:g}?"
    return text


def _recipe_at(root: type[Recipe], location: tuple[int | str, ...]) -> type[Recipe] | None:
    recipe = root
    for part in location:
        field = recipe.model_fields.get(str(part))
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Recipe)]
        if not inner:
            return None
        recipe = inner[0]
    return recipe


def toml_value(value: Any) -> str:
    """Write a value of a recipe's field, or a table of such values, as TOML in one line.

    Examples
    --------
    >>> toml_value({"views": 61, "kinds": ("a", "b")})
    '{views = 61, kinds = ["a", "b"]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {toml_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, Recipe):
        fields = ((name, getattr(value, name)) for name in type(value).model_fields)
        return "{" + ", ".join(f"{name} = {toml_value(inner)}" for name, inner in fields if inner is not None) + "}"
    if isinstance(value, tuple) and value and isinstance(value[0], Recipe):
        return "[\n" + "".join(f"    {toml_value(item)},\n" for item in value) + "]"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)  # TOML knows no surrogates
    return repr(value)


def parse_values(recipe: Part, changes: Mapping[str, Any], section: str) -> Part:
    """Return a recipe, one section of a specification, with some fields changed, checked like a file.

    Examples
    --------
    >>> parse_values(ReconstructionRecipe(), {"algorithm": "fbp"}, "reconstruction").algorithm
    'fbp'
    """
    try:
        return type(recipe).model_validate(recipe.model_dump() | dict(changes))
    except ValidationError as error:
        faults = [_explain_fault(type(recipe), fault, (section,)) for fault in error.errors()]
        raise ParameterError("\n".join(faults)) from None


def to_toml(recipe: Recipe, path: tuple[str, ...] = ()) -> str:
    """Write a recipe tree as commented TOML that reads back to the same tree.

    Parameters
    ----------
    recipe
        A whole specification, or a part of one.
    path
        Where the part stands in a specification, for example ``("reconstruction",)``.

    Examples
    --------
    >>> parse_specification(to_toml(preset_specification("demo"))) == preset_specification("demo")
    True
    """
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines.append(f"# {_first_line(recipe)}")
    _write_table(recipe, path, lines)
    return "\n".join(lines) + "\n"


def _first_line(recipe: Recipe) -> str:
    return (type(recipe).__doc__ or type(recipe).__name__).strip().splitlines()[0]


def _write_table(recipe: Recipe, path: tuple[str, ...], lines: list[str]) -> None:
    leaves = [leaf for leaf in describe(recipe) if "." not in leaf.path]
    for leaf in leaves:
        facts = "; ".join(fact for fact in (leaf.unit, leaf.source) if fact)
        lines.append(f"# {leaf.description}" + (f" [{facts}]" if facts else ""))
        # TOML has no null: a field left to be found is shown, but commented out.
        lines.append(f"# {leaf.path} =" if leaf.value is None else f"{leaf.path} = {toml_value(leaf.value)}")
    for name in type(recipe).model_fields:
        inner = getattr(recipe, name)
        if isinstance(inner, Recipe):
            lines += ["", f"[{'.'.join((*path, name))}]", f"# {_first_line(inner)}"]
            _write_table(inner, (*path, name), lines)


def explain(specification: Specification) -> list[Described]:
    """List every value of the resolved tree with path, unit, source and description."""
    return list(describe(specification))


def explain_mechanisms(specification: Specification) -> list[str]:
    """List what makes and changes the electrode and its image, in the order in which it acts."""
    electrode, microscope, reconstruction = (
        specification.electrode,
        specification.microscope,
        specification.reconstruction,
    )
    silicon, slurry, detector = electrode.silicon, electrode.slurry, microscope.detector
    bismuth = electrode.bismuth.envelope_fraction
    return [
        f"foil: rough copper, {electrode.foil.roughness_nm:g} nm",
        f"powder: faceted particles of about {electrode.powder.median_diameter_um:g} um packed into the layer",
        "pores: level-cut Gaussian field in every particle, "
        f"{100 * silicon.porosity_fraction:g} % of {silicon.mean_pore_nm:g} nm",
        *([f"bismuth: {100 * bismuth:g} % of the particles' envelopes"] if bismuth else []),
        f"carbon-binder: {slurry.carbon_weight_parts:g} : {slurry.polyimide_weight_parts:g} by weight",
        f"ageing to '{specification.ageing.condition}' by {specification.ageing.how()}",
        f"specimen: cut to a {electrode.specimen.shape} of {electrode.specimen.width_um:g} um",
        f"attenuation: Beer-Lambert at {microscope.energy_kev:g} keV through {microscope.supersampling}x finer voxels",
        f"stage: {microscope.stage.views} views, axis {microscope.stage.axis_offset_px:g} px off, random run-out",
        f"optics: zone plate of {microscope.optics.outer_zone_width_nm:g} nm outer zones, then scintillator and lens",
        f"camera: {detector.flat_electrons:g} electrons a pixel, shot and read noise, gain errors, bad pixels",
        f"reconstruction: {reconstruction.rings.method} stripe removal, axis found, {reconstruction.algorithm}",
        f"segmentation: {specification.segmentation.method}, threshold {specification.segmentation.threshold_per_um}",
    ]
