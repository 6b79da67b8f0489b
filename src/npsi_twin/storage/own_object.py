"""Objects that users bring to the microscope: attenuation, or labels with a table of what they are made of.

`open_object` takes a volume in any format of `npsi_twin.storage.volumes` and gives an `OwnObject`, whose
`attenuation_per_um` answers for any rows of any grid, reading only the slices it needs. The object is centred on the
rotation axis, its first axis along it. `read_compounds` reads the table, a TOML file with one table a label::

    [0]
    attenuation_per_um = 0.0        # void
    [1]
    formula = "Si"
    density_g_per_cm3 = 2.329
    [2]
    material = "copper"             # known by name, see npsi_twin.materials.compounds
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npsi_twin.errors import DataError, ParameterError
from npsi_twin.materials.compounds import MATERIALS, attenuation_per_um
from npsi_twin.resampling import resampled_slice, shares
from npsi_twin.storage.volumes import VolumeFile, open_volume
from npsi_twin.toml_files import read_toml
from npsi_twin.volumes import FloatArray, VoxelGrid

_PER_UM = {"1/um": 1.0, "1/µm": 1.0, "1/nm": 1e3, "1/mm": 1e-3, "1/cm": 1e-4, "1/m": 1e-6}
_VALUES_AT_ONCE = 1 << 24
_LONGEST_FORMULA = 200
_KEYS = {"name", "material", "formula", "density_g_per_cm3", "attenuation_per_um"}


@dataclass(frozen=True)
class Footprint:
    """What a look through a whole object found.

    Attributes
    ----------
    reach_nm
        Largest distance from the rotation axis at which there is matter.
    occupied
        (y, x), True where there is matter in any slice.
    """

    reach_nm: float
    occupied: NDArray[np.bool_]


@dataclass(frozen=True)
class OwnObject:
    """An object on a lattice of voxels; its values stay on disk until they are asked for.

    Attributes
    ----------
    volume
        Where the values lie.
    per_um
        1/um for a value of 1, where the values are attenuation; 0 for labels.
    labels
        (label, attenuation in 1/um) of every label; empty for attenuation.
    """

    volume: VolumeFile
    per_um: float
    labels: tuple[tuple[int, float], ...]

    @cached_property
    def _table(self) -> FloatArray:
        """Attenuation by label."""
        table = np.full(max(label for label, _ in self.labels) + 1, np.nan, np.float32)
        for label, value in self.labels:
            table[label] = value
        return table

    def read(self, rows: range) -> FloatArray:
        """Return the attenuation of some slices in 1/um, (z, y, x).

        Raises
        ------
        DataError
            For a label without an entry, NaN, or negative attenuation; says where.
        """
        values = self.volume.read(rows)
        if self.labels:
            known = np.isin(values, [label for label, _ in self.labels])
            if not known.all():
                missing = ", ".join(map(str, np.unique(values[~known])[:8]))
                raise DataError(
                    f"{self.volume.path}: slices {rows.start} to {rows.stop - 1} hold the label(s) {missing}, which "
                    "--compounds does not name. Without a compound a label has no attenuation; add a table for it."
                )
            return np.asarray(self._table[values], np.float32)
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            z, y, x = map(int, np.argwhere(bad)[0])
            raise DataError(
                f"{self.volume.path}: {np.count_nonzero(bad)} voxels of slices {rows.start} to {rows.stop - 1} hold no "
                f"attenuation, the first {values[z, y, x]} at (z, y, x) = ({rows.start + z}, {y}, {x}); finite values "
                "from 0 are needed, matter does not amplify X-rays. Set what is noise to 0."
            )
        return np.asarray(values * self.per_um, np.float32)

    def attenuation_per_um(self, grid: VoxelGrid, rows: range) -> FloatArray:
        """Return the mean attenuation of the voxels of some rows of a grid, 1/um, (row, y, x)."""
        volume = self.volume
        along, down, across = (
            shares(new, grid.voxel_nm, old, volume.voxel_nm) for new, old in zip(grid.shape, volume.shape, strict=True)
        )
        found = np.zeros((len(rows), *grid.shape[1:]), np.float32)
        part = along[rows.start : rows.stop]
        if part.nnz == 0:
            return found
        needed = range(int(part.indices.min()), int(part.indices.max()) + 1)
        weights = part[:, needed.start : needed.stop].toarray()
        for depth, values in enumerate(self.read(needed)):
            image = resampled_slice(values, down, across)
            for place in np.flatnonzero(weights[:, depth]):
                found[place] += weights[place, depth] * image
        return found

    def footprint(self) -> Footprint:
        """Look through the whole object: check every value, and find how far it reaches."""
        nz, ny, nx = self.volume.shape
        occupied = np.zeros((ny, nx), bool)
        height = max(1, _VALUES_AT_ONCE // (ny * nx))
        for start in range(0, nz, height):
            occupied |= (self.read(range(start, min(start + height, nz))) > 0).any(axis=0)
        # The outer corner of a voxel, not its middle.
        y, x = (np.abs(np.arange(n) - (n - 1) / 2) + 0.5 for n in (ny, nx))
        reach = np.hypot(y[:, None], x[None, :])[occupied].max(initial=0.0)
        return Footprint(float(reach) * self.volume.voxel_nm, occupied)


def open_object(
    path: Path,
    energy_kev: float,
    *,
    dataset: str | None = None,
    voxel_nm: float | None = None,
    unit: str | None = None,
    compounds: Path | None = None,
) -> OwnObject:
    """Open an object.

    Parameters
    ----------
    path
        HDF5 (also this package's truth files), TIFF, npz or npy.
    energy_kev
        Photon energy, for the compounds.
    dataset
        Data set or array where there are several; ``attenuation_per_um`` is taken where there is one.
    voxel_nm
        Edge of a voxel in nm; overrides what the file states.
    unit
        Unit of attenuation, ``"1/um"`` or ``"1/cm"``; overrides what the file states.
    compounds
        Table of the labels; see `read_compounds`.

    Raises
    ------
    DataError, ParameterError
        When it cannot be told what the values mean.
    """
    if dataset is None and path.suffix.lower() in (".h5", ".hdf5"):
        dataset = _own_attenuation(path)
    volume = open_volume(path, dataset, voxel_nm=voxel_nm)
    if compounds is not None:
        if volume.dtype.kind == "f":
            raise ParameterError(
                f"{path}: holds real numbers, but --compounds is for labels. Leave it out for attenuation, or give "
                "whole numbers."
            )
        if unit is not None:
            raise ParameterError("--unit is the unit of attenuation; labels with --compounds have none. Leave it out.")
        table = read_compounds(compounds, energy_kev)
        return OwnObject(volume, 0.0, tuple(sorted(table.items())))
    if volume.dtype.kind != "f":
        raise DataError(
            f"{path}: holds whole numbers, which are labels without compounds. Give --compounds FILE.toml with a "
            "formula and a density for each, or attenuation as real numbers."
        )
    stated = (unit if unit is not None else volume.unit).strip()
    factor = _PER_UM.get(_unit_word(stated))
    if factor is None:
        raise DataError(
            f"{path}: the attenuation has the unit '{stated}'; known are {', '.join(_PER_UM)}. A factor of ten "
            "thousand lies between 1/cm and 1/um: give --unit."
        )
    return OwnObject(volume, factor, ())


def _own_attenuation(path: Path) -> str | None:
    """Return the data set of attenuation of this package's own files."""
    from npsi_twin.storage.hdf5 import open_hdf5

    with open_hdf5(path) as file:
        return "attenuation_per_um" if file.has("attenuation_per_um") else None


def _unit_word(unit: str) -> str:
    word = unit.lower().replace(" ", "").replace("^", "")
    return f"1/{word.removesuffix('-1')}" if word.endswith("-1") else word


def read_compounds(path: Path, energy_kev: float) -> dict[int, float]:
    """Read a table of compounds.

    Parameters
    ----------
    path
        TOML: one table a label, with ``material`` (a name), ``formula`` and ``density_g_per_cm3``, or
        ``attenuation_per_um``.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    dict
        Label -> attenuation in 1/um.

    Raises
    ------
    ParameterError
        For what is not a table of compounds; one line a fault.
    DataError
        When the file cannot be read.
    """
    tree = read_toml(path, "a TOML file with a table a label")
    found, faults = {}, []
    for label, entry in tree.items():
        try:
            if not label.isdecimal() or len(label) > 5 or int(label) > 65_535:
                raise ParameterError("is no label; whole numbers from 0 to 65535 are needed")
            found[int(label)] = _compound(entry, energy_kev)
        except ParameterError as error:
            faults.append(f"{path}: [{label}] {error}")
    if faults or not found:
        raise ParameterError("\n".join(faults) or f"{path}: names no label. Write a table a label, for example [1].")
    return found


def _compound(entry: Any, energy_kev: float) -> float:
    if not isinstance(entry, dict) or not set(entry) <= _KEYS:
        raise ParameterError(f"must be a table with some of {', '.join(sorted(_KEYS))}.")
    given = {key for key in entry if key != "name"}
    if given == {"material"}:
        if not isinstance(entry["material"], str) or entry["material"] not in MATERIALS:
            raise ParameterError(f"material = {entry['material']!r} is not known; known are {', '.join(MATERIALS)}.")
        return MATERIALS[entry["material"]].attenuation_per_um(energy_kev)
    values = {key: entry[key] for key in given & {"density_g_per_cm3", "attenuation_per_um"}}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
        raise ParameterError(f"got {values}; numbers are needed.")
    if given == {"attenuation_per_um"}:
        value = float(entry["attenuation_per_um"])
        if not (np.isfinite(value) and value >= 0):
            raise ParameterError(f"attenuation_per_um = {value}; a finite number from 0 is needed.")
        return value
    if given == {"formula", "density_g_per_cm3"} and isinstance(entry["formula"], str):
        if len(entry["formula"]) > _LONGEST_FORMULA:
            raise ParameterError(
                f"has a formula of {len(entry['formula'])} characters; {_LONGEST_FORMULA} are allowed."
            )
        return attenuation_per_um(entry["formula"], float(entry["density_g_per_cm3"]), energy_kev)
    raise ParameterError("needs material, or formula and density_g_per_cm3, or attenuation_per_um.")
