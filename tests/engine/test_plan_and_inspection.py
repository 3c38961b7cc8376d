"""What plan and inspect say of a file, and that loading it agrees."""

import inspect
import json

import gguf
import pytest

import pyqwen
from pyqwen import Model, _native
from pyqwen.loading.gguf_file import GGUFFile


def test_plan_adds_up(tiny_model_path):
    plan = pyqwen.plan(tiny_model_path)
    parts = (plan.weights, plan.kv, plan.compute, plan.interpreter, plan.tokenizer)
    assert all(part > 0 for part in parts)
    assert plan.total == sum(parts)
    assert plan.constraints > 0  # beside the total
    assert plan.fits
    assert plan.context == plan.longest_context == 512
    assert json.loads(json.dumps(plan.to_dict()))["total"] == plan.total


def test_plan_knows_what_loading_takes(make_tiny_model):
    path = make_tiny_model(layers=4, hidden=256, ffn=512)
    plan = pyqwen.plan(path, context=300, max_sequences=1)
    with Model(path, context=300, max_sequences=1) as model:
        assert model.weight_bytes == pytest.approx(plan.weights, rel=1e-3)
        model.generate([1] * 299, max_tokens=1, ignore_eos=True)
        assert model.kv_bytes == plan.kv


def test_plan_and_model_have_the_same_arguments():
    of_model = inspect.signature(Model).parameters
    of_plan = inspect.signature(pyqwen.plan).parameters
    assert of_model.keys() - of_plan.keys() == {
        "load",
        "progress",
        "download_progress",
        "unload_after",
    }
    for name, parameter in of_plan.items():
        assert (parameter.default, parameter.kind) == (of_model[name].default, of_model[name].kind)


def test_requests_one_after_the_other_take_one_context(tiny_model_path):
    one = pyqwen.plan(tiny_model_path, max_sequences=1)
    default = pyqwen.plan(tiny_model_path)
    with Model(tiny_model_path) as model:
        assert default.max_sequences == model.max_sequences > 1
        assert default.kv == model.max_sequences * one.kv
        for first in range(2 * model.max_sequences):
            model.generate([first] * (model.context - 1), max_tokens=1, ignore_eos=True)
            assert 0.9 * one.kv <= model.kv_bytes <= one.kv


@pytest.mark.parametrize(
    ("kv_type", "factor"), [("f32", 2.0), ("q8_0", 0.56), (("q8_0", "q5_1"), 0.5), ("q4_0", 0.31)]
)
def test_plan_follows_the_cache(tiny_model_path, kv_type, factor):
    f16 = pyqwen.plan(tiny_model_path)
    other = pyqwen.plan(tiny_model_path, kv_type=kv_type)
    assert other.kv == pytest.approx(factor * f16.kv, rel=0.02)
    assert pyqwen.plan(tiny_model_path, max_sequences=1).kv == f16.kv // 4
    assert pyqwen.plan(tiny_model_path, context=256).kv == f16.kv // 2
    assert pyqwen.plan(tiny_model_path, exact=True).kv_type == "f32"


@pytest.mark.parametrize(
    "arguments",
    [
        {"context": 0},
        {"context": 10**6},
        {"context": 10**11},
        {"max_sequences": 0},
        {"max_sequences": 10**12},
        {"threads": 10**12},
        {"kv_type": "f8"},
        {"kv_type": ("q8_0", "f8")},
        {"kv_type": ("q8_0", "auto")},
    ],
)
def test_plan_refuses_what_model_refuses(tiny_model_path, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        pyqwen.plan(tiny_model_path, **arguments)


@pytest.mark.parametrize("name", ["context", "threads", "batch"])
@pytest.mark.parametrize("value", [-1, 2**32])
def test_the_border_to_the_core_names_what_c_cannot_count(tiny_model_path, name, value):
    with (
        GGUFFile(tiny_model_path) as file,
        pytest.raises(ValueError, match=f"{name} must be below"),
    ):
        _native.plan(file.handle, **{name: value})


def test_inspect(tiny_model_path):
    facts = pyqwen.inspect(tiny_model_path)
    assert facts.name == "tiny"
    assert facts.gguf_version == 3
    assert facts.file_bytes == tiny_model_path.stat().st_size
    reader = gguf.GGUFReader(tiny_model_path)
    assert facts.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert set(facts.types) == {"Q8_0", "F32"}
    assert sum(share.tensors for share in facts.types.values()) == len(reader.tensors)
    assert 8.5 < facts.bits_per_weight < 9.5
    assert (facts.config.layers, facts.config.tied) == (2, True)
    assert facts.tokenizer.tokens + facts.tokenizer.padding == facts.config.vocab_rows
    assert facts.tokenizer.eos_id in facts.tokenizer.end_ids
    assert "<|im_start|>" in facts.chat_template
    assert facts.defaults.params.temperature == 1
    assert facts.problems == []
    assert facts.metadata["general.architecture"] == "qwen2"
    assert "values" in facts.metadata["tokenizer.ggml.tokens"]
    assert json.loads(json.dumps(facts.to_dict()))["name"] == "tiny"


def test_inspect_lists_problems_instead_of_failing(tmp_path):
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(str(path), "mamba")
    writer.add_name("odd")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    facts = pyqwen.inspect(path)
    assert facts.name == "odd"
    assert facts.config is None
    assert facts.tokenizer is None
    assert any("mamba" in problem for problem in facts.problems)


def test_inspect_of_garbage_is_an_error(tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"not a model at all, only text")
    with pytest.raises(pyqwen.ModelFormatError):
        pyqwen.inspect(path)


@pytest.mark.parametrize(
    "key", ["general.license", "general.license.link", "general.basename", "general.finetune"]
)
def test_keys_of_a_wrong_type_do_not_end_an_inspection(make_tiny_model, key):
    found = pyqwen.inspect(make_tiny_model(metadata={key: [1, 2]}))
    if "license" in key:
        assert f"the key {key} holds list, not a text" in found.problems
    assert json.dumps(found.to_dict())


def test_drafts_are_in_the_plan(tiny_model_path, make_tiny_model):
    from pyqwen.engine.ngrams import MOST_INDEXED
    from pyqwen.loading.memory_plan import MOST_LOOKED_UP

    assert MOST_LOOKED_UP == MOST_INDEXED
    none = pyqwen.plan(tiny_model_path)
    looked_up = pyqwen.plan(tiny_model_path, draft="ngram")
    assert 0 < looked_up.total - none.total == looked_up.compute - none.compute < 2**20
    assert none.draft == looked_up.draft == 0
    draft = make_tiny_model(seed=1)
    by_model = pyqwen.plan(tiny_model_path, draft=draft)
    assert by_model.draft > pyqwen.plan(draft).weights
    assert by_model.total == looked_up.total + by_model.draft
    with pyqwen.Model(tiny_model_path, draft=draft) as model:
        session = model._engine._speculator.model._session
        assert session.context * session.sequences <= pyqwen.plan(draft).kv
