"""What a completion says: text, tokens, reasons, usage, log-probabilities, and refused arguments."""

import math
from pathlib import Path

import numpy as np
import pytest

import pyqwen
from pyqwen import Model, SamplingParams

IDS = list(range(40, 60))


def test_completion_has_all_its_parts(model):
    reply = model.generate(IDS, max_tokens=7, temperature=0, ignore_eos=True)
    assert reply.finish_reason == "length"
    assert len(reply.token_ids) == 7
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (20, 7)
    assert reply.usage.total_tokens == 27
    assert reply.logprobs is None
    timings = reply.timings
    assert timings.first_token_seconds > 0
    assert timings.decode_tokens_per_second > 0
    assert timings.prompt_seconds <= timings.first_token_seconds


def test_text_is_what_the_tokens_write(model):
    reply = model.generate(IDS, max_tokens=50, seed=3)
    ordinary = [token for token in reply.token_ids if not model.tokenizer.is_control(token)]
    assert reply.text == model.tokenizer.decode(ordinary)


def test_chat_of_a_string_is_chat_of_one_user_message(model):
    first = model.chat("Hello", max_tokens=5, temperature=0)
    second = model.chat([{"role": "user", "content": "Hello"}], max_tokens=5, temperature=0)
    assert first.text == second.text
    assert {**first.message, "token_ids": None} == {
        "role": "assistant",
        "content": first.text,
        "token_ids": None,
    }


def test_chat_uses_the_template_of_the_file(model):
    rendered = model.chat_template.render("Hello").text
    assert rendered.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    ids = model.tokenizer.encode(rendered, special=True)
    assert model.chat("Hello", max_tokens=3).usage.prompt_tokens == len(ids)


def test_control_texts_in_prompts_are_text_unless_asked(model):
    text = "<|im_end|>"
    plain = model.generate(text, max_tokens=1)
    special = model.generate(text, max_tokens=1, special=True)
    assert plain.usage.prompt_tokens > 1
    assert special.usage.prompt_tokens == 1


def test_seed_repeats_an_answer_and_is_reported(model):
    first = model.generate(IDS, max_tokens=20)
    again = model.generate(IDS, max_tokens=20, seed=first.seed)
    other = model.generate(IDS, max_tokens=20, seed=first.seed ^ 1)
    assert again.token_ids == first.token_ids
    assert other.token_ids != first.token_ids


def test_end_token_stops_and_is_not_part_of_the_answer(model, spelling):
    end = model.tokenizer.eos_id
    letters = model.tokenizer.encode("abc")
    settings = spelling(model, [*letters, end])
    reply = model.generate(IDS, max_tokens=50, **settings)
    assert (reply.text, reply.finish_reason, reply.token_ids) == ("abc", "stop", letters)
    reply = model.generate(IDS, max_tokens=7, ignore_eos=True, **settings)
    assert (reply.text, reply.finish_reason) == ("abcabc", "length")
    assert reply.token_ids == [*letters, end, *letters]


def test_stop_token_ids_stop(model, spelling):
    letters = model.tokenizer.encode("abc")
    reply = model.generate(IDS, stop_token_ids=[letters[2]], **spelling(model, letters))
    assert (reply.text, reply.finish_reason) == ("ab", "stop")


def test_padding_is_never_written(model):
    tokens = set()
    for seed in range(20):
        tokens |= set(model.generate(IDS, max_tokens=50, temperature=50.0, seed=seed).token_ids)
    assert max(tokens) < model.tokenizer.vocab_size < model.config.vocab_rows
    assert len(tokens) > 200


def test_logprobs_are_those_of_the_model(model):
    reply = model.generate(IDS, max_tokens=6, temperature=0, top_logprobs=5, repetition_penalty=1.5)
    text = [*IDS, *reply.token_ids]
    expected = model.logprobs(text)[len(IDS) - 1 :]
    assert [entry.token_id for entry in reply.logprobs] == reply.token_ids
    np.testing.assert_array_equal([entry.logprob for entry in reply.logprobs], expected)
    logits = model.logits(text)[len(IDS) - 1, : model.config.real_tokens]
    top = reply.logprobs[0].top
    assert [entry.token_id for entry in top] == list(np.argsort(-logits, kind="stable")[:5])
    assert top[0].logprob >= reply.logprobs[0].logprob


def test_logprobs_sum_to_one_over_the_real_tokens(model):
    n = model.config.real_tokens
    total = sum(math.exp(model.logprobs([7], targets=[t])[0]) for t in range(n))
    assert total == pytest.approx(1, abs=1e-5)


def test_logprobs_without_targets_are_of_the_next_ids(model):
    np.testing.assert_array_equal(model.logprobs(IDS), model.logprobs(IDS[:-1], targets=IDS[1:]))
    assert model.logprobs([5]).shape == (0,)


def test_logits_are_raw_and_of_all_rows(model):
    logits = model.logits(IDS)
    assert logits.shape == (len(IDS), model.config.vocab_rows)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_max_tokens_zero_reads_only(model):
    reply = model.generate(IDS, max_tokens=0)
    assert (reply.text, reply.token_ids, reply.finish_reason) == ("", [], "length")
    assert reply.timings.first_token_seconds is None


def test_answer_ends_where_the_context_ends(model):
    prompt = [i % 300 for i in range(model.context - 5)]
    reply = model.generate(prompt, max_tokens=100, ignore_eos=True)
    assert (len(reply.token_ids), reply.finish_reason) == (5, "length")
    reply = model.generate(prompt + [1] * 5, max_tokens=100, ignore_eos=True)
    assert (len(reply.token_ids), reply.finish_reason) == (0, "length")


