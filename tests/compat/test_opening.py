"""Opening: which arguments count, what is said of the others, files by patterns, and the package itself."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyqwen.compat
from pyqwen.compat import (
    GGML_TYPE_F32,
    GGML_TYPE_Q5_1,
    GGML_TYPE_Q8_0,
    Llama,
    LlamaDiskCache,
    LlamaGrammar,
    LlamaPromptLookupDecoding,
    LlamaTokenizer,
)
from pyqwen.errors import ConstraintError, FileAccessError, ModelNotFoundError


def test_arguments_that_count(tiny_model_path: Path) -> None:
    with Llama(
        str(tiny_model_path),
        n_ctx=0,
        n_threads=2,
        n_batch=1024,
        type_k=GGML_TYPE_Q8_0,
        type_v=GGML_TYPE_Q8_0,
        use_mmap=False,
        draft_model=LlamaPromptLookupDecoding(num_pred_tokens=2),
        n_gpu_layers=0,
        flash_attn=True,
        verbose=False,
        f16_kv=True,  # LangChain hands these over
        n_parts=-1,
    ) as llama:
        model = llama.pyqwen_model
        assert (llama.n_ctx(), model.context) == (512, 512)
        assert (model.threads, llama.n_threads, model.kv_type) == (2, 2, "q8_0")
        assert llama.context_params.n_ctx == 512
        text = llama("a b c a b c a b", max_tokens=8, temperature=0)
    with Llama(str(tiny_model_path), type_k=GGML_TYPE_Q8_0, type_v=GGML_TYPE_Q8_0) as plain:
        same = plain("a b c a b c a b", max_tokens=8, temperature=0)
    assert text["choices"] == same["choices"]
    with Llama(str(tiny_model_path), type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32) as llama:
        assert llama.pyqwen_model.kv_type == "f32"
    with Llama(str(tiny_model_path), type_k=GGML_TYPE_Q8_0, type_v=GGML_TYPE_Q5_1) as llama:
        assert llama.pyqwen_model.kv_type == ("q8_0", "q5_1")
    with pytest.raises(ValueError, match=r"type_k must be one of 0 \(f32\)"):
        Llama(str(tiny_model_path), type_k=11)


WITHOUT_EFFECT: dict[str, Any] = {
    "n_gpu_layers": -1,
    "split_mode": 0,
    "main_gpu": 1,
    "tensor_split": [0.5, 0.5],
    "use_mlock": True,
    "kv_overrides": {"a": 1},
    "rope_freq_base": 10.0,
    "rope_freq_scale": 0.5,
    "yarn_orig_ctx": 4096,
    "last_n_tokens_size": 8,
    "numa": True,
    "spm_infill": True,
    "lora_base": "x",
    "n_ctx": 100_000,
    "unheard_of": 1,
    "f16_kv": False,
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_said_once(tiny_model_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match=f"^{name}: ") as seen:
        Llama(str(tiny_model_path), **{name: WITHOUT_EFFECT[name]}).close()
    assert [w.filename for w in seen] == [__file__]
    Llama(str(tiny_model_path), **{name: WITHOUT_EFFECT[name]}).close()  # again: an error here


def test_threads_and_drafts_that_differ(tiny_model_path: Path) -> None:
    with pytest.warns(UserWarning, match="n_threads_batch"):
        Llama(str(tiny_model_path), n_threads=1, n_threads_batch=2).close()
    with Llama(str(tiny_model_path), n_threads_batch=2) as llama:
        assert llama.n_threads == 2

    class Own(pyqwen.compat.LlamaDraftModel):
        def __call__(self, input_ids: Any, /, **kwargs: Any) -> Any:
            raise AssertionError

    with pytest.warns(UserWarning, match="draft_model: a Own is not asked"):
        Llama(str(tiny_model_path), draft_model=Own()).close()
    with pytest.warns(UserWarning, match="LlamaDiskCache"):
        LlamaDiskCache()


def test_the_vocabulary_alone(tiny_model_path: Path, fresh: Llama) -> None:
    with Llama(str(tiny_model_path), vocab_only=True) as tokens:
        for name in ("n_vocab", "n_embd", "token_bos", "token_eos", "token_nl"):
            assert getattr(tokens, name)() == getattr(fresh, name)(), name
        assert tokens.metadata == fresh.metadata
        text = "Fäß <|im_end|> fox".encode()
        assert tokens.tokenize(text) == fresh.tokenize(text)
        with pytest.raises(ValueError, match="vocab_only"):
            tokens("x")
        with pytest.raises(ValueError, match="vocab_only"):
            tokens.create_chat_completion([{"role": "user", "content": "x"}])


def test_texts_and_ids(fresh: Llama, make_tiny_model: Callable[..., Path]) -> None:
    text = "Fäß <|im_end|> fox".encode()
    ids = fresh.tokenize(text)
    assert fresh.detokenize(ids) == text
    assert fresh.token_eos() not in ids
    special = fresh.tokenize(text, special=True)
    assert fresh.token_eos() in special
    assert fresh.detokenize(special) == "Fäß  fox".encode()
    assert fresh.detokenize(special, special=True) == text
    assert fresh.detokenize(fresh.tokenize("ß".encode())[:1]) == "ß".encode()[:1]
    assert fresh.tokenizer().decode(fresh.tokenizer().encode("fox")) == "fox"
    assert fresh.tokenize(b"\xff") == fresh.tokenize("\ufffd".encode())
    assert fresh.token_bos() == -1
    assert fresh.detokenize([fresh.token_nl()]) == b"\n"
    assert fresh.metadata["general.architecture"] == "qwen2"
    assert fresh.metadata["tokenizer.ggml.add_bos_token"] == "false"
    path = make_tiny_model(metadata={"tokenizer.ggml.bos_token_id": 330})
    assert LlamaTokenizer.from_ggml_file(str(path)).encode("fox") == fresh.tokenize(b"fox")


def test_a_tokenizer_of_the_program(tiny_model_path: Path, fresh: Llama) -> None:
    class Upper(pyqwen.compat.BaseLlamaTokenizer):
        def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
            return fresh.tokenize(text.upper(), special=special)

        def detokenize(self, tokens: Any, prev_tokens: Any = None, special: bool = False) -> bytes:
            return fresh.detokenize(tokens).lower()

    with Llama(str(tiny_model_path), n_threads=1, tokenizer=Upper()) as llama:
        assert llama.tokenize(b"fox") == fresh.tokenize(b"FOX")
        options: dict[str, Any] = {"max_tokens": 4, "temperature": 0}
        assert llama("fox", **options)["choices"] == fresh("FOX", **options)["choices"]


def test_pickled_is_how_it_was_opened(tiny_model_path: Path) -> None:
    with Llama(str(tiny_model_path), n_ctx=99, n_threads=1, seed=3, f16_kv=True) as llama:
        again = pickle.loads(pickle.dumps(llama))
    with again:
        assert (again.n_ctx(), again.n_threads, again._seeds.seed) == (99, 1, 3)


def test_no_file(tmp_path: Path) -> None:
    for path in (str(tmp_path / "no.gguf"), "./models/7B/llama-model.gguf", "some/repository"):
        with pytest.raises(ModelNotFoundError, match="Model path does not exist: "):
            Llama(path)
    with pytest.raises(FileAccessError, match="cannot be read"):
        LlamaGrammar.from_file(tmp_path / "no.gbnf")
    with pytest.raises(ConstraintError):
        LlamaGrammar.from_string("no grammar")


def test_files_of_the_hub(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path))
    base = tmp_path / "hub" / "models--org--repo"
    commit = "0" * 40
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    for name in ("a-Q8_0.gguf", "sub/b-Q4_0.gguf", "c-Q4_0.gguf"):
        path = base / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(tiny_model_path)
    for pattern in ("*Q8_0.gguf", "a-Q8_0.gguf", "sub/*"):
        with Llama.from_pretrained("org/repo", pattern, n_threads=1, n_ctx=64) as llama:
            assert llama.n_ctx() == 64
    with pytest.raises(ModelNotFoundError, match=r"several files fit '\*Q4_0.gguf'"):
        Llama.from_pretrained("org/repo", "*Q4_0.gguf")
    with pytest.raises(ModelNotFoundError, match="no file fits"):
        Llama.from_pretrained("org/repo", "*Q5*")
    with pytest.raises(ModelNotFoundError, match="org/other is not on this machine"):
        Llama.from_pretrained("org/other", "*Q5*")
    with pytest.raises(ModelNotFoundError):
        Llama.from_pretrained("org/repo", "a-Q8_0.gguf", local_dir=tmp_path / "here")
    for repo, file in (("no repo", "x.gguf"), ("org/repo", None), ("org/repo/x.gguf", "x")):
        with pytest.raises((ValueError, TypeError)):
            Llama.from_pretrained(repo, file)


def test_drafts_looked_up_as_asked() -> None:
    look_up = LlamaPromptLookupDecoding(max_ngram_size=2, num_pred_tokens=3)
    ids = np.array([1, 2, 3, 4, 5, 1, 2], np.intc)
    assert look_up(ids).tolist() == [3, 4, 5]
    assert look_up(np.array([7, 9, 8, 9], np.intc)).tolist() == [8, 9]
    assert look_up(np.array([1, 2], np.intc)).tolist() == []
    assert look_up(np.array([], np.intc)).tolist() == []


def run_python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_programs_that_import_llama_cpp(tiny_model_path: Path) -> None:
    code = """
