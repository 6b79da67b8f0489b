"""The page in a browser: slices, keys, sorting, turntable. Needs Debian's chromium; it is driven by an added script."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from npsi_twin.report.figures import PHASE_COLOURS
from npsi_twin.report.page import ColourBar, Picture, Table, Turntable, write_page
from npsi_twin.volumes import Phase

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium (Debian package chromium)")

#: What the added script may use: press(key), cut(name) with the pixels of a pane, and what the page says.
TOOLS = """
const viewer = document.querySelector(".viewer");
const press = (key, shiftKey = false) =>
  viewer.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
const cut = (k) => {
  const canvas = viewer.querySelectorAll("canvas")[k];
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return { width: canvas.width, height: canvas.height, data: [...data], label: canvas.getAttribute("aria-label") };
};
const slice = () => viewer.querySelector("input[type=range]").getAttribute("aria-valuetext");
const told = () => viewer.querySelector(".readout").textContent;
const column = (k) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[k].textContent);
const found = {};
const ready = setInterval(() => {
  if (viewer.hidden) return;
  clearInterval(ready);
  try { act(); } catch (error) { found.failed = String(error); }
  const textContent = JSON.stringify(found);
  document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent }));
}, 10);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, write_run, still, viewer):
    folder = tmp_path_factory.mktemp("page")
    arrays = write_run(folder)
    frame = still(folder).data_uri
    colours = ColourBar(frame, ["0", "0.36 or more"], "foil 1, air 0")
    table = Table("Numbers", "N", ("name", "value"), [("b", "10 ± 1"), ("a", "–"), ("d", "-2.5"), ("c", "9")])
    write_page(
        folder / "report.html",
        title="<script>document.title = 'run'</script>",
        summary=["<img src=x onerror=alert(1)>"],
        sections=[viewer(folder), Turntable("Around", "C", [0, 120, 240], {"Truth": [frame] * 3}, colours), table],
        provenance={},
    )
    return folder, arrays


def browse(path, profile, place=""):
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", f"{path.as_uri()}{place}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def act(page, tmp_path, script, place=""):
    """Open a copy of the page with one more script, which its policy would not let run, and return what it found."""
    text = (page[0] / "report.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    added = f"<script>{TOOLS} function act() {{ {script} }}</script></body>"
    (tmp_path / "copy.html").write_text(text.replace("</body>", added))
    dom, console = browse(tmp_path / "copy.html", tmp_path / "profile", place)
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL).group(1))
    assert "failed" not in found, found
    # That a test reads pixels back is no matter of the page's.
    assert [line for line in console if "Canvas2D: Multiple readback" not in line] == []
    return found


def pixels(cut):
    return np.array(cut["data"]).reshape(cut["height"], cut["width"], 4)[..., :3]


def colours(labels):
    table = np.array([[int(PHASE_COLOURS[phase][k : k + 2], 16) for k in (1, 3, 5)] for phase in Phase])
    return table[labels]


def test_the_page_opens_as_it_is_and_nothing_complains(page, tmp_path):
    dom, console = browse(page[0] / "report.html", tmp_path / "profile")
    # The frames of this page are no pictures; of them nothing is said on the console.
    assert console == []
    assert 'aria-valuetext="slice z = 3"' in dom
    assert "<title>&lt;script&gt;" in dom


