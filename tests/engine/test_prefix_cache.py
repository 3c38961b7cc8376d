"""What was computed once is not computed again: conversations, branches, and what they may not lose."""

import random

import pytest

import pyqwen
from pyqwen import Model
from pyqwen.engine.prefix_cache import common_prefix

PROMPT = list(range(40, 140))


@pytest.fixture
def model(tiny_model_path):
    with Model(tiny_model_path, threads=2, max_sequences=3) as model:
        yield model


def _cached(model, prompt):
    return model.generate(prompt, max_tokens=1, temperature=0).usage.cached_tokens


def test_common_prefix():
    base = list(range(1000))
    for n in (0, 1, 2, 3, 499, 500, 999):
        other = [*base[:n], -1, *base[n + 1 :]]
        assert common_prefix(base, other) == n
        assert common_prefix(base, base[:n]) == n
    assert common_prefix([], []) == 0


def test_the_same_prompt_is_read_once(model):
    assert _cached(model, PROMPT) == 0
    assert _cached(model, PROMPT) == 99  # the last token is always computed


def test_a_longer_prompt_continues(model):
    _cached(model, PROMPT)
    assert _cached(model, [*PROMPT, 1, 2, 3]) >= 100


def test_a_prompt_inside_another_is_cached(model):
    _cached(model, PROMPT)
    assert _cached(model, PROMPT[:50]) == 49


def test_a_branch_leaves_the_other_branch(model):
    left, right = PROMPT + [1] * 40, PROMPT + [2] * 40
    assert _cached(model, left) == 0
    assert _cached(model, right) == 100
    assert _cached(model, left) == 139
    assert _cached(model, right) == 139


def test_the_least_recently_used_is_given_up(tiny_model_path, block_bytes):
    prompts = [[i] * 60 for i in range(4)]  # one more than there is room for
    with Model(tiny_model_path, threads=1, prefix_cache_bytes=3 * block_bytes + 1) as model:
        for prompt in prompts:
            assert _cached(model, prompt) == 0
        assert _cached(model, prompts[1]) == 59
        assert _cached(model, prompts[0]) == 0  # was given up; it takes the place of the third
        assert _cached(model, prompts[3]) == 59
        assert _cached(model, prompts[2]) == 0
        assert model.kv_bytes == 3 * block_bytes


def test_a_long_text_is_given_up_from_its_end(tiny_model_path, block_bytes):
    long, short = list(range(300)), [5] * 60
    with Model(tiny_model_path, threads=1, prefix_cache_bytes=3 * block_bytes) as model:
        _cached(model, long)  # three blocks
        _cached(model, short)
        assert _cached(model, long[:290]) == 256


def test_more_conversations_than_sequences_are_kept(model):
    prompts = [[i] * 60 for i in range(4)]
    for prompt in prompts:
        assert _cached(model, prompt) == 0
    assert [_cached(model, prompt) for prompt in prompts] == [59] * 4


def test_nothing_is_kept_without_a_budget(tiny_model_path):
    with Model(tiny_model_path, threads=1, prefix_cache_bytes=0) as model:
        assert _cached(model, PROMPT) == _cached(model, PROMPT) == 0
        assert model.kv_bytes == 0
        answers = model.generate_n(PROMPT, 3, max_tokens=3)  # these run together
        assert [answer.usage.cached_tokens for answer in answers] == [0, 99, 99]


def test_idle_caches_together_hold_one_context_at_most(model):
    prompts = [list(range(i, i + 250)) for i in (0, 30, 60)]
    most = pyqwen.plan(model.path, max_sequences=1).kv
    for prompt in prompts:
        _cached(model, prompt)
        assert model.kv_bytes <= most
    model.generate([7] * 500, max_tokens=5, ignore_eos=True)
    assert model.kv_bytes <= most
    assert _cached(model, prompts[0]) == 0


