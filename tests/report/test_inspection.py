"""A look at a scan: noise as it was made, drift where it is, what is missing, and a picture that says so."""

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

from npsi_twin.report.inspection import write_inspection
from npsi_twin.report.scan_facts import facts_text, inspect_scan

VIEWS, ROWS, COLUMNS, FLATS, GAIN = 40, 24, 64, 30, 3.0


@pytest.fixture
def scan(tmp_path):
    """Give a scan of Poisson counts times a gain, whose flats drift by 20 % from first to last."""
    rng = np.random.default_rng(5)
    profile = np.linspace(200, 1000, COLUMNS) * np.ones((ROWS, 1))

    def frames(n, drift):
        level = profile * (1 + drift * np.linspace(-1, 1, n))[:, None, None]
        return (GAIN * rng.poisson(level) + 50 + rng.normal(0, 2, level.shape)).astype(np.float32)

    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["exchange/data"] = frames(VIEWS, 0.0)
        file["exchange/data_white"] = frames(FLATS, 0.1)
        file["exchange/data_dark"] = (50 + rng.normal(0, 2, (20, ROWS, COLUMNS))).astype(np.float32)
        file["exchange/theta"] = np.arange(VIEWS) * 180 / VIEWS
        file["exchange/theta"].attrs["units"] = "deg"
    return tmp_path / "s.h5"


def test_photon_transfer_finds_the_gain_in_spite_of_drift(scan):
    transfer = inspect_scan(scan).transfer
    # 24 x 64 pixels, 15 pairs each: a variance from 23 000 differences has a relative sd of sqrt(2 / 23 000) = 0.9 %.
    assert transfer.slope == pytest.approx(GAIN, rel=0.04)
    # The dark noise of 2 counts, median of 1536 variances from 10 pairs: below its mean of 4 by the skew of chi-square.
    assert 3.3 < transfer.dark_variance < 4.2
    # A ramp of +-10 %: three times the photon noise at 3000 counts. Some 64 pixels of 29 degrees of freedom: 3 %.
    ramp = np.var(np.linspace(-0.1, 0.1, FLATS), ddof=1) * transfer.signal[-1] ** 2
    assert transfer.variance_all[-1] - transfer.variance_pairs[-1] == pytest.approx(ramp, rel=0.15)


def test_the_text_says_what_is_there_and_what_is_missing(scan):
    words = "\n".join(facts_text(inspect_scan(scan)))
    for part in ("Data Exchange, 40 projections of 24 x 64", "no pixel size", "no photon energy", "ready to be"):
        assert part in words
    with h5py.File(scan, "a") as file:
        del file["exchange/theta"], file["exchange/data_white"], file["exchange/data_dark"]
        file["exchange/data"][0, 2, 1] = np.nan
    facts = inspect_scan(scan)
    words = "\n".join(facts_text(facts))
    for part in ("no angles", "no flat fields", "no dark fields", "NOT READY", "1 NaN or infinite"):
        assert part in words
    assert facts.transfer is None
    assert not facts.is_line_integral


def test_the_picture_shows_the_scan(scan, tmp_path):
    write_inspection(tmp_path / "a.png", inspect_scan(scan), as_page=False)
    assert min(imread(tmp_path / "a.png").shape[:2]) > 1000


def test_there_is_a_page_whatever_is_missing_and_names_are_only_text(scan, tmp_path):
    with h5py.File(scan, "a") as file:
        values = file["exchange/data"][:, :2]
        del file["exchange"]
        file["exchange/data"] = values
    odd = scan.rename(tmp_path / "a$b_{$<b>.h5")
    write_inspection(tmp_path / "a.html", inspect_scan(odd), as_page=True)
    page = (tmp_path / "a.html").read_text()
    assert page.count("data:image/png") == 1
    assert "no flat fields" in page
    assert "<b>" not in page
