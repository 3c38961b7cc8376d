"""Writing GGUF through the ``gguf`` package into a file that we hold open and locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqwen.quantize.output_file import OutputFile

if TYPE_CHECKING:
    import gguf


def begin_gguf(writer: gguf.GGUFWriter, output: OutputFile) -> None:
    """Write all that comes before the values: header, keys, and the table of tensors."""
    from gguf.gguf_writer import WriterState

    # The writer would open the file by name, which we hold locked; this is the state in which it is
    # after that.
    writer.fout, writer.state = [output.file], WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.write_padding(output.file, output.file.tell())
