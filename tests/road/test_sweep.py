"""Sweeps: read strictly, laid in a fixed order, survived, the same bytes however they were made, and made again."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from npsi_twin.cli import app
from npsi_twin.errors import IncompleteError, MissingBackendError, ParameterError, ResourceError
from npsi_twin.execution import ExecutionRecipe, code_sha256
from npsi_twin.plan import plan_twin
from npsi_twin.repetition import repeat
from npsi_twin.specification import load_specification, to_toml
from npsi_twin.sweeps import run as sweep_run
from npsi_twin.sweeps.designs import draw_twins
from npsi_twin.sweeps.request import load_sweep, parse_sweep, sweep_text, template
from npsi_twin.sweeps.run import make_sweep
from npsi_twin.sweeps.table import write_parquet
from npsi_twin.verification import verify

POROSITY = "electrode.silicon.porosity_fraction"
#: The smallest needle that is whole: 4 rows of 64 columns, of which the truth alone is measured.
SMALL = """
preset = "tiny"
until = "build"
record = ["porosity_layer", "porosity_particles"]
replicates = 2
[base]
electrode.specimen.length_um = 1.6
electrode.specimen.width_um = 2.0
microscope.detector.rows = 4
microscope.detector.columns = 64
[vary.electrode.silicon]
porosity_fraction = { low = 0.5, high = 0.65, steps = 2 }
"""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPSI_TWIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "undisturbed"
    return folder, make_sweep(parse_sweep(SMALL), folder)


def _rows(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def _bytes(folder):
    """Everything but what tells times: the state and the crate."""
    told = ("run.json", "ro-crate-metadata.json")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in told)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[vary", "not valid TOML"),
        ("points = 0\n[vary.microscope.stage]\nviews = {choices = [61]}", "greater than or equal to 1"),
        ("pionts = 4", "did you mean 'points'?"),
        ("design = 'grid'", "[vary], at least one"),
        ("[vary.microscope.stage]\nveiws = {choices = [61]}", "did you mean 'views'?"),
        ("[vary.microscope.stage]\nviews = {low = 61, high = 91}", "need steps"),
        ("[vary.microscope.stage]\nviews = {low = 61, high = 91, steps = 1}", "from 2 to"),
        ("design = 'sobol'\n[vary.microscope.stage]\nviews = {low = 61, high = 91, steps = 3}", "is for a grid"),
        ("[vary]\nseed = {choices = [1, 2]}", "give replicates"),
        ("design = 'list'\n[[list]]\nmicroscope.stage.views = 61.5", "valid integer"),
        ("design = 'list'\n[vary.microscope.stage]\nviews = {choices = [61]}", "points are the tables [[list]]"),
        ("preset = 'tiny'\nspecification = 'a.toml'\n[vary.microscope.stage]\nviews = {choices = [61]}", "one of them"),
        ("record = ['porosity']\n[vary.microscope.stage]\nviews = {choices = [61]}", "porosity is not measured"),
        ("[vary]\nageing.choices = [{condition = 'pristine'}]\n'ageing.end_state'.choices = ['lithiated']", "beside"),
    ],
)
def test_a_sweep_that_may_not_be_is_refused_with_its_reason(text, said):
    with pytest.raises(ParameterError, match="sweep: ") as refused:
        parse_sweep(text)
    assert said in str(refused.value)


def test_the_example_and_a_list_read_back_from_what_they_write(tmp_path):
    rows = "[[list]]\nageing = {condition = '2000/100', hypothesis = 'agglomeration'}\n[[list]]\nseed_is = 1"
    with pytest.raises(ParameterError, match="list, point 2: 'seed_is' is not a field"):
        parse_sweep(f"design = 'list'\n{rows}")
    for text in (template(), "design = 'list'\n" + rows.partition("\n[[list]]\nseed")[0]):
        sweep = parse_sweep(text)
        (tmp_path / "sweep.toml").write_text(sweep_text(sweep))
        (tmp_path / "base.toml").write_text(to_toml(sweep.base))
        assert load_sweep(tmp_path / "sweep.toml") == sweep


def test_a_grid_runs_through_its_last_field_fastest_and_replicates_share_seeds():
    text = (
        "[vary]\nmicroscope.stage.views = {low = 61, high = 91, steps = 3}\nmicroscope.energy_kev.choices = [8.0, 9.0]"
    )
    common = draw_twins(parse_sweep(f"replicates = 2\n{text}"))
    points = [tuple(twin.values.values()) for twin in common if twin.replicate == 0]
    assert points == [(views, energy) for views in (61, 76, 91) for energy in (8.0, 9.0)]
    assert len({twin.seed for twin in common}) == 2
    assert len({twin.key for twin in common}) == len(common) == 12
    own = draw_twins(parse_sweep(f"replicates = 2\nseeds = 'own'\n{text}"))
    assert len({twin.seed for twin in own}) == 12


@pytest.mark.parametrize("design", ["latin-hypercube", "sobol"])
def test_points_fill_the_unit_square_evenly(design):
    text = (
        f"design = '{design}'\npoints = 64\n[vary.electrode.silicon]\nporosity_fraction = {{low = 0.5, high = 0.7}}\n"
    )
    twins = draw_twins(parse_sweep(text + "mean_pore_nm = {low = 250.0, high = 500.0, scale = 'log'}"))
    values = np.array([list(twin.values.values()) for twin in twins])
    unit = np.stack([(values[:, 0] - 0.5) / 0.2, np.log(values[:, 1] / 250) / np.log(2)], axis=1)
    # One point in each of 64 slices of either coordinate is what both designs are for.
    assert all(len(np.unique(np.floor(column * 64))) == 64 for column in unit.T)
    if design == "sobol":  # a (0, 6, 2)-net, which a digital shift leaves one: a point in each box of 1/8 by 1/8 too
        assert len({tuple(box) for box in np.floor(unit * 8).astype(int)}) == 64


@pytest.mark.parametrize(("design", "points", "rows"), [("saltelli", 8, 32), ("morris", 5, 15)])
def test_designs_of_salib_change_one_field_at_a_time(design, points, rows):
    pytest.importorskip("SALib", reason="the extra sensitivity is not installed")
    text = f"design = '{design}'\npoints = {points}\n[vary]\nmicroscope.energy_kev = {{low = 7.0, high = 9.0}}\n"
    twins = draw_twins(parse_sweep(text + "electrode.silicon.porosity_fraction = {low = 0.5, high = 0.65}"))
    assert len(twins) == rows
    values = np.array([list(twin.values.values()) for twin in twins]).reshape(points, -1, 2)
    if design == "morris":
        assert np.all(np.sum(values[:, 1:] != values[:, :-1], axis=2) == 1)
    else:  # A, A with one column of B each, B
        assert np.all(values[:, 1, 1] == values[:, 0, 1])
        assert np.all(values[:, 2, 0] == values[:, 0, 0])


def test_a_design_of_salib_without_salib_is_refused_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "SALib.sample", None)
    sweep = parse_sweep("design = 'morris'\n[vary]\nmicroscope.energy_kev = {low = 7.0, high = 9.0}")
    with pytest.raises(MissingBackendError, match=r"npsi-twin\[sensitivity\]"):
        draw_twins(sweep)


def test_the_table_is_tidy_and_says_what_cannot_be(made):
    folder, result = made
    rows = _rows(folder)
    assert result["twins"] == len(rows) == 4
    assert [(row["point"], row["replicate"], row[POROSITY]) for row in rows] == [
        ("0", "0", "0.5"), ("0", "1", "0.5"), ("1", "0", "0.65"), ("1", "1", "0.65"),
    ]  # fmt: skip
    # The needle is so small that some specimens hold no room for the binder: a row each, with the reason.
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(failed) == result["failed"] == 1
    assert "carbon and polyimide" in failed[0]["reason"]
    assert failed[0]["porosity_layer_truth"] == ""
    by_point = {row["point"]: float(row["porosity_particles_truth"]) for row in rows if row["replicate"] == "0"}
    assert by_point["1"] > by_point["0"] + 0.05  # asked: 0.15 more pores
    with (folder / "columns.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [entry["column"] for entry in told] == list(rows[0])
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_killed_twice_and_resumed_with_two_workers_it_is_the_same_byte_for_byte(made, tmp_path):
    folder, _ = made
    sweep = parse_sweep(SMALL)

    def killed_after(twins):
        def tell(stage, done, total):
            if done == twins:
                raise KeyboardInterrupt

        return tell

    with pytest.raises(KeyboardInterrupt):
        make_sweep(sweep, tmp_path / "again", progress=killed_after(2))
    assert not (tmp_path / "again" / "sweep.csv").exists()
    # What a kill in the middle leaves: a folder of work, half a record.
    (tmp_path / "again" / ".making-dead").mkdir()
    broken = sorted((tmp_path / "again" / "twins").glob("*.json"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(KeyboardInterrupt):
        make_sweep(sweep, tmp_path / "again", resume=True, progress=killed_after(1))
    make_sweep(sweep, tmp_path / "again", resume=True, workers=2)
    assert _bytes(tmp_path / "again") == _bytes(folder)
    with pytest.raises(IncompleteError, match="differ: sweep, twins"):
        make_sweep(parse_sweep(SMALL.replace("0.65", "0.6")), tmp_path / "again", resume=True)


def test_a_row_is_made_again_alone_by_its_key_and_kept_whole(made, tmp_path):
    folder, _ = made
    row = _rows(folder)[2]
    result = CliRunner().invoke(
        app, ["sweep", str(folder / "sweep.toml"), "--only", row["key"], "--out", str(tmp_path / "one")]
    )
    assert result.exit_code == 0, result.output
    assert _rows(tmp_path / "one") == [row]
    record = f"twins/{row['key']}.json"
    assert (tmp_path / "one" / record).read_bytes() == (folder / record).read_bytes()
    specification = load_specification(folder / "twins" / f"{row['key']}.toml")
    assert specification.digest() == json.loads((folder / record).read_text())["specification_digest"]
    sweep = parse_sweep(SMALL)
    kept = replace(sweep, recipe=sweep.recipe.model_copy(update={"keep": True}))
    make_sweep(kept, tmp_path / "kept", only=[row["key"]])
    assert (tmp_path / "kept" / record).read_bytes() == (folder / record).read_bytes()
    assert f"twins/{row['key']}/truth.h5" in {finding.file for finding in verify(tmp_path / "kept").of("same")}
    with pytest.raises(ParameterError, match="is no key of this sweep"):
        make_sweep(parse_sweep(SMALL), tmp_path / "none", only=["0123"])
    assert not (tmp_path / "none").exists()


def test_what_the_machine_could_not_make_is_tried_again(tmp_path, monkeypatch):
    sweep = parse_sweep(SMALL.replace("replicates = 2", "replicates = 1"))
    calls = []

    def full(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_run, "run_twin", full)
        with pytest.raises(IncompleteError, match="1 of 2 twins could not be made on this machine.*No space left"):
            make_sweep(sweep, tmp_path / "sweep")
    missing, failed = _rows(tmp_path / "sweep")
    assert (missing["status"], failed["status"]) == ("missing", "failed")
    assert failed["reason"] == "ZeroDivisionError: a fault of ours"
    assert "full" in json.loads((tmp_path / "sweep" / "twins" / f"{failed['key']}.json").read_text())["traceback"]
    assert make_sweep(sweep, tmp_path / "sweep", resume=True)["made"] == 1
    assert [row["status"] for row in _rows(tmp_path / "sweep")] == ["made", "failed"]


def test_parquet_holds_the_same_table(made, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    folder = shutil.copytree(made[0], tmp_path / "sweep")
    make_sweep(parse_sweep(SMALL), folder, resume=True, parquet=True)
    table = parquet.read_table(folder / "sweep.parquet").to_pylist()
    measured = [isinstance(row["porosity_particles_truth"], float) for row in table]
    assert measured == [row["status"] == "made" for row in table]
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table]
    assert as_text == _rows(folder)


def test_parquet_takes_a_field_that_is_a_name_or_a_number(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    rows = [{"a": "otsu", "b": 1}, {"a": 0.007, "b": 2.5}, {"a": None}]
    write_parquet(tmp_path / "t.parquet", ("a", "b"), rows)
    found = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert found == {"a": ["otsu", "0.007", None], "b": [1.0, 2.5, None]}


def test_a_sweep_that_is_overwritten_keeps_no_record_of_before(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made[0], tmp_path / "sweep")
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"stages": {}}))  # killed before its table was written
    (folder / "mine.txt").write_text("mine")
    monkeypatch.setattr(sweep_run, "run_twin", lambda *_, **__: 1 / 0)
    with pytest.raises(ResourceError, match="--resume to go on, --overwrite"):
        make_sweep(parse_sweep(SMALL), folder)
    assert make_sweep(parse_sweep(SMALL), folder, overwrite=True)["failed"] == 4
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_changed_table_is_kept_and_made_again(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "sweep")
    (folder / "sweep.csv").write_text("my notes")
    make_sweep(parse_sweep(SMALL), folder, resume=True)
    assert (folder / "sweep.csv.aside-1").read_text() == "my notes"
    (folder / "sweep.csv.aside-1").unlink()
    assert _bytes(folder) == _bytes(made[0])


def test_records_that_workers_wrote_elsewhere_are_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run.TwinMaker, "__call__", lambda *_: "")
    with pytest.raises(IncompleteError, match="4 of 4 twins.*was written, and is not here.*under the same path"):
        make_sweep(parse_sweep(SMALL), tmp_path / "sweep")


def test_memory_decides_the_slabs_of_the_base(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "run_twin", lambda *_, **__: 1 / 0)
    sweep = parse_sweep(SMALL)
    lower = sweep.base.model_copy(update={"execution": ExecutionRecipe(slab_rows=2)})
    needed = plan_twin(lower).only("electrode", "build").memory_bytes
    with pytest.raises(ResourceError, match="--max-memory"):
        make_sweep(sweep, tmp_path / "sweep", max_memory=f"{1.5 * needed / 1e6:.2f}MB", workers=2)
    make_sweep(sweep, tmp_path / "sweep", max_memory=f"{needed / 1e6 + 0.01:.2f}MB")
    assert load_specification(tmp_path / "sweep" / "base.toml") == lower


@pytest.mark.filterwarnings("ignore")  # Dask's own, of ports and sockets
def test_a_dask_cluster_makes_the_same_bytes(made, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is the extra 'dask'")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    with distributed.LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster:
        make_sweep(parse_sweep(SMALL), tmp_path / "sweep", scheduler=cluster.scheduler_address, threads=1)
    assert _bytes(tmp_path / "sweep") == _bytes(made[0])


def test_a_sweep_verifies_repeats_and_is_a_crate(made, tmp_path):
    folder, _ = made
    found = verify(folder)
    assert found.sound
    assert {"sweep.csv", "sweep.toml", "base.toml"} < {finding.file for finding in found.of("same")}
    again = repeat(folder, tmp_path / "again")
    assert again.same, again.as_text()
    assert again.changed_since == ()
    crate = pytest.importorskip("rocrate.rocrate", reason="rocrate is not installed").ROCrate(str(folder))
    action = crate.dereference("#run")
    assert action.type == "CreateAction"
    assert crate.dereference("sweep.csv") in action["result"]
    assert crate.dereference("#npsi-twin")["identifier"] == f"sha256:{code_sha256()}"
    assert crate.dereference("#seed")["value"] == 42
    for entity in crate.data_entities:
        assert entity["sha256"] == next(one.recorded for one in found.findings if one.file == entity["name"])
        assert Path(folder / entity["name"]).stat().st_size == int(entity["contentSize"])
