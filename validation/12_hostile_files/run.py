"""Change bytes of small files of every layout, read them in worker processes, and count what becomes of them."""

import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from render import render  # noqa: E402  (the validations' own module, beside this folder)

from npsi_twin import errors  # noqa: E402
from npsi_twin.storage.formats import open_scan  # noqa: E402
from npsi_twin.storage.volumes import open_volume, read_volume, write_volume  # noqa: E402
from npsi_twin.volumes import Volume  # noqa: E402

FILES = 400 if int(os.environ.get("NPSI_TWIN_VALIDATION_ROUNDS", "1")) > 0 else 40
LONGEST_S = 30.0
MEMORY_BYTES = 4 << 30
VIEWS, ROWS, COLUMNS = 6, 4, 8
COUNTS = np.full((VIEWS, ROWS, COLUMNS), 900, np.uint16)
ANGLES = np.arange(VIEWS) * 30.0


def data_exchange(folder):
    with h5py.File(folder / "scan.h5", "w") as file:
        for name, frames in (("data", COUNTS), ("data_white", COUNTS[:2]), ("data_dark", COUNTS[:2])):
            file[f"exchange/{name}"] = frames
        file["exchange/theta"] = ANGLES
        file["exchange/theta"].attrs["units"] = "deg"
        file["measurement/instrument/name"] = "TXM"
        file["measurement/instrument/monochromator/energy"] = 8.0
        file["measurement/instrument/monochromator/energy"].attrs["units"] = "keV"
        file["link"] = h5py.SoftLink("/exchange/data")
    return folder / "scan.h5"


def nxtomo(folder):
    keys = np.array([2, 1] + [0] * VIEWS)
    with h5py.File(folder / "scan.nxs", "w") as file:
        detector = file.create_group("entry/instrument/detector")
        frames = np.full((len(keys), ROWS, COLUMNS), 900, np.uint16)
        detector.create_dataset("data", data=frames, chunks=(1, ROWS, COLUMNS), compression="gzip", fletcher32=True)
        detector["image_key"] = keys
        file["entry/definition"] = "NXtomo"
        file["entry/sample/rotation_angle"] = 30.0 * np.arange(len(keys))
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
        file["entry/data/data"] = h5py.SoftLink("/entry/instrument/detector/data")
    return folder / "scan.nxs"


def virtual(folder):
    with h5py.File(folder / "virtual.h5", "w") as file:
        file["raw/frames"] = COUNTS
        layout = h5py.VirtualLayout(COUNTS.shape, np.uint16)
        layout[:] = h5py.VirtualSource(".", "raw/frames", COUNTS.shape)
        file.create_virtual_dataset("exchange/data", layout)
        file["exchange/data_white"] = COUNTS[:2]
        file["exchange/theta"] = ANGLES
        file["exchange/theta"].attrs["units"] = "deg"
    return folder / "virtual.h5"


def fxi(folder):
    with h5py.File(folder / "fxi.h5", "w", libver="latest") as file:
        for name, frames in (("img_tomo", COUNTS), ("img_bkg", COUNTS[:2]), ("img_dark", COUNTS[:2])):
            file[name] = frames
        file["angle"], file["X_eng"], file["Pixel Size"] = ANGLES, 8.0, "20.1nm"
    return folder / "fxi.h5"


def images(folder):
    own = folder / "images"
    own.mkdir(exist_ok=True)
    for name in ("flats", "darks"):
        tifffile.imwrite(own / f"{name}.tif", COUNTS[:2], photometric="minisblack")
    (own / "angles.txt").write_text("# deg\n" + "\n".join(map(str, ANGLES)))
    tifffile.imwrite(own / "projections.tif", COUNTS, photometric="minisblack", compression="zlib")
    return own / "projections.tif"


def own_volume(folder):
    write_volume(folder / "labels.h5", "phase", Volume(np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 6, 50.0))
    return folder / "labels.h5"


def stack(folder):
    values = np.arange(64, dtype=np.uint16).reshape(4, 4, 4)
    metadata = {"axes": "ZYX", "spacing": 50.0, "unit": "nm"}
    tifffile.imwrite(folder / "stack.tif", values, imagej=True, resolution=(0.02, 0.02), metadata=metadata)
    return folder / "stack.tif"


