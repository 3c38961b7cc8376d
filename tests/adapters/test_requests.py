"""Requests with adapters: each as if it were alone, whoever runs beside it, and nothing of one in another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model, SamplingParams, _native, plan
from pyqwen.errors import ModelChangedError

PARAMS = SamplingParams(max_tokens=6, temperature=0.8, seed=7, ignore_eos=True)
CHOICES: list[Any] = [
    None,
    "all",
    "few",
    {"wide": 1.0},
    {"all": 0.5, "few": -1.0},
    {"feed": 2.0, "wide": 0.25},
    "feed",
    {"all": 1.0, "few": 1.0, "wide": 1.0, "feed": 1.0},
]
PROMPT = "The quick brown fox jumps over the lazy dog. She sells "


def isas() -> list[str]:
    return [name for name, available in _native.isas().items() if available]


@pytest.fixture(scope="module")
def model(tiny_model_path: Path, adapter_paths: dict[str, Path]) -> Iterator[Model]:
    with Model(tiny_model_path, threads=2, context=256, adapters=adapter_paths) as model:
        yield model


def answers(model: Model, choices: list[Any]) -> list[list[int]]:
    """What a model writes with each, all of them at once."""
    done: list[list[int]] = [[] for _ in choices]

    def ask(i: int) -> None:
        done[i] = model.generate(PROMPT * (1 + i % 3), PARAMS, adapter=choices[i]).token_ids

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(choices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def alone(
    path: Path, paths: dict[str, Path], choices: list[Any], **options: Any
) -> list[list[int]]:
    """The same, each by a model of its own, which has read nothing before."""
    done = []
    for i, choice in enumerate(choices):
        names = [choice] if isinstance(choice, str) else list(choice or ())
        own = {name: paths[name] for name in names}
        with Model(path, context=256, adapters=own, max_sequences=1, **options) as model:
            done.append(model.generate(PROMPT * (1 + i % 3), PARAMS, adapter=choice).token_ids)
    return done


def test_sixteen_at_once_are_each_as_alone(
    tiny_model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    choices = CHOICES + CHOICES
    expected = alone(tiny_model_path, adapter_paths, choices, threads=1, isa="scalar")
    assert len({tuple(ids) for ids in expected[:8:3] + expected[1:8:3] + expected[2:8:3]}) == 8
    for isa in isas():
        for threads in (1, 2):
            with Model(
                tiny_model_path,
                context=256,
                adapters=adapter_paths,
                max_sequences=16,
                threads=threads,
                isa=isa,
            ) as model:
                assert answers(model, choices) == expected


def test_a_prompt_in_pieces(tiny_model_path: Path, adapter_paths: dict[str, Path]) -> None:
    ids = list(range(40, 140))
    found = set()
    for batch in (1, 7, 64):
        with Model(
            tiny_model_path, adapters=adapter_paths, batch=batch, max_sequences=1, threads=1
        ) as model:
            found.add(model.logits(ids, adapter={"all": 1, "few": 0.5}).tobytes())
    assert len(found) == 1


def test_what_was_read_with_one_is_not_taken_for_another(
    tiny_model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    with Model(tiny_model_path, context=256, adapters=adapter_paths, threads=1) as model:
        first = model.generate(PROMPT, PARAMS, adapter="all")
        again = model.generate(PROMPT, PARAMS, adapter="all")
        assert again.usage.cached_tokens > 10
        assert again.token_ids == first.token_ids
        same = model.generate(PROMPT, PARAMS, adapter={"all": 1, "few": 0})
        assert same.usage.cached_tokens > 10
        assert same.token_ids == first.token_ids
        for other in (None, "few", {"all": 0.5}, {"all": 1, "few": 1}):
            assert model.generate(PROMPT, PARAMS, adapter=other).usage.cached_tokens == 0


def test_several_answers_share_their_prompt(model: Model) -> None:
    several = model.generate_n(PROMPT, 3, PARAMS, adapter="wide")
    one = [
        model.generate(PROMPT, PARAMS.replace(seed=7 + i), adapter="wide").token_ids
        for i in range(3)
    ]
    assert [reply.token_ids for reply in several] == one


def test_drafts_change_nothing(
    tiny_model_path: Path, make_tiny_model: Any, adapter_paths: dict[str, Path]
) -> None:
    greedy = PARAMS.replace(temperature=0.0, max_tokens=40)
    found = []
    for draft in (None, "ngram", make_tiny_model(seed=1, layers=1)):
        with Model(
            tiny_model_path, context=256, adapters=adapter_paths, draft=draft, threads=1
        ) as model:
            found.append(model.generate(PROMPT, greedy, adapter="feed").token_ids)
    assert found[0] == found[1] == found[2]


def test_all_kinds_of_calls_take_them(model: Model) -> None:
    plain = model.chat("Hello!", params=PARAMS)
    adapted = model.chat("Hello!", params=PARAMS, adapter="all")
    assert plain.token_ids != adapted.token_ids
    with model.stream_chat("Hello!", params=PARAMS, adapter="all") as stream:
        assert "".join(chunk.text for chunk in stream) == adapted.text
    ids = [1, 2, 3, 4]
    assert (model.logprobs(ids, adapter="all") != model.logprobs(ids)).any()
    assert (model.logits(ids, adapter={"all": 0}) == model.logits(ids)).all()


def test_loaded_again_after_a_rest(tiny_model_path: Path, adapter_paths: dict[str, Path]) -> None:
    from time import sleep

    with Model(
        tiny_model_path, context=256, adapters=adapter_paths, unload_after=0.05, threads=1
    ) as model:
        first = model.generate(PROMPT, PARAMS, adapter="all")
        while model.loaded:
            sleep(0.01)
        assert model.generate(PROMPT, PARAMS, adapter="all").token_ids == first.token_ids


def test_changed_while_it_was_not_loaded(tiny_model_path: Path, tmp_path: Path) -> None:
    from time import sleep

    import peft_files as pf

    path = pf.write_adapter(tmp_path / "own", pf.factors(1))
    with Model(
        tiny_model_path, context=256, adapters={"own": path}, unload_after=0.05, threads=1
    ) as model:
        while model.loaded:
            sleep(0.01)
        pf.write_adapter(path, pf.factors(2, rank=4), pf.settings(4))
        with pytest.raises(ModelChangedError, match=r"adapter_config\.json was changed"):
            model.generate(PROMPT, PARAMS)


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ("none", ValueError, "there is all, feed, few, wide"),
        ({"all": "1"}, TypeError, "factor"),
        ({"all": True}, TypeError, "factor"),
        ({1: 1.0}, TypeError, "name"),
        ({"all": float("nan")}, ValueError, "factor"),
        ({"all": 10**400}, ValueError, "factor"),
        (["all"], TypeError, "dict"),
        ({f"a{i}": 1.0 for i in range(9)}, ValueError, "9 adapters"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(
    model: Model, wanted: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        model.generate(PROMPT, PARAMS, adapter=wanted)


def test_a_model_without_adapters(tiny_model_path: Path) -> None:
    with Model(tiny_model_path, threads=1) as model:
        assert dict(model.adapters) == {}
        with pytest.raises(ValueError, match="the model has none"):
            model.generate(PROMPT, PARAMS, adapter="all")


def test_the_plan_counts_them(
    tiny_model_path: Path, adapter_paths: dict[str, Path], make_tiny_model: Any
) -> None:
    plain = plan(tiny_model_path, threads=1)
    one = plan(tiny_model_path, threads=1, adapters={"all": adapter_paths["all"]})
    assert plain.adapters == 0
    assert plain.total == one.total - one.adapters
    numbers = 2 * 8 * sum(rows + columns for rows, columns in _shapes())
    assert (
        2 * numbers <= one.adapters < 2 * numbers * 1.6 + 100_000
    )  # float16, and room for a batch
    assert plan(tiny_model_path, threads=1, adapters=adapter_paths).adapters > one.adapters


def _shapes() -> list[tuple[int, int]]:
    import peft_files as pf

    return list(pf.shapes().values())
