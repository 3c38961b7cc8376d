"""Whether the runtime will run a file that is to be written, asked of the runtime itself.

The planned header goes to a temporary file with a hole where the values will be, and the core reads it as
it does before it loads a model: hyperparameters, and name, type and shape of every tensor.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen._native import read_config
from pyqwen.errors import ModelFileError
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.quantize.output.output_model import OutputTensor, model_header, size_after

if TYPE_CHECKING:
    import gguf

_LOGGER = logging.getLogger("pyqwen")


def check_runnable(
    keys: Mapping[str, gguf.GGUFValue], tensors: Sequence[OutputTensor], source: Path
) -> None:
    """``ModelFormatError`` or ``UnsupportedModelError`` where the core would refuse to load the file.

    ``source`` is the model it is made from, for messages. No values are asked for.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="pyqwen-") as folder:
            planned = Path(folder) / "planned.gguf"
            header = model_header(keys, tensors)
            with planned.open("wb") as file:
                file.write(header)
                file.truncate(size_after(header, keys, tensors))
            _read(planned, source)
    except ModelFileError:
        raise
    except (
        OSError
    ) as error:  # no room for temporary files, or none so large: the check is a courtesy
        _LOGGER.warning("whether the core can run the file could not be checked: %s", error)


def _read(planned: Path, source: Path) -> None:
    try:
        with GGUFFile(planned, load="copy") as opened:
            read_config(opened.handle)
    except ModelFileError as error:
        problem = str(error).replace(str(planned), planned.name)
        raise type(error)(
            f"{problem.replace(planned.name, str(source))}; what would come of it could not be run",
            field=error.field,
        ) from None
