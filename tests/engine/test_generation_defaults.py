"""Defaults come from the file, else from the publisher's configuration for that very size."""

import pytest

from pyqwen import Model, inspect
from pyqwen.loading.generation_defaults import read_defaults
from pyqwen.sampling import NEUTRAL

# (hidden size, layers) and repetition_penalty of generation_config.json in the official repositories
OFFICIAL = [
    ("Qwen2.5 0.5B Instruct", 896, 24, 1.1),
    ("qwen2.5-1.5b-instruct", 1536, 28, 1.1),
    ("qwen2.5-3b-instruct", 2048, 36, 1.05),
    ("Qwen2.5 7B Instruct", 3584, 28, 1.05),
    ("Qwen2.5-Coder-7B-Instruct", 3584, 28, 1.1),
    ("Qwen2.5 Coder 1.5B Instruct GGUF", 1536, 28, 1.1),
    ("Qwen2.5 Coder 32B Instruct", 5120, 64, 1.05),
    ("Qwen2.5-72B-Instruct", 8192, 80, 1.05),
]


def _read(name, hidden=2048, layers=36, architecture="qwen2", **keys):
    metadata = {"general.architecture": architecture, "general.name": name, **keys}
    return read_defaults(metadata, hidden=hidden, layers=layers, source="model.gguf")


@pytest.mark.parametrize(("name", "hidden", "layers", "penalty"), OFFICIAL)
def test_instruct_models(name, hidden, layers, penalty):
    defaults = _read(name, hidden, layers)
    params = defaults.params
    assert (params.temperature, params.top_p, params.top_k) == (0.7, 0.8, 20)
    assert params.repetition_penalty == penalty
    assert "instruct" in defaults.origin


def test_base_models_are_greedy():
    assert _read("Qwen2.5-3B").params == NEUTRAL.replace(temperature=0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Qwen3 0.6B", (0.6, 0.95, 20)),
        ("Qwen3-32B", (0.6, 0.95, 20)),
        ("Qwen3-4B-Thinking-2507", (0.6, 0.95, 20)),
        ("Qwen3-4B-Instruct-2507", (0.7, 0.8, 20)),
        ("Qwen3-8B-Base", (0.0, NEUTRAL.top_p, NEUTRAL.top_k)),
        ("Qwen3-Embedding-0.6B", (NEUTRAL.temperature, NEUTRAL.top_p, NEUTRAL.top_k)),
        ("Qwen3.5-4B", (NEUTRAL.temperature, NEUTRAL.top_p, NEUTRAL.top_k)),
    ],
)
def test_qwen3(name, settings):
    params = _read(name, architecture="qwen3").params
    assert (params.temperature, params.top_p, params.top_k) == settings
    assert params.repetition_penalty == NEUTRAL.repetition_penalty


@pytest.mark.parametrize(
    "name", ["DeepSeek R1 Distill Qwen 1.5B", "Qwen2.5-Math-1.5B-Instruct", "tiny", "QwQ 32B"]
)
def test_other_models_keep_their_own_distribution(name):
    assert _read(name).params == NEUTRAL


def test_the_name_alone_is_not_enough():
    metadata = {"general.architecture": "llama", "general.name": "Qwen2.5-3B-Instruct"}
    assert read_defaults(metadata, hidden=2048, layers=36).params == NEUTRAL


def test_the_files_own_keys_come_first():
    defaults = _read(
        "Qwen2.5-3B-Instruct",
        **{"general.sampling.temp": 0.25, "general.sampling.penalty_repeat": 1.0},
    )
    assert defaults.params.temperature == 0.25
    assert defaults.params.repetition_penalty == 1.0
    assert defaults.params.top_k == 20
    assert "general.sampling.temp" in defaults.origin
    assert "instruct" in defaults.origin


@pytest.mark.parametrize("value", [-1.0, float("nan"), "warm", [1]])
def test_a_recommendation_that_cannot_be_followed_is_ignored(value):
    keys = {"general.sampling.temp": value, "general.sampling.top_p": 0.5}
    defaults = _read("Qwen2.5-3B-Instruct", **keys)
    assert defaults.params.temperature == 0.7  # the family's
    assert defaults.params.top_p == 0.5
    assert defaults.origins["temperature"] == "family"
    assert defaults.origins["top_p"] == "file"
    (line,) = defaults.ignored
    assert "model.gguf: the key general.sampling.temp is ignored" in line


@pytest.mark.parametrize("value", [0, -1, -5])
def test_a_top_k_of_nothing_is_off(value):
    defaults = _read("Qwen2.5-3B-Instruct", **{"general.sampling.top_k": value})
    assert defaults.params.top_k == 0
    assert defaults.ignored == []


def test_an_ignored_recommendation_does_not_keep_a_model_from_answering(make_tiny_model, caplog):
    path = make_tiny_model(metadata={"general.sampling.temp": -3.0})
    with Model(path) as model:
        assert model.generate([1, 2, 3], max_tokens=2, temperature=0).finish_reason == "length"
        assert model.default_origins == {}
    assert "general.sampling.temp is ignored" in caplog.text
    assert any("general.sampling.temp" in problem for problem in inspect(path).problems)


def test_a_model_uses_its_defaults(tiny_model_path):
    with Model(tiny_model_path) as model:
        assert model.defaults == NEUTRAL


def test_smollm2_has_the_settings_of_its_model_card():
    metadata = {"general.architecture": "llama", "general.name": "Smollm2 135M 8k Lc100K Mix1 Ep2"}
    sizes = {"hidden": 576, "layers": 30}
    assert read_defaults(metadata, **sizes).params == NEUTRAL
    chat = read_defaults(metadata | {"tokenizer.chat_template": "{{ messages }}"}, **sizes)
    assert (chat.params.temperature, chat.params.top_p) == (0.2, 0.9)
    other = metadata | {"general.name": "TinyLlama", "tokenizer.chat_template": "{{ messages }}"}
    assert read_defaults(other, **sizes).params == NEUTRAL
