"""create_completion: shapes of llama-cpp-python, and what its arguments do."""

from __future__ import annotations

import json
import typing
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pyqwen.compat import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionUsage,
    CreateCompletionResponse,
    Llama,
    LlamaGrammar,
    LlamaRAMCache,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteriaList,
)
from pyqwen.compat.llama_grammar import JSON_GBNF
from pyqwen.errors import ContextOverflowError

PROMPT = "The quick brown fox"
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 8}


def keys(kind: Any) -> set[str]:
    return set(typing.get_type_hints(kind))


def text_of(answer: Any) -> str:
    return answer["choices"][0]["text"]


def test_the_shape(fresh: Llama) -> None:
    answer: Any = fresh(PROMPT, **GREEDY, logprobs=2)
    assert set(answer) == keys(CreateCompletionResponse)
    (choice,) = answer["choices"]
    assert set(choice) == keys(CompletionChoice)
    assert set(choice["logprobs"]) == keys(CompletionLogprobs)
    assert set(answer["usage"]) == keys(CompletionUsage)
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["model"] == fresh.model_path
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    assert fresh(PROMPT, max_tokens=1, model="other")["model"] == "other"
    assert fresh.create_completion(PROMPT, max_tokens=1)["choices"][0]["logprobs"] is None


def test_a_stream_is_the_whole_in_pieces(fresh: Llama) -> None:
    whole: Any = fresh(PROMPT, **GREEDY, logprobs=1)
    chunks: Any = list(fresh(PROMPT, **GREEDY, logprobs=1, stream=True))
    assert "".join(map(text_of, chunks)) == text_of(whole)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "length"]
    assert all(set(chunk) == keys(CreateCompletionResponse) - {"usage"} for chunk in chunks)
    lists = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]]
    for name in keys(CompletionLogprobs):
        pieces = [value for one in lists for value in one[name]]
        assert pieces == whole["choices"][0]["logprobs"][name], name
    assert fresh.n_tokens == whole["usage"]["total_tokens"]


def test_it_is_what_the_model_writes(fresh: Llama) -> None:
    done = fresh.pyqwen_model.generate(PROMPT, max_tokens=8, temperature=0, repetition_penalty=1)
    assert text_of(fresh(PROMPT, **GREEDY)) == done.text
    ids = fresh.tokenize(PROMPT.encode())
    assert text_of(fresh(ids, **GREEDY)) == done.text


def test_echo_with_logprobs(fresh: Llama) -> None:
    answer: Any = fresh(PROMPT, **GREEDY, logprobs=1, echo=True)
    logprobs = answer["choices"][0]["logprobs"]
    assert text_of(answer).startswith(PROMPT)
    assert "".join(logprobs["tokens"]) == text_of(answer)
    assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
    assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
    assert len(logprobs["tokens"]) == answer["usage"]["total_tokens"]
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
        assert text_of(answer)[offset : offset + len(token)] == token


