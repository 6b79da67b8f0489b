"""Real data that nobody here made, through the commands that users type."""

import h5py
import numpy as np
import pytest

from npsi_twin.single_files import measure_file, reconstruct_file


def test_a_real_scan_is_reconstructed_without_help(real_data, tmp_path):
    found = reconstruct_file(real_data("tooth.h5"), tmp_path / "tooth")
    # TomoPy's documentation puts the axis of this scan at column 295.6 (296 +- a pixel in its gallery).
    assert found["rotation_axis_px"] == pytest.approx(295.6, abs=0.5)
    assert found["unit"] == "1/pixel"
    with h5py.File(tmp_path / "tooth" / "reconstruction.h5") as file:
        values = file["attenuation_per_pixel"][()]
    assert values.shape == (2, 640, 640)
    assert np.isfinite(values).all()
    page = (tmp_path / "tooth" / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "no pixel size" in page


@pytest.mark.parametrize(
    ("name", "voxel_nm", "labels", "quantity", "stated"),
    [
        ("berea_100_to_300.npz", 5345.0, "0=silicon,1=void", "porosity_layer", 0.199),
        ("nmc-1-cal_generatedCBD_bridge.tif", 398.0, "0=void,1=silicon,2=void", "silicon_volume_fraction", 0.4995),
    ],
)
def test_real_label_volumes_measure_what_their_makers_state(real_data, name, voxel_nm, labels, quantity, stated):
    found = measure_file(real_data(name), labels=labels, voxel_nm=voxel_nm)
    assert found["quantities"][quantity]["value"] == pytest.approx(stated, abs=0.001)