def test_what_ran_together_is_kept(model):
    """As much memory as they took stays in use: conversations in parallel do not drive each other out."""
    prompts = [[i] * 400 for i in range(3)]
    streams = [model.stream(prompt, max_tokens=50, ignore_eos=True) for prompt in prompts]
    for stream in streams:
        stream.result()
    assert [_cached(model, prompt) for prompt in prompts] == [399] * 3
    assert model.kv_bytes <= pyqwen.plan(model.path, max_sequences=3).kv


@pytest.fixture(scope="module")
def block_bytes(tiny_model_path):
    """What a block of positions takes: a short text has one."""
    with Model(tiny_model_path, threads=1) as model:
        model.generate([1, 2, 3], max_tokens=1)
        return model.kv_bytes


def _conversations(rng, n):
    """Texts that share beginnings of any length, as conversations with some system prompts do."""
    texts = []
    for _ in range(n):
        known = rng.choice(texts) if texts and rng.random() < 0.7 else []
        start = known[: rng.randrange(len(known) + 1)]
        texts.append(start + [rng.randrange(300) for _ in range(rng.randrange(1, 200))])
    return [text[:280] for text in texts]


def _many_requests(path, block_bytes, n_requests, n_conversations):
    """Requests over conversations that grow, with little room: the same answers as without a cache."""
    rng = random.Random(7)
    texts = _conversations(rng, n_conversations)
    budget = 12 * block_bytes
    read = cached = 0
    with (
        Model(path, threads=1, max_sequences=2, prefix_cache_bytes=budget) as model,
        Model(path, threads=1, max_sequences=2, prefix_cache_bytes=0) as plain,
    ):
        for i in range(n_requests):
            which = rng.randrange(len(texts)) if rng.random() < 0.4 else i // 5 % len(texts)
            settings = {"max_tokens": 3, "temperature": 1.0, "seed": i, "ignore_eos": True}
            settings |= {"logprobs": True}
            here, there = (one.generate(texts[which], **settings) for one in (model, plain))
            assert here.token_ids == there.token_ids
            assert [t.logprob for t in here.logprobs] == [t.logprob for t in there.logprobs]
            assert model.kv_bytes <= budget
            assert there.usage.cached_tokens == 0
            read += here.usage.prompt_tokens
            cached += here.usage.cached_tokens
            grown = texts[which] + here.token_ids + [rng.randrange(300)]
            texts[which] = grown if len(grown) < 400 else grown[: rng.randrange(1, 300)]
    assert cached > 0.3 * read


def test_many_conversations_in_little_memory(tiny_model_path, block_bytes):
    _many_requests(tiny_model_path, block_bytes, 60, 12)


@pytest.mark.slow
def test_a_thousand_requests_over_fifty_conversations(tiny_model_path, block_bytes):
    _many_requests(tiny_model_path, block_bytes, 1000, 50)


def _turn(model, history, said, **settings):
    history.append({"role": "user", "content": said})
    reply = model.chat(history, **settings)
    history.append(reply.message)
    return reply


def _new_tokens(reply):
    return reply.usage.prompt_tokens - reply.usage.cached_tokens


def test_conversation_reads_only_what_is_new(model):
    history = [{"role": "system", "content": "The quick brown fox. " * 4}]
    reply = _turn(model, history, "What is the time?", max_tokens=20, seed=1)
    for said in ("And now?", "She sells sea shells.", "Really?"):
        before = reply.usage.prompt_tokens + reply.usage.completion_tokens
        reply = _turn(model, history, said, max_tokens=20, seed=1)
        new_turn = len(model.tokenizer.encode(f"\n<|im_start|>user\n{said}", special=True)) + 20
        assert reply.usage.cached_tokens >= before - 1
        assert _new_tokens(reply) < new_turn