def test_stop_strings(fresh: Llama) -> None:
    text = text_of(fresh(PROMPT, **GREEDY))
    stop = text[len(text) // 2 :][:2]
    answer: Any = fresh(PROMPT, **GREEDY, stop=[stop])
    assert text_of(answer) == text.partition(stop)[0]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "".join(map(text_of, fresh(PROMPT, **GREEDY, stop=stop, stream=True))) == text_of(answer)


@pytest.mark.parametrize("unlimited", [None, 0, -1])
def test_as_many_tokens_as_fit(fresh: Llama, unlimited: Any) -> None:
    ids = fresh.tokenize(PROMPT.encode())
    answer: Any = fresh(ids * 30, max_tokens=unlimited, logit_bias=_no_end(fresh))
    assert answer["usage"]["total_tokens"] == fresh.n_ctx()
    assert answer["choices"][0]["finish_reason"] == "length"


def _no_end(llama: Llama) -> Any:
    return {str(token): float("-inf") for token in llama.pyqwen_tokenizer.eog_ids}


def test_a_prompt_that_leaves_no_room(fresh: Llama) -> None:
    ids = fresh.tokenize(b"x") * fresh.n_ctx()
    with pytest.raises(ContextOverflowError, match=r"\(256\) exceed context window of 256"):
        fresh(ids)
    with pytest.raises(ValueError, match="empty"):
        fresh("")


def test_seeds(fresh: Llama) -> None:
    def texts() -> list[str]:
        return [text_of(fresh(PROMPT, max_tokens=12, temperature=1.5)) for _ in range(3)]

    first = texts()
    assert len(set(first)) == 3
    fresh.set_seed(7)
    assert texts() == first
    same = [text_of(fresh(PROMPT, max_tokens=12, temperature=1.5, seed=3)) for _ in range(2)]
    assert same[0] == same[1]
    drawn = {text_of(fresh(PROMPT, max_tokens=12, temperature=1.5, seed=-1)) for _ in range(4)}
    assert len(drawn) > 1
    everything = text_of(fresh(PROMPT, max_tokens=12, temperature=-1, seed=3))
    assert everything == text_of(
        fresh(PROMPT, max_tokens=12, temperature=1, top_k=-1, top_p=1, min_p=0, seed=3)
    )


def test_processors_and_biases(fresh: Llama) -> None:
    seen = []

    def only(ids: Any, scores: Any) -> Any:
        seen.append((ids.dtype, len(ids), scores.shape))
        changed = np.full_like(scores, -np.inf)  # as large as the vocabulary with its padding
        changed[5] = 0
        return changed

    answer: Any = fresh(PROMPT, **GREEDY, logits_processor=LogitsProcessorList([only]))
    assert text_of(answer) == fresh.detokenize([5] * 8).decode()
    read = answer["usage"]["prompt_tokens"]
    assert seen == [(np.intc, read + i, (fresh.n_vocab(),)) for i in range(8)]
    biased = fresh(PROMPT, **GREEDY, logit_bias={"5": 1000.0})
    assert text_of(biased) == text_of(answer)
    end = fresh.token_eos()
    some: Any = fresh(
        PROMPT,
        **GREEDY,
        logit_bias={end: 1000.0},
        logits_processor=[MinTokensLogitsProcessor(3, end)],
    )
    assert some["usage"]["completion_tokens"] == 3


def test_criteria_end_an_answer_before_its_next_token(fresh: Llama) -> None:
    read = len(fresh.tokenize(PROMPT.encode()))
    whole: Any = fresh(PROMPT, **GREEDY, logprobs=0)
    logprobs = whole["choices"][0]["logprobs"]

    def after_five(ids: Any, logits: Any) -> bool:
        assert np.isfinite(logits).any()
        return len(ids) >= read + 5

    criteria = StoppingCriteriaList([lambda ids, logits: False, after_five])
    for _ in range(5):  # whatever the engine does meanwhile
        answer: Any = fresh(PROMPT, **GREEDY, logprobs=0, stopping_criteria=criteria)
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["choices"][0]["logprobs"]["tokens"] == logprobs["tokens"][:5]
        chunks: Any = list(fresh(PROMPT, **GREEDY, stream=True, stopping_criteria=criteria))
        assert "".join(map(text_of, chunks)) == text_of(answer)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert fresh.n_tokens == read + 5


def test_grammars(fresh: Llama, tmp_path: Any) -> None:
    text = 'root ::= "fox" | "dog"'
    (tmp_path / "g.gbnf").write_text(text)
    for grammar in (
        LlamaGrammar.from_string(text, verbose=False),
        LlamaGrammar.from_file(tmp_path / "g.gbnf"),
    ):
        answer: Any = fresh(PROMPT, grammar=grammar)
        assert text_of(answer) in ("fox", "dog")
        assert answer["choices"][0]["finish_reason"] == "stop"
    schema = LlamaGrammar.from_json_schema('{"enum": ["a", 1]}')
    assert text_of(fresh(PROMPT, grammar=schema)) in ('"a"', "1")


def test_any_json(fresh: Llama) -> None:
    grammar = LlamaGrammar.from_string(JSON_GBNF)
    ends = dict.fromkeys(fresh.tokenize(b'}]"'), 5.0)
    text = text_of(fresh(PROMPT, grammar=grammar, max_tokens=200, logit_bias=ends))
    assert isinstance(json.loads(text), dict)


def test_threads_may_share_it(fresh: Llama) -> None:
    def ask(prompt: str) -> str:
        return text_of(fresh(prompt, **GREEDY))

    prompts = [f"{PROMPT} {i}" for i in range(8)]
    alone = list(map(ask, prompts))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, prompts)) == alone


def test_a_suffix(fresh: Llama, make_tiny_model: Any) -> None:
    with pytest.warns(UserWarning, match="suffix: this model cannot fill in"):
        answer = fresh(PROMPT, **GREEDY, suffix=" END")
    assert text_of(answer) == text_of(fresh(PROMPT, **GREEDY)) + " END"
    roles = {
        f"tokenizer.ggml.fim_{role}_token_id": i
        for i, role in enumerate(["pre", "suf", "mid", "sep"])
    }
    with Llama(str(make_tiny_model(metadata=roles)), n_ctx=128, n_threads=1) as filling:
        text = text_of(filling("a quick ", suffix=" fox", temperature=0))
        assert (
            text
            == filling.pyqwen_model.infill("a quick ", " fox", max_tokens=16, temperature=0).text
        )


def test_a_cache_is_asked_and_filled(fresh: Llama) -> None:
    cache = LlamaRAMCache()
    fresh.set_cache(cache)
    ids = fresh.tokenize(PROMPT.encode())
    assert ids not in cache
    answer: Any = fresh(ids, **GREEDY)
    (state,) = cache.cache_state.values()
    assert state.n_tokens == answer["usage"]["total_tokens"]
    assert ids in cache
    fresh.reset()
    assert text_of(fresh(ids, **GREEDY)) == text_of(answer)
    small = LlamaRAMCache(capacity_bytes=state.llama_state_size)
    for key in ([1, 2], [3, 4]):
        small[key] = state
    assert [1] not in small
    assert small[[3]] is state
    with pytest.raises(KeyError):
        small[[9]]


def test_leaving_a_stream_stops_the_model(fresh: Llama) -> None:
    for _ in fresh(PROMPT, max_tokens=None, temperature=0, stream=True):
        break
    begun: Any = fresh(PROMPT, max_tokens=None, stream=True, stopping_criteria=[lambda *_: False])
    stream = weakref.ref(begun.gi_frame.f_locals["self"].running)
    del begun  # never read
    assert stream() is None
    assert text_of(fresh(PROMPT, **GREEDY))


def test_what_is_not_sampled_here_is_said_once(fresh: Llama) -> None:
    with pytest.warns(UserWarning, match="mirostat_mode|tfs_z") as seen:
        fresh(PROMPT, max_tokens=1, mirostat_mode=2, tfs_z=0.9)
    fresh(PROMPT, max_tokens=1, mirostat_mode=2, tfs_z=0.9)  # any warning is an error here
    assert sorted(str(w.message).partition(":")[0] for w in seen) == ["mirostat_mode", "tfs_z"]
    assert {w.filename for w in seen} == {__file__}
