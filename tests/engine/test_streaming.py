"""Streams: the chunks together are the text, characters are whole, stop strings are never shown."""

import asyncio
import threading

import pytest

from pyqwen import Chunk, Model

IDS = list(range(40, 60))


def _check(stream):
    chunks = list(stream)
    completion = stream.completion
    assert "".join(chunk.text for chunk in chunks) == completion.text
    assert [token for chunk in chunks for token in chunk.token_ids] == completion.token_ids
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == completion.finish_reason == stream.finish_reason
    return completion, chunks


@pytest.mark.parametrize("seed", range(15))
def test_chunks_are_the_completion(model, seed):
    settings = {"max_tokens": 40, "seed": seed, "temperature": 1.5}
    completion, _ = _check(model.stream(IDS, **settings))
    whole = model.generate(IDS, **settings)
    assert completion.text == whole.text
    assert completion.token_ids == whole.token_ids


@pytest.mark.parametrize("text", ["😀", "你", "é😀", "a你b", "\U0001f468", "ağ你"])
def test_characters_cut_anywhere_stay_whole(model, spelling, byte_tokens, text):
    letters = byte_tokens(model, text)
    settings = spelling(model, [*letters, model.tokenizer.eos_id])
    completion, chunks = _check(model.stream(IDS, **settings))
    assert completion.text == text
    assert [c.text for c in chunks if c.text] == list(text)


def test_an_answer_cut_inside_a_character_ends_with_a_replacement(model, spelling, byte_tokens):
    letters = byte_tokens(model, "a😀")
    completion, _ = _check(model.stream(IDS, max_tokens=3, **spelling(model, letters)))
    assert completion.text == "a\ufffd"


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("abcdef", "cd", "ab"),
        ("abcdef", ["xyz", "ef"], "abcd"),
        ("abcdef", ["f", "def"], "abc"),
        ("abcdef", "abcdef", ""),
        ("abcdef", "a", ""),
        ("ab😀c", "😀", "ab"),
        ("a你", ["你"], "a"),
        ("abcdef", ["cdx", "ef"], "abcd"),
        ("abcdef", [f"stop{i}" for i in range(1000)] + ["d"], "abc"),
    ],
)
def test_stop_strings_are_held_back(model, spelling, byte_tokens, text, stop, shown):
    settings = spelling(model, byte_tokens(model, text))
    completion, _ = _check(model.stream(IDS, stop=stop, **settings))
    assert (completion.text, completion.finish_reason) == (shown, "stop")


def test_what_was_held_back_is_shown_at_the_end(model, spelling, byte_tokens):
    settings = spelling(model, [*byte_tokens(model, "abcd"), model.tokenizer.eos_id])
    completion, _ = _check(model.stream(IDS, stop="cdef", **settings))
    assert (completion.text, completion.finish_reason) == ("abcd", "stop")


def test_chunks_carry_logprobs(model):
    stream = model.stream(IDS, max_tokens=10, top_logprobs=2, ignore_eos=True)
    logprobs = [entry for chunk in stream for entry in chunk.logprobs]
    assert logprobs == stream.completion.logprobs
    assert len(logprobs) == 10


def test_prompt_progress_is_told(tiny_model_path):
    told = []
    with Model(tiny_model_path, batch=32) as model:
        prompt = [i % 300 for i in range(100)]
        stream = model.stream(prompt, max_tokens=2, on_prompt=lambda *seen: told.append(seen))
        list(stream)
    assert told == [(32, 100), (64, 100), (96, 100), (100, 100)]


def test_an_exception_of_the_callers_function_reaches_the_caller(model):
    def fail(done, total):
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        model.stream(IDS, on_prompt=fail, ignore_eos=True) as stream,
    ):
        list(stream)
    # On a busy machine the whole answer may be written before this thread reads its first event.
    assert stream.finish_reason in {"cancelled", "length"}


def test_result_reads_to_the_end(model):
    stream = model.stream(IDS, max_tokens=5, ignore_eos=True)
    assert isinstance(next(stream), Chunk)
    assert len(stream.result().token_ids) == 5
    assert stream.result() is stream.completion
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_of_a_chat_is_the_chat(model):
    stream = model.stream_chat("Hello", max_tokens=20, seed=4)
    completion, _ = _check(stream)
    reply = model.chat("Hello", max_tokens=20, seed=4)
    assert (reply.text, reply.message) == (completion.text, completion.message)


def test_errors_end_a_stream(model):
    bias = dict.fromkeys(range(model.config.real_tokens), float("-inf"))
    stream = model.stream(IDS, logit_bias=bias)
    with pytest.raises(ValueError, match="forbids"):
        list(stream)
    with pytest.raises(ValueError, match="forbids"):
        stream.result()


def test_async_twins_give_the_same(model):
    async def both():
        settings = {"max_tokens": 15, "seed": 2}
        generated = await model.agenerate(IDS, **settings)
        chatted = await model.achat("Hello", **settings)
        streamed = [chunk async for chunk in model.astream(IDS, **settings)]
        async with model.astream_chat("Hello", **settings) as stream:
            chat_chunks = [chunk async for chunk in stream]
        return generated, chatted, streamed, chat_chunks, stream

    generated, chatted, streamed, chat_chunks, stream = asyncio.run(both())
    assert generated.text == model.generate(IDS, max_tokens=15, seed=2).text
    assert chatted.text == model.chat("Hello", max_tokens=15, seed=2).text
    assert "".join(chunk.text for chunk in streamed) == generated.text
    assert "".join(chunk.text for chunk in chat_chunks) == chatted.text == stream.completion.text


@pytest.mark.parametrize("name", ["agenerate", "achat", "astart", "astart_chat"])
def test_the_event_loop_runs_while_a_prompt_is_encoded(model, monkeypatch, name):
    loop_ran, waits = threading.Event(), []

    def slowed(encode):
        def encode_later(*arguments):
            waits.append(loop_ran.wait(10))
            return encode(*arguments)

        return encode_later

    for encode in ("encode", "encode_segments"):
        monkeypatch.setattr(model.tokenizer, encode, slowed(getattr(model.tokenizer, encode)))

    async def main():
        task = asyncio.create_task(getattr(model, name)("Hello", max_tokens=1, ignore_eos=True))
        while not waits and not task.done():
            await asyncio.sleep(0.001)
            loop_ran.set()
        answer = await task
        return await answer.result() if "start" in name else answer

    assert len(asyncio.run(main()).token_ids) == 1
    assert waits == [True]
