"""What PyInstaller cannot see by reading pyqwen's imports."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

# The first is imported by the compiled core; the others are opened as a library, not imported.
hiddenimports = ["_cffi_backend", "llguidance", "llguidance._lib"]
datas = copy_metadata("pyqwen")  # the version is read from there
datas += collect_data_files("pyqwen.serve")  # the page

# In an editable install only Python's own import finds the core.
_core = find_spec("pyqwen._ffi")
binaries = [(_core.origin, "pyqwen")] if _core is not None and _core.origin else []
