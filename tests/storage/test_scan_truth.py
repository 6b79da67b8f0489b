"""The truth of a scan beside it: written by slabs, read by rows, and it says what a reconstruction is told."""

import numpy as np
import pytest

from npsi_twin.errors import DataError, IncompatibleError
from npsi_twin.storage.scan_truth import RowArray, create_scan_truth, read_scan_truth, write_truth_rows
from npsi_twin.storage.volumes import write_volume
from npsi_twin.volumes import Volume

VIEWS, ROWS, COLUMNS = 7, 5, 6


@pytest.fixture
def truth():
    rng = np.random.default_rng(2)
    return {
        "transmission": rng.random((VIEWS, ROWS, COLUMNS), np.float32),
        "illumination": rng.random((ROWS, COLUMNS), np.float32),
        "zingers": rng.random((VIEWS, ROWS, COLUMNS)) > 0.9,
        "bad_pixels": rng.random((ROWS, COLUMNS)) > 0.8,
    }


def write(path, truth, cuts):
    by_row = {name: RowArray(values.shape, values.ndim - 2, values.dtype) for name, values in truth.items()}
    whole = {"angles_rad": np.arange(7.0), "rotation_axis_px": 2.5}
    with create_scan_truth(path, whole=whole, by_row=by_row, told={"angles_rad"}, facts={"seed": 42}) as file:
        for rows in cuts:
            parts = {name: v[..., rows.start : rows.stop, :] for name, v in truth.items()}
            write_truth_rows(file, rows.start, parts)
    return path


def test_slabs_make_the_whole_and_any_rows_are_read(tmp_path, truth):
    path = write(tmp_path / "t.h5", truth, [range(0, 2), range(2, 5)])
    whole, part = read_scan_truth(path), read_scan_truth(path, range(1, 4))
    for name, values in truth.items():
        np.testing.assert_array_equal(whole.arrays[name], values)
        np.testing.assert_array_equal(part.arrays[name], values[..., 1:4, :])
        assert not whole.arrays[name].flags.writeable
    assert whole.told == {"angles_rad"}
    assert part.arrays["rotation_axis_px"] == 2.5
    assert whole.facts["seed"] == 42


def test_the_cut_into_slabs_changes_no_byte(tmp_path, truth):
    cuts = ([range(row, row + 1) for row in range(ROWS)], [range(ROWS)])
    found = [read_scan_truth(write(tmp_path / f"{len(cut)}.h5", truth, cut)).arrays for cut in cuts]
    for name in truth:
        assert found[0][name].tobytes() == found[1][name].tobytes()


def test_what_is_told_must_be_written_and_another_file_is_no_truth(tmp_path):
    told = create_scan_truth(tmp_path / "a.h5", whole={}, by_row={}, told={"shifts"})
    with pytest.raises(IncompatibleError, match="shifts is told but not written"), told:
        pass
    write_volume(tmp_path / "v.h5", "a", Volume(np.zeros((1, 2, 2), np.uint8), 1.0))
    with pytest.raises(DataError, match="no truth of a scan"):
        read_scan_truth(tmp_path / "v.h5")