def npy(folder):
    np.save(folder / "array.npy", np.arange(64.0).reshape(4, 4, 4))
    return folder / "array.npy"


def npz(folder):
    np.savez_compressed(folder / "arrays.npz", im=np.arange(64.0).reshape(4, 4, 4))
    return folder / "arrays.npz"


LAYOUTS = {
    "Data Exchange": data_exchange,
    "NXtomo, packed, with checksums": nxtomo,
    "virtual data set": virtual,
    "NSLS-II FXI, newest file format": fxi,
    "folder of TIFF images": images,
    "own label volume": own_volume,
    "TIFF volume": stack,
    "npy volume": npy,
    "npz volume": npz,
}
VOLUMES = ("labels.h5", "stack.tif", "array.npy", "arrays.npz")


def changed(content, rng):
    """Change some bytes, overwrite a run of them, or cut the end off."""
    content = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(content[: rng.integers(len(content))])
    if kind == 1:
        start = int(rng.integers(len(content)))
        run = int(rng.integers(1, 64))
        content[start : start + run] = rng.bytes(len(content[start : start + run]))
        return bytes(content)
    for place in rng.integers(0, len(content), rng.integers(1, 31)):
        # Lengths, counts and addresses are most often wrong by much or by one.
        content[place] = rng.choice([rng.integers(256), 0, 255, (content[place] + 1) % 256])
    return bytes(content)


def answer(path):
    """Read a file to its end and say what became of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.name in VOLUMES:
                read_volume(path, voxel_nm=50.0)
                open_volume(path, voxel_nm=50.0).read(range(1))
            else:
                scan = open_scan(path.parent if path.parent.name == "images" else path)
                scan.read(range(scan.rows))
                scan.read_mean_flat()
    except Exception as error:
        ours = type(error).__module__ == errors.__name__
        return type(error).__name__ if ours else f"other: {type(error).__name__}: {error}"
    return "read"


def work():
    """Answer for every path that comes in."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        print(json.dumps(answer(Path(json.loads(line)))), flush=True)


class Worker:
    """A process that reads files, started anew after each that ends it."""

    def __init__(self):
        self.process = None

    def ask(self, path):
        """Return what became of a file; a process that hangs or is gone is replaced."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self.process.stdin.write(json.dumps(str(path.parent / "none.h5")) + "\n")
            self.process.stdin.flush()
            self.process.stdout.readline()  # everything is imported now
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(LONGEST_S):
                self.end()
                return "hang"
        line = self.process.stdout.readline()
        if not line:
            return f"crash: signal {-self.process.wait()}"
        return json.loads(line)

    def end(self):
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


def count(name, make, worker, rng):
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))
        whole = path.read_bytes()
        unchanged, found, slowest = worker.ask(path), Counter(), 0.0
        if unchanged != "read":
            raise SystemExit(f"{name}: the unchanged file is not read: {unchanged}")
        for _ in range(FILES):
            path.write_bytes(changed(whole, rng))
            start = time.perf_counter()
            found[worker.ask(path)] += 1
            slowest = max(slowest, time.perf_counter() - start)
    bad = {kind: number for kind, number in found.items() if kind.startswith(("crash", "hang", "other"))}
    good = ", ".join(f"{number} {kind}" for kind, number in sorted(found.items()) if kind not in bad)
    return {
        "requirement": f"{name}: {FILES} changed files",
        "required": "0 crashes, 0 hangs, 0 other errors",
        "measured": good + (f"; {bad}" if bad else f"; none else; slowest {slowest:.1g} s"),
        "passed": not bad,
    }


def main():
    worker, rng, rows = Worker(), np.random.default_rng(2018), []
    try:
        for name, make in LAYOUTS.items():
            rows.append(count(name, make, worker, rng))
            print(rows[-1]["passed"], rows[-1]["requirement"], rows[-1]["measured"], flush=True)
    finally:
        worker.end()
    render(HERE, rows)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        work()
    else:
        main()
