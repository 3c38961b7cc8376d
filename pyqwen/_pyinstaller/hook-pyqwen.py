"""What PyInstaller cannot see by reading pyqwen's imports."""

from PyInstaller.utils.hooks import copy_metadata

hiddenimports = ["_cffi_backend"]  # imported by the compiled core
datas = copy_metadata("pyqwen")  # the version is read from there
