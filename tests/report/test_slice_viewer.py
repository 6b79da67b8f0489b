"""Volumes in a page: what is kept, how much of it, and that it can be had back."""

import base64
import json
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from npsi_twin.errors import DataError
from npsi_twin.morphology.measure import measure
from npsi_twin.report import slice_viewer as module
from npsi_twin.report import turntable as turntable_module
from npsi_twin.report.page import Table, write_page
from npsi_twin.report.slice_viewer import Thinned, smallest_factor
from npsi_twin.report.turntable import turned, turntable
from npsi_twin.volumes import Phase, Volume


def unpacked(shown):
    facts = json.loads(shown.facts)
    data = np.frombuffer(zlib.decompress(base64.b64decode(shown.data)), np.uint8)
    return facts, dict(zip(facts["channels"], data.reshape(-1, *facts["shape"]), strict=True))


def test_everything_of_a_small_run_can_be_had_back(tmp_path, write_run, viewer):
    arrays = write_run(tmp_path)
    facts, found = unpacked(viewer(tmp_path))
    assert list(found) == ["truth", "reconstruction", "labels"]
    assert np.array_equal(found["labels"] & 15, arrays["truth"]["phase"])
    assert np.array_equal(found["labels"] >> 4, arrays["segmentation"]["phase"])
    low, high = facts["low"], facts["high"]
    back = low + (found["reconstruction"] / 255.0) ** 2 * (high - low)
    # mu = low + (c / 255)^2 (high - low) moves by 2 c / 255^2 (high - low) a step of c, of which half is rounded away,
    # and by half a step squared; values beyond the range are cut off.
    told = np.clip(arrays["reconstruction"]["attenuation_per_um"], low, high)
    step = np.sqrt((told - low) * (high - low)) / 255 + (high - low) / (4 * 255**2)
    assert np.all(np.abs(back - told) <= 1.001 * step)


def test_a_real_scan_shows_its_reconstruction_alone(tmp_path, write_run, viewer):
    write_run(tmp_path, parts=("reconstruction",))
    shown = viewer(tmp_path, voxel_nm=None, unit="1/pixel")
    facts, found = unpacked(shown)
    assert list(found) == ["reconstruction"]
    assert [pane["name"] for pane in facts["panes"]] == ["reconstruction"]
    assert facts["voxel_um"] is None


def test_a_segmented_real_scan_has_no_error_pane(tmp_path, write_run, viewer):
    write_run(tmp_path, parts=("reconstruction", "segmentation"))
    facts, _ = unpacked(viewer(tmp_path))
    assert [pane["name"] for pane in facts["panes"]] == ["reconstruction", "segmentation"]


def test_large_volumes_are_thinned_below_the_cap(tmp_path, monkeypatch, write_run, viewer):
    arrays = write_run(tmp_path)
    monkeypatch.setattr(module, "LARGEST_DATA", 2500)
    shown = viewer(tmp_path)
    facts, found = unpacked(shown)
    assert len(shown.data) <= 2500
    # 2880 voxels of 3 channels; 2500 * 3 / 4 bytes hold 625 of them: a factor of 2 leaves 3 x 10 x 12 = 360.
    assert (facts["shape"], facts["steps"]) == ([3, 10, 12], [2, 2, 2])
    assert np.array_equal(found["labels"] & 15, arrays["truth"]["phase"][1::2, 1::2, 1::2])
    assert "one row in 2" in shown.caption


@pytest.mark.parametrize("factor", [1, 2, 5, 50])
def test_thinning_keeps_means_and_shares(tmp_path, factor, write_run):
    arrays = write_run(tmp_path, shape=(3, 20, 20))
    mu, labels = arrays["reconstruction"]["attenuation_per_um"], arrays["truth"]["phase"]
    thinned = Thinned.of(tmp_path / "reconstruction.h5", "attenuation_per_um", factor)
    rows = mu[min(factor, 3) // 2 :: min(factor, 3)]
    assert thinned.means().shape == thinned.shape
    # The means of equal blocks have the mean of all; float32 sums of 400 values.
    np.testing.assert_allclose(thinned.means().mean(axis=(1, 2)), rows.mean(axis=(1, 2)), rtol=1e-5)
    share = Thinned.of(tmp_path / "truth.h5", "phase", factor).shares(Phase.CURRENT_COLLECTOR)
    assert share.mean() == pytest.approx((labels[0] == Phase.CURRENT_COLLECTOR).mean())


def test_a_plane_is_thinned_within_itself():
    assert smallest_factor((1, 1000, 1000), 10_000) == 10


def test_volumes_of_other_runs_are_refused(tmp_path, write_run, viewer):
    write_run(tmp_path)
    write_run(tmp_path, shape=(6, 20, 25), parts=("segmentation",))
    with pytest.raises(DataError, match=r"segmentation\.h5.*\(6, 20, 25\)"):
        viewer(tmp_path)
    with pytest.raises(DataError, match=r"reconstruction\.h5: has no data set /nothing"):
        viewer(tmp_path, name="nothing")


def test_a_turntable_turns_what_can_be_coloured(tmp_path, write_run, monkeypatch):
    monkeypatch.setattr(turntable_module, "FRAMES", 4)
    # 30 rows of air: enough of it above the layer to be measured.
    arrays = write_run(tmp_path, shape=(4, 120, 24))
    recovered = measure(
        Volume(arrays["segmentation"]["phase"], 50.0), Volume(arrays["reconstruction"]["attenuation_per_um"], 50.0)
    )
    around = turntable({"recovered": turned(tmp_path, "recovered", {"recovered": recovered}, voxel_nm=50.0)})
    assert list(around.frames) == ["Recovered"]
    frames = around.frames["Recovered"]
    assert len(frames) == len(around.angles_deg)
    assert len(set(frames)) > len(frames) / 2
    assert all(frame.startswith("data:image/png;base64,") for frame in frames)
    blind = measure(Volume(arrays["segmentation"]["phase"], 50.0))
    assert turned(tmp_path, "recovered", {"recovered": blind}, voxel_nm=50.0) is None
    assert turned(tmp_path, "truth", {"recovered": blind}, voxel_nm=50.0) is None
    assert turntable({"truth": None, "recovered": None}) is None


class Sources(HTMLParser):
    """Collects whatever a browser would load, and the tags that are open at the end."""

    VOID_TAGS = frozenset({"meta", "img", "input", "br", "hr"})

    def __init__(self):
        super().__init__()
        self.sources, self.open, self.scripts = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.scripts += tag == "script"
        if tag not in self.VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def unknown_decl(self, data):
        raise AssertionError(data)


def test_the_page_is_well_formed_and_loads_nothing(tmp_path, write_run, viewer):
    write_run(tmp_path)
    shown = viewer(tmp_path)
    table = Table("</table><script>x</script>", "N", ('"><b>',), [("</script>",)])
    write_page(tmp_path / "a.html", title="</title>", summary=[], sections=[shown, table], provenance={"a": "&"})
    text = (tmp_path / "a.html").read_text()
    parser = Sources()
    parser.feed(text)
    assert parser.open == []
    assert parser.scripts == 2  # the volumes' text, and the page's own
    assert parser.sources
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "default-src &#39;none&#39;" in text
    assert "://" not in text
