"""The command `phantoms`: what it writes, and what it refuses before it writes anything."""

import json
import subprocess
import sys

import pytest

from npsi_twin.phantoms.layouts import NNUNET_FOLDER
from npsi_twin.storage.nnunet import check_nnunet

SPECIFICATION = """
name = "tiny phantom"
[electrode.specimen]
width_um = 2.6
length_um = 2.0
foil_surface_height_um = -0.6
needle_offset_across_um = 0.1
needle_offset_height_um = -0.1
[electrode.layer]
mean_height_um = 1.4
height_sd_um = 0.1
[microscope]
halo_rows = 5
supersampling = 1
[microscope.detector]
rows = 12
columns = 64
flat_frames = 4
dark_frames = 4
[microscope.stage]
views = 61
axis_offset_px = 1.0
[reconstruction]
width_px = 56
sirt_iterations = 20
rotation_axis_px = 32.5
"""
RANGES = "[microscope.detector]\nflat_electrons = {low = 4000.0, high = 8000.0}\n"


def call(*arguments, cwd, code=0):
    command = [sys.executable, "-m", "npsi_twin.cli", "phantoms", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def test_help_shows_ranges_and_an_example(tmp_path):
    out, _ = call("--help", cwd=tmp_path)
    assert "Example: npsi-twin phantoms --count 16" in out
    assert "electrode.silicon.porosity_fraction = {low = 0.5, high = 0.7}" in " ".join(out.split())


def test_a_set_is_made_and_told(tmp_path):
    (tmp_path / "spec.toml").write_text(SPECIFICATION)
    (tmp_path / "ranges.toml").write_text(RANGES)
    out, err = call("spec.toml", "--vary", "ranges.toml", "--count", 1, "--out", "set", "--json", cwd=tmp_path)
    facts = json.loads(out)
    assert (facts["cases"], facts["train"]) == (1, 1)
    assert "specimens: 1/1" in err
    assert check_nnunet(tmp_path / "set" / NNUNET_FOLDER)["training"] == 1


@pytest.mark.parametrize(
    ("ranges", "options", "said"),
    [
        ("[electrode.silicon]\nporosity = {low = 0.5, high = 0.6}", (), "did you mean 'porosity_fraction'?"),
        (RANGES, ("--split", "0.9,0.3"), "more than the whole"),
        (RANGES, ("--split", "most"), "give two shares"),
    ],
)
def test_what_may_not_be_is_refused_before_anything_is_written(tmp_path, ranges, options, said):
    (tmp_path / "ranges.toml").write_text(ranges)
    _, err = call("--vary", "ranges.toml", "--out", "set", *options, cwd=tmp_path, code=2)
    assert said in err
    assert not (tmp_path / "set").exists()