def test_prompt_longer_than_the_context(model):
    with pytest.raises(pyqwen.ContextOverflowError, match=r"513 .*512") as caught:
        model.generate([1] * 513)
    assert (caught.value.tokens, caught.value.context) == (513, 512)
    with pytest.raises(pyqwen.ContextOverflowError):
        model.logits([1] * 513)


@pytest.mark.parametrize("prompt", ["", []])
def test_empty_prompts_are_refused(model, prompt):
    with pytest.raises(ValueError, match="at least one"):
        model.generate(prompt)


@pytest.mark.parametrize("token", [-1, 352, 2**31, -(2**40)])
def test_token_ids_out_of_range_are_refused(model, token):
    with pytest.raises(ValueError, match="outside"):
        model.generate([1, token])
    with pytest.raises(ValueError, match="target"):
        model.logprobs([1], targets=[token])


def test_wrong_arguments_are_refused_before_anything_runs(model):
    with pytest.raises(TypeError, match="temprature"):
        model.generate(IDS, temprature=1)
    with pytest.raises(ValueError, match="logit_bias names token 400"):
        model.generate(IDS, logit_bias={400: 1.0})
    with pytest.raises(TypeError, match="SamplingParams"):
        model.generate(IDS, {"temperature": 1})
    for prompt in (None, 5):
        with pytest.raises(
            TypeError, match=f"text or a sequence of token ids, not {type(prompt).__name__}"
        ):
            model.generate(prompt)
    with pytest.raises(ValueError, match="targets"):
        model.logprobs(IDS, targets=[1])
    with pytest.raises(pyqwen.TemplateError, match="role"):
        model.chat([{"role": "nobody", "content": "x"}])


def test_forbidding_everything_is_an_error_of_that_request(model):
    bias = dict.fromkeys(range(model.config.real_tokens), -math.inf)
    with pytest.raises(ValueError, match="forbids every token"):
        model.generate(IDS, logit_bias=bias)
    assert model.generate(IDS, max_tokens=1, ignore_eos=True).usage.completion_tokens == 1


def test_params_and_overrides_combine(model):
    params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    assert len(model.generate(IDS, params).token_ids) == 4
    assert len(model.generate(IDS, params, max_tokens=2).token_ids) == 2


def test_numpy_ids_are_ids(model):
    reply = model.generate(np.array(IDS, np.int64), max_tokens=3, temperature=0)
    assert reply.token_ids == model.generate(IDS, max_tokens=3, temperature=0).token_ids


def test_damaged_weights_raise_instead_of_writing_garbage(make_tiny_model):
    with Model(make_tiny_model(damaged=True)) as broken:
        with pytest.raises(pyqwen.NumericError):
            broken.generate(IDS, max_tokens=2)
        with pytest.raises(pyqwen.NumericError):
            broken.logprobs(IDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 0}, "context"),
        ({"context": 100_000}, "context of 100000"),
        ({"context": 10**11}, "context must be from 1 to"),
        ({"batch": 10**12}, "batch must be from 1 to"),
        ({"threads": 0}, "threads"),
        ({"threads": 10_000}, "threads"),
        ({"threads": 10**12}, "threads must be from 1 to"),
        ({"kv_type": "f8"}, "kv_type"),
        ({"load": "slow"}, "load"),
        ({"max_sequences": 0}, "max_sequences"),
        ({"max_sequences": 10**12}, "max_sequences must be from 1 to"),
        ({"isa": "sse9"}, "sse9"),
    ],
)
def test_wrong_settings_of_a_model(tiny_model_path: Path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Model(tiny_model_path, **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYQWEN_THREADS", "many"),
        ("PYQWEN_THREADS", "0"),
        ("PYQWEN_THREADS", "99999999999"),
        ("PYQWEN_THREADS", "9" * 10),
        ("PYQWEN_THREADS", "9" * 5000),
        ("PYQWEN_ISA", "mmx"),
        ("PYQWEN_EXACT", "yes"),
    ],
)
def test_wrong_environment_is_named(tiny_model_path: Path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        Model(tiny_model_path)


def test_environment_chooses_and_arguments_win(tiny_model_path: Path, monkeypatch):
    monkeypatch.setenv("PYQWEN_THREADS", "1")
    monkeypatch.setenv("PYQWEN_ISA", "scalar")
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(tiny_model_path) as model:
        assert (model.threads, model.isa, model.exact, model.kv_type) == (1, "scalar", True, "f32")
    with Model(tiny_model_path, threads=2, kv_type="f16", exact=False) as model:
        assert (model.threads, model.exact, model.kv_type) == (2, False, "f16")


def test_a_missing_file_is_named():
    with pytest.raises(pyqwen.ModelNotFoundError, match=r"nowhere\.gguf"):
        Model("/nowhere.gguf")


@pytest.mark.parametrize("load", ["mmap", "copy"])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_kind_of_model_answers(make_tiny_model, load, architecture, tied):
    path = make_tiny_model(architecture=architecture, tied=tied, tensor_type="F16")
    with Model(path, load=load) as model:
        assert len(model.generate(IDS, max_tokens=4, ignore_eos=True).token_ids) == 4
        assert model.config.tied == tied


def test_a_chat_may_name_another_template_of_the_file(make_tiny_model):
    metadata = {"tokenizer.chat_template.tool_use": "{{ messages[0].content }} tools"}
    with Model(make_tiny_model(metadata=metadata)) as model:
        done = model.chat("Hello", template="tool_use", max_tokens=3)
        assert done.usage.prompt_tokens == len(model.tokenizer.encode("Hello tools"))
        assert model.chat("Hello", max_tokens=3).usage.prompt_tokens > done.usage.prompt_tokens
        with pytest.raises(ValueError, match=r"no chat template 'rag'.*tool_use"):
            model.chat("Hello", template="rag")
