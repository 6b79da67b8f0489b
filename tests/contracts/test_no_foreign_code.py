"""No file that comes from outside is ever run as code: nothing here unpickles, evaluates, or trusts an archive's names.

The linter has rules for `pickle` itself; this looks for its other doors too.
"""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
#: Modules whose readers run what a file says.
_UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "pandas"}
_CALLS = {"eval", "exec", "read_pickle", "unsafe_load", "full_load", "extractall"}


def doors(source):
    """Return what of a source would run what a file says, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0]]
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name in ("import_module", "__import__"):
                names = [str(value).partition(".")[0] for value in values]
            elif name in _CALLS:
                found.append((node.lineno, name))
            elif name == "load" and getattr(getattr(called, "value", None), "id", "") == "yaml":
                found.append((node.lineno, "yaml.load"))
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "weights_only") and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is (keyword.arg == "weights_only")
                ):
                    found.append((node.lineno, keyword.arg))
        found += [(node.lineno, name) for name in names if name in _UNPICKLERS]
    return found


@pytest.mark.parametrize("folder", ["src", "validation", "studies"])
def test_nothing_is_read_that_may_be_code(folder):
    files = sorted((PROJECT / folder).rglob("*.py"))
    if not files:
        pytest.skip(f"{folder} is not a part of this distribution")
    bad = [(str(path.relative_to(PROJECT)), *door) for path in files for door in doors(path.read_text("utf-8"))]
    assert bad == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch.nn",
        "importlib.import_module('dill')",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "frame.read_pickle(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "archive.extractall(folder)",
        "eval(text)",
    ],
)
def test_the_look_sees_every_door(source):
    assert len(doors(source)) == 1


def test_the_look_lets_pass_what_reads_numbers_and_text():
    assert doors("np.load(path, allow_pickle=False)\nyaml.safe_load(text)\njson.load(file)\nh5py.File(path)") == []
