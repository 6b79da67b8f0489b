"""Files that this package writes open in readers that nobody here wrote, and as those readers access them."""

import importlib.util
import logging
import warnings

import h5py
import numpy as np
import pytest

from npsi_twin.scan import ParallelBeam, Scan
from npsi_twin.storage.dataexchange import create_scan, write_rows
from npsi_twin.storage.nexus import create_nxtomo, write_nxtomo_rows

VIEWS, ROWS, COLUMNS = 12, 5, 7


@pytest.fixture
def scan():
    rng = np.random.default_rng(1)
    beam = ParallelBeam(np.linspace(0, np.pi, VIEWS), COLUMNS, 50.8)
    counts = [rng.integers(0, 65536, (n, ROWS, COLUMNS)).astype(np.uint16) for n in (VIEWS, 3, 2)]
    return Scan(*counts, beam, flat_views=np.array([0, 0, VIEWS]))


def written(path, scan, create, write):
    facts = {"process/acquisition/rotation/num_angles": (VIEWS, "")}
    kind = {"beam": scan.beam, "rows": ROWS, "flats": 3, "darks": 2, "energy_kev": 8.0, "sample": "s", "facts": facts}
    with create(path, **kind, flat_views=scan.flat_views) as file:
        write(file, scan)
    return path


def as_dxchange_reads(path, proj=None, sino=None):
    """Access a file as dxchange's ``read_aps_32id`` does: by name, into an array, angles in degrees to radians."""

    def part(file, name, *ranges):
        data = file[name]
        where = tuple(slice(None) if ends is None else slice(*ends) for ends in ranges)
        found = np.empty(data[where].shape, data.dtype)
        data.read_direct(found, where)
        return found

    with h5py.File(path, "r") as file:
        tomo = part(file, "exchange/data", proj, sino)
        flat, dark = (part(file, f"exchange/data_{kind}", None, sino) for kind in ("white", "dark"))
        return tomo, flat, dark, np.deg2rad(part(file, "exchange/theta", None))


@pytest.mark.parametrize("real", [False, True])
def test_dxchange_reads_the_32_id_layout(tmp_path, scan, real):
    read = as_dxchange_reads
    if real:
        # PyPI's dxchange is another project; the one of the APS comes from conda-forge or Debian.
        if importlib.util.find_spec("dxchange") is None:
            pytest.skip("dxchange (conda-forge or Debian's python3-dxchange) is not installed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dxchange
        if not hasattr(dxchange, "read_aps_32id"):
            pytest.skip("the dxchange that is installed is PyPI's unrelated project")
        read = dxchange.read_aps_32id
    path = written(tmp_path / "s.h5", scan, create_scan, write_rows)
    for found, expected in zip(read(str(path)), (scan.projections, scan.flats, scan.darks), strict=False):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(read(str(path))[3], scan.beam.angles_rad, atol=1e-12)
    tomo, flat, _, _ = read(str(path), proj=(2, 8, 2), sino=(1, 3))
    np.testing.assert_array_equal(tomo, scan.projections[2:8:2, 1:3])
    np.testing.assert_array_equal(flat, scan.flats[:, 1:3])


def test_tomoscan_finds_the_nxtomo_file_valid(tmp_path, scan):
    pytest.importorskip("tomoscan", reason="tomoscan (PyPI) is not installed: NXtomo is not validated by others")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tomoscan.esrf.scan.nxtomoscan import NXtomoScan
        from tomoscan.validator import ReconstructionValidator

        logging.disable(logging.WARNING)
        try:
            path = written(tmp_path / "s.nx", scan, create_nxtomo, write_nxtomo_rows)
            found = NXtomoScan(str(path), entry="entry0000")
            validator = ReconstructionValidator(found, check_phase_retrieval=True, check_values=True)
            assert validator.is_valid(), validator.checkup()
            assert (len(found.projections), len(found.flats), len(found.darks)) == (VIEWS, 3, 2)
        finally:
            logging.disable(logging.NOTSET)
