"""Measure shapes with closed forms and write down the bias of the measurement itself."""

import sys
from pathlib import Path

import numpy as np
import scipy.fft
from scipy.special import erfinv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from render import render

from npsi_twin.morphology.measure import MeasurementRecipe, measure
from npsi_twin.morphology.pore_space import count_crossings, mean_chord_nm, specific_surface_per_um
from npsi_twin.seeds import Seeds
from npsi_twin.volumes import Phase, Volume

VOXEL_NM = 50.8
SEEDS = Seeds(2018)


def row(requirement, value, truth, tolerance, unit=""):
    bias = value / truth - 1
    return {
        "requirement": requirement,
        "required": f"{truth:.4g} {unit} +- {100 * tolerance:g} %".replace("  ", " "),
        "measured": f"{value:.4g} {unit} ({100 * bias:+.2f} %)".replace("  ", " "),
        "passed": bool(abs(bias) <= tolerance),
    }


def reported(requirement, value, unit=""):
    return {
        "requirement": requirement,
        "required": "reported",
        "measured": f"{value:.4g} {unit}".strip(),
        "passed": None,
    }


def balls():
    for radius in (5, 8, 12, 20, 40):
        rng = SEEDS.stream("ball", radius)
        areas = {3: [], 13: []}
        for centre in rng.uniform(-0.5, 0.5, (8, 3)):
            z, y, x = (np.arange(2 * radius + 5) - radius - 2 - c for c in centre)
            ball = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < radius**2
            for directions, found in areas.items():
                found.append(count_crossings(ball, None, VOXEL_NM, directions=directions).area_um2())
        truth = 4 * np.pi * (radius * VOXEL_NM / 1000) ** 2
        for directions, found in areas.items():
            text = f"area of a ball, radius {radius} voxels, {directions} directions, mean of 8 places"
            entry = row(text, float(np.mean(found)), truth, 0.02, "um2")
            yield entry if radius >= 8 else entry | {"required": "reported", "passed": None}


def gaussian_field(shape, wavelength, rng):
    spectrum = scipy.fft.rfftn(rng.standard_normal(shape))
    axes = [scipy.fft.fftfreq(n) for n in shape[:2]] + [scipy.fft.rfftfreq(shape[2])]
    kz, ky, kx = np.meshgrid(*axes, indexing="ij", sparse=True)
    k2 = kz**2 + ky**2 + kx**2
    spectrum *= np.exp(-((np.sqrt(k2) * wavelength - 1) ** 2) / (2 * 0.05**2))
    weight = np.full(spectrum.shape, 2.0)
    weight[..., [0, -1]] = 1.0  # their mirror images are not stored apart
    power = weight * np.abs(spectrum) ** 2
    lambda2 = (2 * np.pi) ** 2 * float((power * k2).sum() / power.sum()) / 3
    return scipy.fft.irfftn(spectrum, shape), lambda2


def level_cut():
    porosity, n = 0.604, 192
    for wavelength in (7.264, 16.0):
        field, lambda2 = gaussian_field((n, n, n), wavelength, SEEDS.stream("field"))
        solid = field > np.quantile(field, porosity)
        level = np.sqrt(2) * erfinv(2 * porosity - 1)
        truth = 2000 / np.pi * np.sqrt(lambda2) * np.exp(-(level**2) / 2) / VOXEL_NM
        found = specific_surface_per_um(solid, VOXEL_NM)
        name = f"level-cut field, wavelength {wavelength:g} voxels"
        yield row(f"{name}: specific surface", found, truth, 0.02 if wavelength > 10 else 0.04, "1/um")
        chord = mean_chord_nm(porosity, found)
        yield row(f"{name}: mean pore chord", chord, 4000 * porosity / truth, 0.02 if wavelength > 10 else 0.04, "nm")


def gyroid():
    n, cells = 120, 3
    u = np.arange(n) * 2 * np.pi * cells / n
    z, y, x = np.meshgrid(u, u, u, indexing="ij", sparse=True)
    solid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x) > 0
    edge_um = n / cells * VOXEL_NM / 1000
    yield row(
        "gyroid, 40 voxels a cell: specific surface",
        specific_surface_per_um(solid, VOXEL_NM),
        3.0915 / edge_um,
        0.02,
        "1/um",
    )


def planes():
    layered = np.zeros((64, 64, 64), bool)
    layered[:, (np.arange(64) // 8) % 2 == 0] = True
    truth = 7 / (63 * VOXEL_NM / 1000)
    for directions in (3, 13):
        found = specific_surface_per_um(layered, VOXEL_NM, directions=directions)
        yield reported(f"planes along the axes, {directions} directions: measured / true surface", found / truth)


def layer():
    porosity, height = 0.604, 39
    shape = (160, 100, 160)
    field, _ = gaussian_field(shape, 369.0 / VOXEL_NM, SEEDS.stream("layer"))
    values = (field > np.quantile(field, porosity)).astype(np.uint8) * np.uint8(Phase.SILICON)
    values[:, : 80 - height] = Phase.VOID  # above a flat top
    values[:, 80:] = Phase.CURRENT_COLLECTOR
    found = measure(Volume(values, VOXEL_NM))
    envelope = values[:, 80 - height : 80]
    made = float(np.mean(envelope == Phase.VOID))
    name = f"np-Si slab of {height} voxels on foil"
    yield row(f"{name}: particle porosity", found["porosity_particles"].value, made, 0.02)
    truth = mean_chord_nm(made, specific_surface_per_um(envelope == Phase.SILICON, VOXEL_NM))
    yield row(f"{name}: pore size 4 V/S inside the closed particles", found["pore_size_nm"].value, truth, 0.03, "nm")
    for radius in (200.0, 400.0):
        other = measure(Volume(values, VOXEL_NM), None, MeasurementRecipe(closing_radius_nm=radius))
        text = f"{name}: particle porosity with a closing radius of {radius:g} nm"
        yield reported(text, other["porosity_particles"].value)
    yield reported(f"{name}: porosity between foil and top of the silicon", found["porosity_layer"].value)
    lost = height * VOXEL_NM / 1000 - found["thickness_silicon_um"].value
    yield reported(f"{name}: mean depth of the topmost silicon below the flat top", lost, "um")


def main():
    rows = [entry for part in (balls, gyroid, level_cut, planes, layer) for entry in part()]
    render(Path(__file__).parent, rows)
    for entry in rows:
        print(entry["passed"], entry["requirement"], entry["measured"])


if __name__ == "__main__":
    main()
