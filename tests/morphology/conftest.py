"""Synthetic truths for the measurement side: a level-cut Gaussian field, and a needle of foil, layer and air."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.fft
from scipy import ndimage

from npsi_twin.volumes import Phase, Volume

COPPER, SILICON, BINDER = 0.0471, 0.0151, 0.0004  # 1/um at 8 keV


def shell_field(shape: tuple[int, int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Periodic Gaussian field of unit variance with its power on a thin shell |k| = 2 pi / wavelength (voxels)."""
    spectrum = scipy.fft.rfftn(rng.standard_normal(shape))
    k = [scipy.fft.fftfreq(n) for n in shape[:2]] + [scipy.fft.rfftfreq(shape[2])]
    radius = np.sqrt(k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2][None, None, :] ** 2)
    spectrum *= np.exp(-((radius * wavelength - 1) ** 2) / (2 * 0.05**2))
    field = scipy.fft.irfftn(spectrum, shape)
    return field / field.std()


@dataclass(frozen=True)
class Needle:
    """Truth and noisy image of a cylinder cut from foil and layer."""

    labels: Volume
    attenuation: Volume
    clean: Volume
    surface_nm: np.ndarray
    thickness_nm: np.ndarray


def make_needle(
    shape: tuple[int, int, int] = (48, 220, 240),
    *,
    voxel_nm: float = 50.8,
    noise_per_um: float = 0.003,
    blur_voxels: float = 0.6,
    tilt_deg: float = 2.0,
    surface_nm: float = 0.0,
    roughness_nm: float = 100.0,
    thickness_nm: float = 2000.0,
    thickness_sd_nm: float = 400.0,
    binder: bool = True,
    seed: int = 5,
) -> Needle:
    """Build a needle along z; the foil fills its lower part, the layer is level-cut silicon of 39.6 %."""
    rng = np.random.default_rng(seed)
    nz, ny, nx = shape
    _, y, x = np.indices(shape, sparse=True)
    height = ((ny - 1) / 2 - y) * voxel_nm
    across = (x - (nx - 1) / 2) * voxel_nm
    map_shape = (nz, 1, nx)
    smooth = [shell_field((max(nz, 64), 1, nx), 60.0, rng)[:nz] for _ in range(2)]
    surface = surface_nm + np.tan(np.radians(tilt_deg)) * across + roughness_nm * smooth[0]
    thickness = np.maximum(thickness_nm + thickness_sd_nm * smooth[1], 0.0)
    assert surface.shape == map_shape
    field = shell_field(shape, 369.0 / voxel_nm, rng)
    disk = (y - (ny - 1) / 2) ** 2 + (x - (nx - 1) / 2) ** 2 <= (0.47 * min(ny, nx)) ** 2
    labels = np.zeros(shape, np.uint8)
    layer = disk & (height > surface) & (height <= surface + thickness)
    labels[layer & (field > np.quantile(field, 0.604))] = Phase.SILICON
    if binder:
        labels[layer & (labels == 0) & (shell_field(shape, 8.0, rng) > 1)] = Phase.CARBON_BINDER
    labels[np.broadcast_to(disk, shape) & (height <= surface)] = Phase.CURRENT_COLLECTOR
    grey = np.array([0.0, SILICON, BINDER, COPPER, BINDER, SILICON])[labels]
    clean = Volume(grey.astype(np.float32), voxel_nm)
    image = ndimage.gaussian_filter(grey, blur_voxels) + noise_per_um * rng.standard_normal(shape)
    return Needle(
        Volume(labels, voxel_nm), Volume(image.astype(np.float32), voxel_nm), clean, surface[:, 0], thickness[:, 0]
    )


@pytest.fixture(scope="session")
def build_needle():
    return make_needle


@pytest.fixture(scope="session")
def needle() -> Needle:
    return make_needle()


@pytest.fixture(scope="session")
def gaussian_field():
    return shell_field
