"""Commands on files of one's own: scan an object, look at a scan, hand a volume on."""

import json
import os
from itertools import chain
from typing import get_args

import h5py
import numpy as np
import pytest
import tifffile

from npsi_twin.cli import app
from npsi_twin.cli_options import ProjectorOption, RouteOption
from npsi_twin.errors import (
    DataError,
    IncompatibleError,
    MissingBackendError,
    OutOfRangeWarning,
    ParameterError,
    ResourceError,
)
from npsi_twin.execution import ExecutionRecipe, read_state
from npsi_twin.object_scan import microscope_from, scan_object
from npsi_twin.plan import plan_object_scan
from npsi_twin.projectors.choice import ProjectorName, available_projector
from npsi_twin.reconstruction.route import ReconstructionRecipe
from npsi_twin.single_files import reconstruct_file
from npsi_twin.storage.formats import open_scan

MICROSCOPE = """
[microscope]
halo_rows = 8
[microscope.detector]
rows = 4
columns = 64
[microscope.stage]
views = 60
axis_offset_px = 1.5
"""
COMPOUNDS = "[0]\nattenuation_per_um = 0.0\n[1]\nmaterial = 'copper'\n"


@pytest.fixture
def microscope(tmp_path):
    (tmp_path / "m.toml").write_text(MICROSCOPE)
    return microscope_from(str(tmp_path / "m.toml"))


@pytest.fixture
def cylinder(tmp_path):
    """Give a cylinder of copper, radius 1 um, in voxels of 40 nm, longer than the field is high."""
    y, x = np.mgrid[:60, :60] - 29.5
    labels = np.repeat((np.hypot(y, x) < 25)[None].astype(np.uint8), 40, axis=0)
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "c.toml").write_text(COMPOUNDS)
    return tmp_path / "labels.npy"


def call(*arguments):
    """Run a command in this process; errors of the package come through."""
    app([str(part) for part in arguments], standalone_mode=False)


def test_an_object_goes_through_the_same_microscope_and_comes_back(cylinder, microscope, tmp_path):
    found = scan_object(cylinder, tmp_path / "own", microscope, voxel_nm=40.0, compounds=tmp_path / "c.toml")
    assert found["status"] == "complete"
    scan = open_scan(tmp_path / "own" / "scan.h5")
    assert (scan.beam.views, scan.rows, scan.beam.columns) == (60, 4, 64)
    with h5py.File(tmp_path / "own" / "truth.h5") as file:
        truth = file["attenuation_per_um"][()]
        assert file["scan/rotation_axis_px"][()] == pytest.approx(33.0)
    # Copper at 8 keV is 0.04709 per um; the truth holds all of the cylinder's cross-section.
    area_um2 = np.load(cylinder)[0].sum(dtype=np.intp) * 0.04**2
    assert truth[2].sum() * 0.0508**2 == pytest.approx(0.04709 * area_um2, rel=1e-3)
    # A cylinder on the axis is all stripes in the sinogram, so stripe removal would take it for an artefact.
    changes = {"algorithm": "fbp", "rings": {"method": "none"}}
    reconstruct_file(tmp_path / "own" / "scan.h5", tmp_path / "back", changes=changes)
    with h5py.File(tmp_path / "back" / "reconstruction.h5") as file:
        recovered = file["attenuation_per_um"][()]
    # Ten pixels inside the edge, out of reach of the zone plate's tails. The mean of a row scatters by 5 % (photons of
    # 60 views behind copper, and flats that share a row's gains), that of four rows by 2.5 %: three of those.
    y, x = np.mgrid[:64, :64] - 31.5
    assert recovered[:, np.hypot(y, x) < 10].mean() == pytest.approx(0.04709, rel=0.075)


def test_the_layout_and_the_number_of_workers_change_no_count(cylinder, microscope, tmp_path):
    options = {"voxel_nm": 40.0, "compounds": tmp_path / "c.toml", "execution": ExecutionRecipe(slab_rows=2)}
    scan_object(cylinder, tmp_path / "a", microscope, **options)
    scan_object(cylinder, tmp_path / "b", microscope, **options, scan_format="nxtomo", workers=2)
    first, second = (open_scan(tmp_path / name / "scan.h5") for name in "ab")
    assert second.notes["layout"] == "NXtomo"
    for name in ("projections", "flats", "darks"):
        np.testing.assert_array_equal(
            getattr(first.read(range(4)), name), getattr(second.read(range(4)), name), err_msg=name
        )