def test_every_direction_shows_the_right_voxels(page, tmp_path):
    script = "found.cuts = ['1', '2', '3'].map((key) => { press(key); return [cut(0), cut(2), cut(3)]; });"
    cuts = act(page, tmp_path, script)["cuts"]
    true, found = page[1]["truth"]["phase"], page[1]["segmentation"]["phase"]
    nz, ny, nx = true.shape
    slices = [np.s_[nz // 2], np.s_[:, ny // 2], np.s_[:, :, nx // 2]]
    # Through x, the rotation axis lies across and height upwards.
    for place, upright, (grey, segmentation, error) in zip(slices, (False, False, True), cuts, strict=True):
        a, b = (labels[place].T if upright else labels[place] for labels in (true, found))
        assert np.array_equal(pixels(segmentation), colours(b))
        wrong = (a == Phase.SILICON) != (b == Phase.SILICON)
        blue_or_red = np.isin(pixels(error)[..., 0], (0xD6, 0x3F))
        assert np.array_equal(blue_or_red, wrong)
        # Silicon of 0.015 /um between -0.002 and 0.02 /um: 77 % of white; air 9 %, within steps of a byte.
        silicon = a == Phase.SILICON
        if silicon.any():
            np.testing.assert_allclose(pixels(grey)[silicon], 255 * 0.017 / 0.022, atol=4)


def test_the_address_opens_a_slice(page, tmp_path):
    found = act(page, tmp_path, "found.slice = slice(); found.label = cut(0).label;", "#direction=y&slice=12")
    assert found == {"slice": "slice y = 12", "label": "Truth: attenuation, slice y = 12"}


def test_keys_and_slider_go_from_slice_to_slice(page, tmp_path):
    script = """
      found.seen = [slice()];
      for (const key of ["ArrowRight", "End", "ArrowRight", "Home", "ArrowUp", "2"]) {
        press(key);
        found.seen.push(slice());
      }
      const before = cut(1).data.join();
      const slider = viewer.querySelector("input[type=range]");
      slider.value = 5; slider.dispatchEvent(new Event("input", { bubbles: true }));
      found.seen.push(slice());
      found.changed = before !== cut(1).data.join();
      found.told = told(); press("ArrowLeft", true); found.moved = told(); found.after = slice();
    """
    found = act(page, tmp_path, script)
    assert [name.removeprefix("slice ") for name in found["seen"]] == [
        "z = 3", "z = 4", "z = 5", "z = 5", "z = 0", "z = 0", "y = 10", "y = 5",
    ]  # fmt: skip
    assert found["changed"]
    assert "z 0, y 5, x 12" in found["told"]
    assert "z 0, y 5, x 11" in found["moved"]
    assert found["after"] == "slice y = 5"


def test_a_click_puts_the_cursor_of_all_panes(page, tmp_path):
    script = """
      const target = viewer.querySelectorAll(".cut")[1], box = target.querySelector("canvas").getBoundingClientRect();
      target.setPointerCapture = () => {};
      const where = { clientX: box.left + box.width * 5.5 / 24, clientY: box.top + box.height * 7.5 / 20 };
      target.dispatchEvent(new PointerEvent("pointerdown", where));
      found.told = told();
      found.lines = [...viewer.querySelectorAll(".cut .row")].map((line) => line.style.top);
    """
    found = act(page, tmp_path, script)
    assert "z 3, y 7, x 5" in found["told"]
    assert found["lines"] == ["37.5%"] * 4


def test_tables_sort_up_down_and_back(page, tmp_path):
    script = """
      const buttons = document.querySelectorAll("th button");
      found.orders = [1, 1, 1, 0].map((k) => { buttons[k].click();
        return [column(0).join(""), buttons[k].parentElement.getAttribute("aria-sort")]; });
      found.sorted = document.querySelectorAll("th[aria-sort]").length;
    """
    found = act(page, tmp_path, script)
    # What is missing comes last either way.
    assert found["orders"] == [["dcba", "ascending"], ["bcda", "descending"], ["badc", None], ["abcd", "ascending"]]
    assert found["sorted"] == 1


def test_long_headings_make_no_table_wider_than_the_page(tmp_path):
    """The table of a run: ten columns, one of them headed by words that are longer than what stands below."""
    header = ("quantity", "unit", "truth", "recovered", "bias", "n", "published", "E_n")
    header = (*header, "recovered against published", "definition")
    row = (
        "porosity",
        "",
        "0.67 ± 0.01",
        "0.48 ± 0.03",
        "-0.195",
        "43999",
        "60.4 vol%",
        "-22.1",
        "below",
        "not silicon",
    )
    write_page(tmp_path / "report.html", title="T", summary=[], sections=[Table("N", "", header, [row])], provenance={})
    text = (tmp_path / "report.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    script = """
      document.body.style.width = "1120px";
      const room = document.querySelector("table").parentElement;
      document.body.dataset.cut = room.scrollWidth - room.clientWidth;
    """
    (tmp_path / "copy.html").write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    dom, _ = browse(tmp_path / "copy.html", tmp_path / "profile")
    assert re.search(r'data-cut="(\d+)"', dom).group(1) == "0"


def test_the_turntable_turns(page, tmp_path):
    script = """
      const root = document.querySelector(".turntable"), slider = root.querySelector("input");
      slider.value = 2; slider.dispatchEvent(new Event("input"));
      found.shown = [...root.querySelectorAll(".frames img")].map((frame) => !frame.hidden);
      found.said = slider.getAttribute("aria-valuetext");
    """
    assert act(page, tmp_path, script) == {"shown": [False, False, True], "said": "240 degrees"}


def test_a_page_prints_on_paper_without_its_controls(page, tmp_path):
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         f"--print-to-pdf={tmp_path / 'page.pdf'}", (page[0] / "report.html").as_uri()],
        capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    assert done.returncode == 0
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    # A leaf of a PDF's tree of pages is a /Page, the tree's own nodes are /Pages.
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 3


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext (Debian package poppler-utils)")
def test_the_print_holds_what_the_page_says_and_not_its_controls(page, tmp_path):
    subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         f"--print-to-pdf={tmp_path / 'page.pdf'}", (page[0] / "report.html").as_uri()],
        capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    done = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
    )
    for told in ("Numbers", "10 ± 1", "Around", "Still. for paper", "foil 1, air 0", "Provenance"):
        assert told in done.stdout, told
    for control in ("Keys: 1, 2, 3", "camera", "silicon (foil saturates)"):
        assert control not in done.stdout, control


def test_pictures_that_are_none_are_not_needed_to_read_the_page(tmp_path, still):
    """Without scripts and pictures, titles, captions and tables stand in the text."""
    write_page(
        tmp_path / "a.html", title="T", summary=["S"], provenance={"seed": "7"},
        sections=[Picture(still(tmp_path).path, "P", "C"), Table("N", "note", ("h",), [("cell",)])],
    )  # fmt: skip
    text = (tmp_path / "a.html").read_text()
    for told in ('alt="P"', "<figcaption>C</figcaption>", "<td>cell</td>", "<dd>7</dd>"):
        assert told in text
