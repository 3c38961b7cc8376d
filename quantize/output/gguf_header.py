"""Writing GGUF through the ``gguf`` package into a file, or memory, that we hold open."""

from __future__ import annotations

from io import BufferedWriter
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    import gguf


def begin_gguf(writer: gguf.GGUFWriter, file: IO[bytes]) -> None:
    """Write all that comes before the values: header, keys, and the table of tensors."""
    from gguf.gguf_writer import WriterState

    # The writer would open a file by name, and ours may be locked; this is the state in which it is
    # after that.
    writer.fout, writer.state = [cast("BufferedWriter", file)], WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.write_padding(file, file.tell())