def test_memory_decides_the_height_of_slabs(cylinder, microscope, tmp_path):
    options = {"voxel_nm": 40.0, "compounds": tmp_path / "c.toml"}
    with pytest.raises(ResourceError, match="--max-memory: got 1MB; scan needs"):
        scan_object(cylinder, tmp_path / "a", microscope, **options, max_memory="1MB")
    assert not (tmp_path / "a").exists()
    two = plan_object_scan(microscope, ExecutionRecipe(slab_rows=2)).memory_bytes
    scan_object(cylinder, tmp_path / "a", microscope, **options, max_memory=f"{two / 1e6 + 0.01:.2f}MB")
    assert read_state(tmp_path / "a")["request"]["execution"] == ExecutionRecipe(slab_rows=2).digest()
    with pytest.raises(ResourceError, match="--max-memory: got 1MB; axis, filters needs"):
        reconstruct_file(tmp_path / "a" / "scan.h5", tmp_path / "b", max_memory="1MB")
    assert not (tmp_path / "b").exists()


def test_an_object_that_does_not_fit_is_refused_before_anything_is_written(cylinder, microscope, tmp_path):
    options = {"compounds": tmp_path / "c.toml"}
    with (
        pytest.raises(IncompatibleError, match="reaches 2.31 um.*field holds 1.55 um"),
        pytest.warns(OutOfRangeWarning, match="larger than the detector's pixels"),
    ):
        scan_object(cylinder, tmp_path / "own", microscope, voxel_nm=90.0, **options)
    np.save(tmp_path / "empty.npy", np.zeros((4, 4, 4), np.float32))
    with pytest.raises(DataError, match="attenuates nowhere"):
        scan_object(tmp_path / "empty.npy", tmp_path / "own", microscope, voxel_nm=40.0, unit="1/um")
    assert not (tmp_path / "own").exists()


def test_truncation_that_is_asked_for_says_what_is_left_out(cylinder, microscope, tmp_path):
    wide = microscope.model_copy(update={"allow_truncation": True})
    with pytest.warns(OutOfRangeWarning) as caught:
        scan_object(cylinder, tmp_path / "own", wide, voxel_nm=90.0, compounds=tmp_path / "c.toml")
    assert any("left out" in str(warning.message) for warning in caught)
    assert (tmp_path / "own" / "scan.h5").is_file()


def test_the_command_decides_by_what_it_is_given(cylinder, tmp_path, capsys):
    (tmp_path / "m.toml").write_text(MICROSCOPE)
    own = ("--microscope", tmp_path / "m.toml", "--voxel-nm", 40, "--compounds", tmp_path / "c.toml")
    call("scan", cylinder, *own, "--out", tmp_path / "own")
    with pytest.raises(ParameterError, match="--microscope"):
        call("scan", cylinder, "--out", tmp_path / "again")
    with pytest.raises(ParameterError, match="is a run folder"):
        call("scan", tmp_path / "own", *own, "--out", tmp_path / "again")
    with pytest.raises(ParameterError, match="made from a single file.*reconstruct"):
        call("scan", tmp_path / "own")
    with pytest.raises(ParameterError, match="neither a file nor a microscope"):
        call("scan", cylinder, "--microscope", "hubble", "--out", tmp_path / "again")
    capsys.readouterr()
    call("inspect", tmp_path / "own" / "scan.h5", "--out", tmp_path / "look.png")
    assert "ready to be reconstructed" in capsys.readouterr().out
    assert (tmp_path / "look.png").stat().st_size > 50_000
    with pytest.raises(DataError, match="exists"):
        call("inspect", tmp_path / "own" / "scan.h5", "--out", tmp_path / "look.png")


def test_inspect_never_overwrites_its_own_pictures(cylinder, microscope, tmp_path, monkeypatch):
    scan_object(cylinder, tmp_path / "own", microscope, voxel_nm=40.0, compounds=tmp_path / "c.toml")
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    call("inspect", "own/scan.h5", "--text-only")
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "scan-inspect.png").write_text("mine")
    call("inspect", "own/scan.h5")
    assert (tmp_path / "scan-inspect.png").read_text() == "mine"
    assert (tmp_path / "scan-inspect-2.png").is_file()


def test_a_real_scan_is_looked_at(real_data, tmp_path, capsys):
    call("inspect", real_data("tooth.h5"), "--out", tmp_path / "tooth.html")
    out = capsys.readouterr().out
    assert "181 projections of 2 x 640" in out
    assert "no pixel size" in out
    assert (tmp_path / "tooth.html").read_text().count("data:image/png") == 1