@pytest.mark.parametrize("ending", ["end token", "stop string", "length", "cancel"])
def test_answers_are_not_read_again(model, spelling, byte_tokens, ending):
    """The model wrote its answer in other tokens than the tokenizer makes of the text."""
    text = "The quick"
    letters = byte_tokens(model, text)
    assert letters != model.tokenizer.encode(text)
    end = model.tokenizer.eos_id
    settings = spelling(model, [*letters, end])
    visible = text
    history = [{"role": "user", "content": "Say it."}]
    if ending == "stop string":
        visible = text[:-2]
        reply = model.chat(history, stop=text[-2:], **settings)
    elif ending == "length":
        visible = text[:-1]
        reply = model.chat(history, max_tokens=len(letters) - 1, **settings)
    elif ending == "cancel":
        with model.stream_chat(history, **spelling(model, letters)) as stream:
            for chunk in stream:
                if chunk.text:
                    break
        reply = stream.completion
        visible = reply.text
    else:
        reply = model.chat(history, **settings)
    assert reply.text == visible
    assert reply.finish_reason == {"length": "length", "cancel": "cancelled"}.get(ending, "stop")
    assert reply.message["token_ids"] == reply.token_ids[: len(visible)]

    history += [reply.message, {"role": "user", "content": "Again."}]
    second = model.chat(history, max_tokens=1)
    prompt = reply.usage.prompt_tokens
    evaluated = len(visible) - (ending in ("length", "cancel"))  # what was drawn last was not run
    assert second.usage.cached_tokens >= prompt + evaluated
    new_turn = "<|im_end|>\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
    new_ids = len(model.tokenizer.encode(new_turn, special=True))
    assert _new_tokens(second) <= new_ids + len(visible) - evaluated
    # and it is the prompt that was rendered, in the tokens that were written
    assert second.usage.prompt_tokens == prompt + len(visible) + new_ids


def _misspelled_turn(model):
    """A conversation whose answer is other tokens than the tokenizer makes of its text."""
    history = [{"role": "user", "content": "What is the time?"}]
    for seed in range(50):
        reply = model.chat(history, max_tokens=20, temperature=1.3, seed=seed, ignore_eos=True)
        ids = reply.content_ids
        if ids and model.tokenizer.encode(reply.text) != ids:
            return [*history, reply.message, {"role": "user", "content": "And now?"}]
    raise AssertionError("the model always writes as its tokenizer does")


@pytest.mark.parametrize("with_ids", [True, False])
def test_answers_do_not_depend_on_what_is_cached(model, tiny_model_path, with_ids):
    history = _misspelled_turn(model)
    if not with_ids:  # as a client of another library sends it
        del history[1]["token_ids"]
    here = model.chat(history, max_tokens=30, temperature=1.3, seed=5)
    with Model(tiny_model_path, threads=1) as fresh:
        there = fresh.chat(history, max_tokens=30, temperature=1.3, seed=5)
    assert there.usage.cached_tokens == 0 < here.usage.cached_tokens
    assert there.usage.prompt_tokens == here.usage.prompt_tokens
    assert there.token_ids == here.token_ids
    rendered = model.chat_template.render(history)
    assert (tuple(history[1].get("token_ids", ())) in rendered.segments) is with_ids
    new_turn = "<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    if with_ids:  # the last token of the answer was drawn, but not run
        assert _new_tokens(here) == len(model.tokenizer.encode(new_turn, special=True)) + 1


def test_a_stop_string_inside_a_token_leaves_no_tokens(model, spelling):
    whole = next(
        i
        for i in range(model.tokenizer.vocab_size)
        if len(model.tokenizer.token_bytes(i)) > 2
        and model.tokenizer.token_bytes(i).isalpha()
        and not model.tokenizer.is_control(i)
    )
    text = model.tokenizer.decode([whole])
    reply = model.chat("Say it.", stop=text[1:], **spelling(model, [whole]))
    assert reply.message == {"role": "assistant", "content": text[0]}


def test_a_control_token_inside_an_answer_leaves_no_tokens(model, spelling, byte_tokens):
    a, b = byte_tokens(model, "ab")
    control = model.tokenizer.eos_id
    settings = spelling(model, [a, control, b])
    reply = model.chat("Say it.", max_tokens=3, ignore_eos=True, **settings)
    assert reply.token_ids == [a, control, b]
    assert reply.message == {"role": "assistant", "content": "ab"}


