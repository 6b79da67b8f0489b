"""What varies between training phantoms, and how it is drawn.

TOML text, a base `Specification` -> `Ranges`; `Ranges`, a base, `Seeds` and the number of a specimen or a scan -> a
drawn `Specification`. A range names a field by its dotted path and gives ``low`` and ``high`` (and ``scale = "log"``)
or ``choices``; a path that names a section has choices that are tables of its fields, drawn together.

Points are the Sobol sequence shifted digitally by random bits (``draw = "sobol"``), so that a small set already covers
its ranges evenly, or independent (``"plain"``); what a coordinate means is said in `npsi_twin.variations`. Point i
follows from the root seed, its number and the attempt alone: a set can grow, and any case can be made again without
the others.

References
----------
J. Tobin et al., "Domain randomization", IROS (2017) 23, doi:10.1109/IROS.2017.8202133.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from npsi_twin.errors import ParameterError
from npsi_twin.seeds import Seeds
from npsi_twin.toml_files import parse_toml, read_toml_text
from npsi_twin.variations import Draw, Range, leaves, range_of, unit_point

Part = Literal["specimen", "scan"]

#: Sections that make a specimen, and those that make its image; the others change neither truth nor image.
_PARTS: dict[Part, tuple[str, ...]] = {"specimen": ("electrode", "ageing"), "scan": ("microscope", "reconstruction")}


@dataclass(frozen=True)
class Ranges:
    """Everything that varies, in the order of the file.

    Attributes
    ----------
    ranges
        What varies.
    draw
        How points are laid.
    text
        The file, as it was read.
    """

    ranges: tuple[Range, ...]
    draw: Draw
    text: str

    def of(self, part: Part) -> tuple[Range, ...]:
        """Return the ranges that concern the specimen, or its scan."""
        return tuple(entry for entry in self.ranges if entry.path[0] in _PARTS[part])


def shipped_ranges() -> str:
    """Return the text of the ranges that the package ships."""
    return files("npsi_twin.phantoms").joinpath("ranges.toml").read_text(encoding="utf-8")


def load_ranges(path: Path | None) -> Ranges:
    """Read ranges from a file; those that the package ships when None.

    Raises
    ------
    DataError
        When the file cannot be read.
    ParameterError
        See `parse_ranges`.
    """
    if path is None:
        return parse_ranges(shipped_ranges(), "ranges.toml")
    return parse_ranges(read_toml_text(path, "a TOML file of ranges with --vary"), str(path))


def parse_ranges(text: str, where: str = "ranges") -> Ranges:
    r"""Read ranges from TOML text.

    Raises
    ------
    ParameterError
        For broken TOML, paths that name no field that varies an image or its truth, ends outside a field's limits or
        in the wrong order, and choices of a wrong type; one line a fault.

    Examples
    --------
    >>> found = parse_ranges("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7}")
    >>> found.ranges[0].name, found.ranges[0].says()
    ('electrode.silicon.porosity_fraction', '0.5 to 0.7')
    """
    tree = parse_toml(text, where)
    draw = tree.pop("draw", "sobol")
    faults = []
    if draw not in ("sobol", "plain"):
        faults.append(f"draw = {draw!r}; points are drawn by 'sobol' or 'plain'.")
    ranges = []
    for path, entry in leaves(tree):
        try:
            _check_varies(path)
            ranges.append(range_of(path, entry))
        except ParameterError as error:
            faults.append(str(error))
    names = [entry.name for entry in ranges]
    faults += [
        f"{one}: varies beside {other}, which holds it. Give one of them."
        for one in names
        for other in names
        if one.startswith(f"{other}.")
    ]
    faults += [f"{name}: is given twice." for name in sorted(set(names)) if names.count(name) > 1]
    if faults:
        raise ParameterError("\n".join(f"{where}: {fault}" for fault in faults))
    return Ranges(tuple(ranges), draw, text)


def _check_varies(path: tuple[str, ...]) -> None:
    """Refuse what changes neither the image nor its truth."""
    varying = [section for sections in _PARTS.values() for section in sections]
    if path[0] not in varying:
        raise ParameterError(
            f"'{'.'.join(path)}': only {', '.join(varying)} vary; nothing else changes the image or its truth (the "
            "seed of every case is drawn). Put it into the base specification."
        )


def draw_values(ranges: Ranges, part: Part, number: int, attempt: int, *, seeds: Seeds) -> dict[str, Any]:
    r"""Draw what varies of one specimen, or of one scan.

    Parameters
    ----------
    ranges
        What varies.
    part
        ``"specimen"`` for electrode and ageing, ``"scan"`` for microscope and reconstruction.
    number
        Number of the specimen, or of the scan, in its set.
    attempt
        0, and the next for every attempt that came to nothing.
    seeds
        Root of the streams ``"phantom specimen"`` and ``"phantom scan"``.

    Returns
    -------
    dict
        Dotted path -> value.

    Examples
    --------
    >>> found = parse_ranges("[electrode.silicon]\nporosity_fraction = {low = 0.5, high = 0.7}")
    >>> drawn = [draw_values(found, "specimen", i, 0, seeds=Seeds(1)) for i in range(2)]
    >>> [round(values["electrode.silicon.porosity_fraction"], 3) for values in drawn]
    [0.556, 0.656]
    """
    taken = ranges.of(part)
    point = unit_point(ranges.draw, f"phantom {part}", len(taken), number, attempt, seeds=seeds)
    return {entry.name: entry.at(float(u)) for entry, u in zip(taken, point, strict=True)}
