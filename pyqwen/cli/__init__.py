"""The command line: one file per verb, each of which parses its arguments and calls the library.

A module here may import nothing heavy at its top: all of them are loaded for ``pyqwen --help``.
"""
