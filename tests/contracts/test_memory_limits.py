"""How much memory a process may take: of the machine, of its control group, as a caller sets it."""

import math
import platform
import subprocess
import sys

import pytest

from npsi_twin import memory
from npsi_twin.errors import ParameterError
from npsi_twin.memory import Memory, control_group_bytes, limited_memory, memory_there


def written(folder, groups, limits):
    """Lay out what Linux tells of control groups; return where."""
    told = folder / "cgroup"
    told.write_text(groups)
    for name, limit in limits.items():
        (folder / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fs" / name).write_text(f"{limit}\n")
    return told, folder / "fs"


def test_the_tightest_group_counts(tmp_path):
    limits = {"memory.max": "max", "job/memory.max": 4_000_000, "job/step/memory.max": 9_000_000}
    assert control_group_bytes(*written(tmp_path, "0::/job/step\n", limits)) == 4_000_000


def test_groups_of_version_1_are_read(tmp_path):
    groups = "5:devices:/\n4:cpu,memory:/slurm/job_7\n0::/\n"
    limits = {"memory/memory.limit_in_bytes": 2**63 - 4096, "memory/slurm/job_7/memory.limit_in_bytes": 64_000_000}
    assert control_group_bytes(*written(tmp_path, groups, limits)) == 64_000_000


def test_a_container_that_sees_only_the_top_of_its_group_is_limited_by_it(tmp_path):
    assert control_group_bytes(*written(tmp_path, "0::/host/pod/one\n", {"memory.max": 1_000})) == 1_000


def test_no_limit_is_none(tmp_path):
    assert control_group_bytes(*written(tmp_path, "0::/user\n", {"user/memory.max": "max"})) == math.inf


def test_the_smallest_of_all_is_told(monkeypatch):
    monkeypatch.setattr(memory, "control_group_bytes", lambda: 3e6)
    found = memory_there()
    assert found.size_bytes == 3e6
    assert "control group" in str(found)
    with limited_memory("1MB"):
        assert memory_there() == Memory(1e6, "--max-memory allows")
        with limited_memory(None):
            assert memory_there().size_bytes == 1e6
    assert memory_there() == found
    with pytest.raises(ParameterError, match="got '1'"), limited_memory("1"):
        pass


FAULTS = """
import resource, time
import numpy as np
from npsi_twin.memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.zeros(8_000_000, np.float32)[:] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
with freed_memory_kept():
    faults()
    kept = faults()
with freed_memory_kept():
    kept_for_the_next = faults()
time.sleep(2)
print(kept, kept_for_the_next, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_freed_memory_is_used_again_by_what_follows_at_once_and_given_back_afterwards():
    """20 arrays of 32 MB have 160 000 pages of 4 KiB, of which none is new once there was one such array."""
    told = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, kept_for_the_next, given_back = map(int, told.stdout.split())
    assert max(kept, kept_for_the_next) < 0.02 * given_back