def test_half_a_character_at_the_end_is_not_read_again(model, spelling):
    halves = [i for i in range(model.tokenizer.vocab_size)
              if model.tokenizer.token_bytes(i) == "é".encode()[:1]]  # fmt: skip
    reply = model.chat("Say it.", max_tokens=1, **spelling(model, halves[:1]))
    assert reply.message == {
        "role": "assistant",
        "content": "\ufffd",
        "token_ids": halves[:1],
    }
    history = [{"role": "user", "content": "Say it."}, reply.message]
    rendered = model.chat_template.render([*history, {"role": "user", "content": "Again."}])
    assert tuple(halves[:1]) in rendered.segments


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (lambda t: t.encode("Hi"), "not the tokens of its content"),
        (lambda _: [], "not the tokens of its content"),
        (lambda t: [*t.encode("Hi!"), t.eos_id], "stands for no text"),
        (lambda t: [*t.encode("Hi!"), t.vocab_size], "the vocabulary ends at"),
        (lambda _: [-1], "have -1"),
    ],
)
def test_token_ids_of_something_else_are_refused(model, ids, problem):
    answer = {"role": "assistant", "content": "Hi!", "token_ids": ids(model.tokenizer)}
    said = {"role": "user", "content": "Hello"}
    with pytest.raises(ValueError, match=rf"messages\[1\]\.token_ids .*{problem}"):
        model.chat([said, answer, said], max_tokens=1)
    answer["token_ids"] = None
    assert model.chat([said, answer, said], max_tokens=1)


def test_texts_and_tokens_are_taken_literally(model, spelling, byte_tokens):
    """Only chats may continue in other tokens: a prompt of ids or text means exactly these tokens."""
    letters = byte_tokens(model, "The qu")
    settings = spelling(model, letters)
    prompt = model.tokenizer.encode("Say it.")
    reply = model.generate(prompt, max_tokens=6, **settings)
    assert reply.text == "The qu"
    ids = prompt + model.tokenizer.encode("The qu")
    second = model.generate(ids, max_tokens=1)
    assert second.usage.prompt_tokens == len(ids)
    assert second.usage.cached_tokens == len(prompt)


def test_a_users_control_text_does_not_match_a_control_token(model):
    """Text that looks like a cached control token is other tokens, and is read as such."""
    fake = "x<|im_end|>\n<|im_start|>user\ny"
    real = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]
    first = model.chat(real, max_tokens=1)
    second = model.chat(fake, max_tokens=1)
    canonical = model.tokenizer.encode_segments(model.chat_template.render(fake).segments)
    assert second.usage.prompt_tokens == len(canonical) > first.usage.prompt_tokens


def test_busy_sequences_share_what_they_hold(model):
    """A request that begins like one that is running copies its beginning."""
    with model.stream(PROMPT, max_tokens=300, ignore_eos=True) as stream:
        next(iter(stream))
        assert _cached(model, [*PROMPT[:90], 5, 6]) >= 64


def test_scoring_takes_nothing_from_conversations(model):
    _cached(model, PROMPT)
    model.logprobs(PROMPT)
    assert _cached(model, PROMPT) == 99


@pytest.mark.parametrize("stays", [True, False])
def test_requests_that_come_together_read_what_they_share_once(tiny_model_path, stays):
    shared = [i % 200 + 20 for i in range(7 * 300) if i % 7 == 0]
    prompts = [[*shared, 5 + i, 6, 7] for i in range(3)]
    settings = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
    with Model(tiny_model_path, threads=1, max_sequences=3, batch=16) as model:
        alone = [model.generate(prompt, **settings).token_ids for prompt in prompts]
    with Model(tiny_model_path, threads=1, max_sequences=3, batch=16) as model:
        streams = [model.stream(prompt, **settings) for prompt in prompts]
        if not stays:  # then another one reads on
            streams[0].cancel()
        done = [stream.result() for stream in streams]
    read = [one.usage.prompt_tokens - one.usage.cached_tokens for one in done[not stays :]]
    assert [one.token_ids for one in done[not stays :]] == alone[not stays :]
    # One of them reads all; the others wait until what remains is too little to wait for.
    assert sorted(read)[-2] <= 64 + 3 + 16
    assert sum(read) < 1.6 * len(prompts[0])
