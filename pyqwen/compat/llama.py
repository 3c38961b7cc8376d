"""Llama: what programs written for llama-cpp-python open and call, on top of ``pyqwen.Model``."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyqwen import catalog
from pyqwen.compat import llama_cpp as constants
from pyqwen.compat.arguments import adapter_option, context_of, model_options, warn_of_rope
from pyqwen.compat.chats import Chats
from pyqwen.compat.embedding import Embeddings
from pyqwen.compat.llama_cache import BaseLlamaCache, longest_token_prefix
from pyqwen.compat.llama_chat_format import (
    LlamaChatCompletionHandler,
    compare_formats,
    handler_of,
    template_of,
)
from pyqwen.compat.llama_speculative import LlamaDraftModel
from pyqwen.compat.llama_tokenizer import (
    BaseLlamaTokenizer,
    FileTokenizer,
    LlamaTokenizer,
    trained_context,
)
from pyqwen.compat.processors import (
    LogitsProcessor,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)
from pyqwen.compat.sampling import Seeds
from pyqwen.compat.state import LlamaState
from pyqwen.errors import ModelNotFoundError
from pyqwen.model import Model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen.engine.session import Session

__all__ = [
    "Llama",
    "LlamaState",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
]


class Llama(Chats, Embeddings):
    """A model, under llama-cpp-python's names.

    Texts, chats, tools, grammars and embeddings go to one ``pyqwen.Model`` (``pyqwen_model``), so any
    number of threads may call them at once. The state that ``eval``, ``sample`` and ``n_tokens`` speak of
    belongs to the object; it is that of the last call, and not made for several threads.
    """

    def __init__(
        self,
        model_path: str,
        *,
        n_gpu_layers: int = 0,
        split_mode: int = constants.LLAMA_SPLIT_MODE_LAYER,
        main_gpu: int = 0,
        tensor_split: list[float] | None = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: dict[str, bool | int | float | str] | None = None,
        seed: int = constants.LLAMA_DEFAULT_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int | None = constants.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        pooling_type: int = constants.LLAMA_POOLING_TYPE_UNSPECIFIED,
        attention_type: int = constants.LLAMA_ATTENTION_TYPE_UNSPECIFIED,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool = False,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: str | None = None,
        lora_scale: float = 1.0,
        lora_path: str | None = None,
        numa: bool | int = False,
        chat_format: str | None = None,
        chat_handler: LlamaChatCompletionHandler | None = None,
        draft_model: LlamaDraftModel | None = None,
        tokenizer: BaseLlamaTokenizer | None = None,
        type_k: int | None = None,
        type_v: int | None = None,
        spm_infill: bool = False,
        verbose: bool = True,
        **kwargs: Any,
    ) -> None:
        """Open a GGUF file, or a model that ``pyqwen pull`` fetched, by its name.

        - ``n_ctx``: the most tokens of prompt and answer, 512; 0 is as many as the model was trained
          for. Memory for it is taken as it is used.
        - ``n_threads``: by default the performance cores. ``n_batch``: rows computed together; 512 at
          least may be, since results do not depend on it.
        - ``seed``: where the chain of seeds begins that calls without one take; -1, and the default, are
          random ones.
        - ``type_k``, ``type_v``: types of the KV cache, by ggml's numbers.
        - ``lora_path``: an adapter (LoRA), a GGUF file or a directory of PEFT, applied ``lora_scale``
          times.
        - ``draft_model``: ``LlamaPromptLookupDecoding`` looks drafts up; answers stay the same.
        - ``chat_format``: the file's own template is used; see ``llama_chat_format``.
        - ``use_mmap=False`` reads the file, so that nobody can change the weights afterwards.
        - ``vocab_only``: tokens only, no weights.

        Nothing is ever printed: ``verbose`` has no effect, and neither have ``flash_attn``, ``n_ubatch``
        and others that only say how to compute. What would change results or place of work, such as
        ``n_gpu_layers``, and cannot be honored, is named in a warning, once in a process.

        Raises ``ModelNotFoundError``, a ``ValueError``, where there is no such file, and what
        ``pyqwen.Model`` raises.
        """
        arguments: dict[str, Any] = {**locals(), "others": kwargs}
        for name in ("self", "kwargs", "__class__"):
            arguments.pop(name, None)
        self._arguments = arguments
        self._model: Model | None = None
        self._file: FileTokenizer | None = None
        options = model_options(arguments)
        self.model_path = os.fspath(model_path)
        if chat_handler is None and handler_of(chat_format) is None:
            template_of(chat_format)  # refuses what is no format before anything is loaded
        path = catalog.locate(self.model_path)
        if path is None:
            raise ModelNotFoundError(f"Model path does not exist: {self.model_path:.300}")
        self.verbose = verbose
        self.cache: BaseLlamaCache | None = None
        self.chat_format, self.chat_handler = chat_format, chat_handler
        self.draft_model = draft_model
        self.spm_infill = spm_infill
        self._pooling = pooling_type
        self._logits_all = bool(logits_all)
        self._seeds = Seeds(seed)
        self._tokens: list[int] = []
        self._session: Session | None = None
        self._adapter = adapter_option(lora_path, lora_scale)
        self._n_ctx = 0
        if vocab_only:
            self._file = FileTokenizer(str(path))
        else:
            self._n_ctx, context = context_of(n_ctx, trained_context(path))
            self._model = Model(path, context=context, **options)
            warn_of_rope(rope_freq_base, rope_freq_scale, self._model.config)
        self.tokenizer_ = tokenizer or LlamaTokenizer(self)
        self.n_batch = n_batch
        self.n_threads = self._model.threads if self._model is not None else 0
        # Programs read these, and ask whether there is a context at all.
        sizes = {"n_ctx": self.n_ctx(), "n_batch": n_batch, "n_threads": self.n_threads}
        self.context_params = SimpleNamespace(**sizes, embeddings=embedding)
        self.model_params = SimpleNamespace(n_gpu_layers=0, vocab_only=vocab_only)
        self._ctx = SimpleNamespace(ctx=self.context_params)
        self._is_recurrent = self._is_hybrid = False
        if chat_format is not None and chat_handler is None and self._model is not None:
            compare_formats(chat_format, self._model)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None,
        additional_files: list[str] | None = None,
        local_dir: str | os.PathLike[str] | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Fetch the one file of a repository of the Hugging Face hub that a pattern fits, and open it.

        ``filename`` and ``additional_files`` are names or patterns (``*q4_k_m.gguf``); the parts of a
        split file come with its first. ``ModelNotFoundError``, a ``ValueError``, lists the files where
        none or several fit.
        """
        from pyqwen.compat.downloads import download

        path = download(repo_id, filename, additional_files, local_dir, cache_dir)
        return cls(str(path), **kwargs)

    # Lifetime

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._session is not None:
            self._session.close()
        if self._model is not None:
            self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled are the arguments: the file is opened again where it is read."""
        arguments = {name: value for name, value in self._arguments.items() if name != "others"}
        return _open, (type(self), {**arguments, **self._arguments["others"]})

    def __repr__(self) -> str:
        return f"<Llama {self.model_path}>"

    # Helpers that programs use

    @staticmethod
    def logits_to_logprobs(
        logits: npt.NDArray[np.single] | list[float], axis: int = -1
    ) -> npt.NDArray[np.single]:
        """Natural-log probabilities of logits."""
        import numpy as np

        values = np.asarray(logits, np.float32)
        top = values.max(axis=axis, keepdims=True)
        shifted = values - np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            total = np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return np.asarray(shifted - total, np.float32)

    longest_token_prefix = staticmethod(longest_token_prefix)


def _open(kind: type[Llama], arguments: dict[str, Any]) -> Llama:
    return kind(**arguments)
