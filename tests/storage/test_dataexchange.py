"""Data Exchange files: what is written is read back, and what is missing or broken is said, never invented."""

import h5py
import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.dataexchange import create_scan, write_rows
from npsi_twin.storage.formats import open_scan

VIEWS, ROWS, COLUMNS = 6, 5, 7


@pytest.fixture
def scan():
    rng = np.random.default_rng(1)
    beam = ParallelBeam(np.linspace(0, np.pi, VIEWS), COLUMNS, 50.8)
    counts = [rng.integers(0, 65536, (frames, ROWS, COLUMNS)).astype(np.uint16) for frames in (VIEWS, 3, 2)]
    return Scan(*counts, beam, energy_kev=8.0)


@pytest.fixture
def path(tmp_path, scan):
    path = tmp_path / "scan.h5"
    facts = {"measurement/instrument/zone_plate/outermost_zone_width": (60.0, "nm")}
    kind = {"beam": scan.beam, "rows": ROWS, "flats": 3, "darks": 2, "energy_kev": 8.0, "sample": "s", "facts": facts}
    with create_scan(path, **kind) as file:
        for rows in (slice(0, 2), slice(2, 5)):
            part = [counts[:, rows] for counts in (scan.projections, scan.flats, scan.darks)]
            write_rows(file, Scan(*part, scan.beam, first_row=rows.start))
    return path


@pytest.fixture
def edited(path):
    """Give a function that opens the file for changes and closes it again."""

    def edit(change):
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return edit


def test_what_is_written_is_read_back(path, scan):
    found = open_scan(path)
    assert (found.rows, found.beam.columns, found.energy_kev, found.pixel_known) == (ROWS, COLUMNS, 8.0, True)
    assert found.beam.pixel_nm == pytest.approx(50.8)
    np.testing.assert_allclose(found.beam.angles_rad, scan.beam.angles_rad, atol=1e-12)
    assert found.beam.rotation_axis_px is None
    part = found.read(range(1, 4))
    assert part.first_row == 1
    for name in ("projections", "flats", "darks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(scan, name)[:, 1:4])


def test_the_layout_is_the_one_of_32_id(path):
    with h5py.File(path) as file:
        assert file["implements"][()] == b"exchange:measurement:process"
        assert file["exchange/data"].dtype == np.uint16
        assert file["exchange/data"].attrs["axes"] == "theta:y:x"
        assert file["exchange/data_white"].attrs["axes"] == "theta_white:y:x"
        assert file["exchange/theta"].attrs["units"] == "deg"
        assert file["exchange/theta"][-1] == pytest.approx(180.0)
        assert file.attrs["synthetic"]
        assert "truth" not in file


def test_equal_scans_give_equal_bytes(tmp_path, scan):
    for name in ("a.h5", "b.h5"):
        with create_scan(
            tmp_path / name, beam=scan.beam, rows=ROWS, flats=3, darks=2, energy_kev=8.0, sample="s", facts={}
        ) as file:
            write_rows(file, scan)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def _without(name):
    def change(file):
        del file[name]

    return change


def _with(name, value, **attributes):
    def change(file):
        if name in file:
            del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    return change


def _as_float(value):
    def change(file):
        counts = file["exchange/data"][()].astype(np.float32)
        counts[2, 3, 4] = value
        del file["exchange/data"]
        file["exchange/data"] = counts

    return change


THETA = "exchange/theta"
FAULTS = {
    "no projections": (_without("exchange/data"), "no data set /exchange/data"),
    "two dimensions": (_with("exchange/data", np.ones((3, 4))), "shape"),
    "zero frames": (_with("exchange/data", np.ones((0, ROWS, COLUMNS))), "shape"),
    "complex counts": (_with("exchange/data", np.ones((VIEWS, ROWS, COLUMNS), complex)), "real numbers"),
    "no flats": (_without("exchange/data_white"), "no flat fields.*--assume-normalised"),
    "flats of another size": (_with("exchange/data_white", np.ones((2, 4, 4))), "must agree"),
    "no theta": (_without(THETA), "no angles.*none are invented"),
    "theta too short": (_with(THETA, np.zeros(3), units="deg"), "3 angles for 6"),
    "theta without a unit": (_with(THETA, np.arange(6.0)), "--theta-unit"),
    "theta NaN": (_with(THETA, np.full(6, np.nan), units="deg"), "NaN"),
    "theta constant": (_with(THETA, np.ones(6), units="deg"), "all 6 angles are the same"),
    "unknown unit of energy": (
        _with("measurement/instrument/monochromator/energy", 8.0, units="erg"),
        "unit 'erg'",
    ),
    "NaN pixel": (_as_float(np.nan), r"1 values that are NaN.*\(2, 3, 4\)"),
    "infinite pixel": (_as_float(np.inf), r"NaN or infinite.*\(2, 3, 4\)"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_remedy(edited, change, message):
    path = edited(change)
    with pytest.raises(DataError, match=message) as caught:
        open_scan(path)
    assert str(path) in str(caught.value)


def test_radians_called_degrees_are_noticed(tmp_path):
    views = 60
    path = tmp_path / "scan.h5"
    beam = ParallelBeam(np.linspace(0, np.pi, views) * np.pi / 180, COLUMNS, 50.0)
    with create_scan(path, beam=beam, rows=1, flats=1, darks=1, energy_kev=8.0, sample="s", facts={}):
        pass
    with pytest.raises(DataError, match="--theta-unit rad"):
        open_scan(path)
    assert open_scan(path, theta_unit="rad").beam.angles_rad[-1] == pytest.approx(np.pi)


def test_a_file_that_states_no_pixel_is_reconstructed_per_pixel(edited):
    def change(file):
        del file["measurement/instrument/detector"]
        del file["measurement/instrument/detection_system"]

    path = edited(change)
    assert not open_scan(path).pixel_known
    assert open_scan(path, pixel_nm=22.3).beam.pixel_nm == 22.3


def test_normalised_projections_need_no_flats(edited):
    part = open_scan(edited(_without("exchange/data_white")), assume_normalised=True).read(range(2))
    assert part.normalised
    assert len(part.flats) == len(part.darks) == 0


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", "truncated"])
def test_a_file_that_is_no_hdf5_is_named(tmp_path, path, content):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(path.read_bytes()[:3000] if content == "truncated" else content)
    with pytest.raises(DataError, match=r"broken\.h5: not a readable HDF5 file"):
        open_scan(broken)


def test_no_other_file_is_ever_read(tmp_path, path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(VIEWS * ROWS * COLUMNS))
    with h5py.File(path, "a") as file:
        del file["exchange/data"]
        shape = (VIEWS, ROWS, COLUMNS)
        file.create_dataset("exchange/data", shape, np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="not opened"):
        open_scan(path)


def test_rows_outside_the_file_are_refused(path):
    with pytest.raises(DataError, match="0 to 4"):
        open_scan(path).read(range(3, 6))
