"""What PyInstaller cannot see by reading pyqwen's imports."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import copy_metadata

hiddenimports = ["_cffi_backend"]  # imported by the compiled core
datas = copy_metadata("pyqwen")  # the version is read from there

# In an editable install only Python's own import finds the core.
_core = find_spec("pyqwen._ffi")
binaries = [(_core.origin, "pyqwen")] if _core is not None and _core.origin else []
