"""Files of a run that is not complete may be looked at, but never without a word about it."""

import numpy as np
import pytest

from npsi_twin.cli import app
from npsi_twin.execution import open_run
from npsi_twin.storage.volumes import create_volumes, write_slab
from npsi_twin.volumes import Phase

SHAPE = (4, 24, 16)


@pytest.fixture
def run(tmp_path):
    """A run that has made its truth and its reconstruction, and not the rest."""
    phase = np.zeros(SHAPE, np.uint8)
    phase[:, 8:18, 2:12], phase[:, 18:] = Phase.SILICON, Phase.CURRENT_COLLECTOR
    attenuation = np.array([0, 0.015, 0, 0.047], np.float32)[phase]
    with open_run(tmp_path / "run", request={}) as run:
        for stage, name, volumes in (
            ("build", "truth.h5", {"phase": phase, "attenuation_per_um": attenuation}),
            ("reconstruct", "reconstruction.h5", {"attenuation_per_um": attenuation}),
        ):
            kinds = {field: values.dtype for field, values in volumes.items()}
            with (
                run.stage(stage, name),
                create_volumes(run.path / name, SHAPE, kinds, voxel_nm=50.0, compressed=True) as file,
            ):
                write_slab(file, 0, volumes)
        yield run


def test_commands_on_single_files_say_that_the_run_beside_them_is_not_complete(run, tmp_path, capsys):
    folder = run.path
    np.save(tmp_path / "labels.npy", np.zeros(SHAPE, np.uint8))
    commands = (
        ("export", folder, "--what", "truth", "--to", "npy", "--out", "FREE.npy"),
        ("export", folder / "reconstruction.h5", "--to", "npy", "--out", "FREE.npy"),
        ("segment", folder / "reconstruction.h5", "--out", "FREE.h5"),
        ("measure", folder / "truth.h5", "--dataset", "phase"),
        ("score", tmp_path / "labels.npy", "--voxel-nm", 50, "--truth", folder, "--out", "FREE.json"),
    )

    def told(number, words):
        app([str(word).replace("FREE", str(tmp_path / f"{number}")) for word in words], standalone_mode=False)
        return capsys.readouterr().err

    for number, words in enumerate(commands):
        said = told(number, words)
        assert said.count(f"npsi-twin: {folder}: this run is not complete (done: build, reconstruct)") == 1, words[0]
    run.complete()
    assert told("complete", commands[0]) == ""