import sys
import pyqwen.compat
pyqwen.compat.install()
pyqwen.compat.install()
import llama_cpp
import llama_cpp.llama_chat_format as formats
from llama_cpp import Llama, LlamaGrammar, llama_types
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from llama_cpp.llama_types import ChatCompletionRequestUserMessage
assert llama_cpp.Llama is pyqwen.compat.Llama is llama_cpp.llama.Llama
assert llama_cpp.llama_chat_format is formats
assert not llama_cpp.llama_cpp.llama_supports_gpu_offload()
with Llama(sys.argv[1], n_threads=1) as llama:
    assert llama("fox", max_tokens=2)["usage"]["completion_tokens"] == 2
assert "numpy" not in sys.modules
try:
    llama_cpp.llama_decode
except AttributeError as error:
    assert "high-level API" in str(error)
sys.modules["llama_cpp"] = sys
try:
    pyqwen.compat.install()
except RuntimeError:
    print("done")
"""
    assert run_python(code, tiny_model_path) == "done\n"


def test_every_name_is_there() -> None:
    for module in pyqwen.compat._SUBMODULES:
        assert importlib.import_module(f"pyqwen.compat.{module}").__doc__
    with pytest.raises(AttributeError, match="high-level API"):
        _ = pyqwen.compat.llama_decode
    with pytest.raises(AttributeError, match="high-level API"):
        _ = pyqwen.compat.llama_cpp.llama_decode


def test_an_adapter(tiny_model_path: Path, tmp_path: Path, fresh: Llama) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
    try:
        files = importlib.import_module("peft_files")
    finally:
        sys.path.pop(0)
    path = files.write_adapter(tmp_path / "adapter", files.factors(1))
    options: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
    ids = fresh.tokenize(b"The quick brown fox")
    with Llama(str(tiny_model_path), n_threads=1, lora_path=str(path), lora_scale=0.5) as llama:
        adapted = llama.pyqwen_model.generate(ids, adapter={"lora_path": 0.5}, **options)
        plain = llama.pyqwen_model.generate(ids, **options)
        assert adapted.token_ids != plain.token_ids
        answer: Any = llama(ids, **options)
        assert answer["choices"][0]["text"] == adapted.text
        llama.reset()
        llama.eval(ids)
        assert llama.sample(temp=0) == adapted.token_ids[0]
        logits = llama.pyqwen_model.logits(ids, adapter={"lora_path": 0.5})
        assert np.array_equal(llama.scores[-1], logits[-1])
        hello = [{"role": "user", "content": "Hello"}]
        chat: Any = llama.create_chat_completion(hello, **options)
        whole = llama.pyqwen_model.chat(hello, adapter={"lora_path": 0.5}, **options)
        assert chat["choices"][0]["message"]["content"] == whole.text