def test_a_volume_of_a_run_is_handed_on(cylinder, microscope, tmp_path):
    scan_object(cylinder, tmp_path / "own", microscope, voxel_nm=40.0, compounds=tmp_path / "c.toml")
    call("export", tmp_path / "own", "--what", "truth", "--out", tmp_path / "t.tif")
    with h5py.File(tmp_path / "own" / "truth.h5") as file:
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "t.tif"), file["attenuation_per_um"][()])
    call("export", tmp_path / "own" / "truth.h5", "--to", "npy", "--out", tmp_path / "t.npy")
    assert json.loads((tmp_path / "t.json").read_text())["voxel_nm"] == pytest.approx(50.8)
    for wrong in (("--out", tmp_path / "u.tif"), ("--what", "segmentation", "--out", tmp_path / "u.tif")):
        with pytest.raises((ParameterError, DataError)):
            call("export", tmp_path / "own", *wrong)


def test_a_folder_of_images_is_reconstructed_by_the_same_command(tmp_path):
    views, columns = 40, np.arange(48)
    place = 23.5 + 9 * np.cos(np.pi * np.arange(views) / views)
    (tmp_path / "scan" / "projections").mkdir(parents=True)
    for view in range(views):
        row = 1000 * np.exp(-np.exp(-(((columns - place[view]) / 3) ** 2)))
        image = np.repeat(row[None], 2, axis=0).astype(np.uint16)
        tifffile.imwrite(tmp_path / "scan" / "projections" / f"{view}.tif", image)
    for name, level in (("flats", 1000), ("darks", 0)):
        tifffile.imwrite(
            tmp_path / "scan" / f"{name}.tif", np.full((2, 2, 48), level, np.uint16), photometric="minisblack"
        )
    (tmp_path / "scan" / "angles.txt").write_text("\n".join(str(180 * view / views) for view in range(views)))
    found = ("reconstruct", tmp_path / "scan", "--out", tmp_path / "out", "--algorithm", "fbp", "--pixel-nm", 50)
    call(*found, "--theta-unit", "deg")
    with h5py.File(tmp_path / "out" / "reconstruction.h5") as file:
        values = file["attenuation_per_um"][0]
    # The blob stands 9 pixels from the axis, at angle 0 towards higher x.
    y, x = np.unravel_index(values.argmax(), values.shape)
    assert (abs(y - 23.5), x) == (0.5, pytest.approx(32.5, abs=1))


def test_the_scan_is_projected_by_whom_the_specification_names(cylinder, microscope, tmp_path):
    options = {"voxel_nm": 40.0, "compounds": tmp_path / "c.toml"}
    counts = {}
    for name in ("auto", "rays"):
        scan_object(cylinder, tmp_path / name, microscope, execution=ExecutionRecipe(projector=name), **options)
        facts = json.loads((tmp_path / name / "run.json").read_text())["stages"]["scan"]
        assert facts["projector"] == {"auto": "fourier", "rays": "rays"}[name]
        counts[name] = open_scan(tmp_path / name / "scan.h5").read(range(4)).projections.astype(float)
    # Two roads to one object differ by their discretisation, here in less than one count on average.
    difference = np.abs(counts["auto"] - counts["rays"])
    assert 0 < difference.mean() < 1


@pytest.mark.parametrize("name", ["cufinufft", "astra-cuda"])
def test_a_gpu_projector_is_reached_or_refused_before_anything_is_written(name, cylinder, tmp_path):
    options = {"--microscope": tmp_path / "m.toml", "--voxel-nm": 40, "--compounds": tmp_path / "c.toml"}
    own = ["scan", cylinder, *chain.from_iterable(options.items())]
    (tmp_path / "m.toml").write_text(MICROSCOPE)
    try:
        available_projector(name)
    except MissingBackendError:
        if os.environ.get("NPSI_TWIN_REQUIRE_GPU") == "1":
            raise
        for command in ([*own, "--out", tmp_path / "own"], ["run", "--preset", "tiny", "--out", tmp_path / "own"]):
            with pytest.raises(MissingBackendError, match=f"'{name}' needs"):
                call(*command, "--projector", name)
            assert not (tmp_path / "own").exists()
        (tmp_path / "spec.toml").write_text(f'[execution]\nprojector = "{name}"\n')
        with pytest.raises(MissingBackendError, match=f"'{name}' needs"):
            call("run", tmp_path / "spec.toml", "--out", tmp_path / "own")
        call(*own, "--out", tmp_path / "cpu")
        with pytest.raises(MissingBackendError, match=f"'{name}' needs"):
            call("reconstruct", tmp_path / "cpu" / "scan.h5", "--route", name, "--out", tmp_path / "back")
        return
    call(*own, "--out", tmp_path / "own", "--projector", name)
    assert json.loads((tmp_path / "own" / "run.json").read_text())["stages"]["scan"]["projector"] == name


def test_the_command_line_offers_every_projector():
    offered, route = (get_args(get_args(get_args(option)[0])[0]) for option in (ProjectorOption, RouteOption))
    assert offered == get_args(ProjectorName)
    assert route == get_args(ReconstructionRecipe.model_fields["route"].annotation)
