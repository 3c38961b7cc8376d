"""Makes sure that the tests see the installed pyqwen, and says which one that is.

`python -m pytest` puts the working directory first on the path, where the clone's own pyqwen/, which
has no compiled core, would shadow the installed package; so would `python -m pyqwen` in a subprocess.

Also that numpy computes in one thread: with the small matrices of tests its threads wait for each other,
spinning, for three quarters of the time.

Also that Ctrl-C works in the programs that tests start: a shell that runs something in the background
lets it ignore the signal, and every child with it.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is first imported

ROOT = Path(__file__).resolve().parent

_elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
_with_clone = sys.path[:]
sys.path[:] = _elsewhere
if importlib.util.find_spec("pyqwen") is None:  # then the clone's own serves, for what needs no C
    sys.path[:] = _with_clone
else:
    os.environ["PYTHONSAFEPATH"] = "1"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Name the package under test."""
    package = importlib.util.find_spec("pyqwen")
    if package is None or importlib.util.find_spec("pyqwen._ffi") is None:
        return (
            "pyqwen: NOT INSTALLED, most tests cannot run; first "
            'pip install ".[test]" --config-settings=cmake.define.PYQWEN_TEST_EXTENSION=ON'
        )
    return f"pyqwen: {Path(str(package.origin)).parent}"
