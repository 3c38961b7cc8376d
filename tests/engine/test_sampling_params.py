"""Settings are checked when they are made, and merge with a model's defaults."""

import copy
import dataclasses
import json
import math
import operator
import pickle

import numpy as np
import pytest

from pyqwen import SamplingParams
from pyqwen.sampling import NEUTRAL

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [0, 1, 10**9]),
        ("temperature", [0, 0.0, 1, 1e9, np.float32(0.5)]),
        ("top_k", [-1, 0, 1, 2**31 - 1, np.int64(5)]),
        ("top_p", [0, 0.5, 1]),
        ("min_p", [0, 1.0]),
        ("typical_p", [1e-6, 1]),
        ("repetition_penalty", [1e-3, 1, 100]),
        ("presence_penalty", [-2, 0, 2.5]),
        ("frequency_penalty", [-2, 0, 2.5]),
        ("dry_multiplier", [0, 0.8, 3e38]),
        ("dry_base", [1, 1.75]),
        ("dry_allowed_length", [1, 2**31 - 1]),
        ("dry_breakers", [[], "x", ["x", "\n"], ["x" * 1000]]),
        ("xtc_probability", [0, 1]),
        ("xtc_threshold", [0, 0.1, 1]),
        ("top_n_sigma", [-1, 0, 1.5]),
        ("samplers", [[], ["xtc"], ["temperature", "dry"], "top_k;temperature"]),
        ("logit_bias", [{}, {0: 1}, {np.int32(7): -INF}]),
        ("seed", [0, 2**64 - 1]),
        ("stop", ["x", ["x", "yy"], ("x",), []]),
        ("stop_token_ids", [[], [0, 2**31 - 1]]),
        ("ignore_eos", [True, False]),
        ("logprobs", [True, False]),
        ("top_logprobs", [0, 20]),
    ],
)
def test_valid_values(name, values):
    for value in values:
        SamplingParams(**{name: value})
    SamplingParams(**{name: None})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [-1]),
        ("temperature", [NAN, INF, -1, -INF, 1e39]),
        ("top_k", [-5, -2, 2**31]),
        ("top_p", [-1, 2, NAN, 1.0001]),
        ("min_p", [-0.1, 1.1, NAN]),
        ("typical_p", [0, 1.1, NAN]),
        ("repetition_penalty", [0, -1, NAN, INF]),
        ("presence_penalty", [NAN, INF]),
        ("frequency_penalty", [NAN, -INF]),
        ("dry_multiplier", [-0.1, NAN, INF]),
        ("dry_base", [0.9, NAN]),
        ("dry_allowed_length", [0, -1, 2**31]),
        ("dry_breakers", ["", ["a", ""], ["x" * 1001], ["ä" * 501]]),
        ("xtc_probability", [-0.1, 1.1, NAN]),
        ("xtc_threshold", [-0.1, 1.1, NAN]),
        ("top_n_sigma", [-2, -0.5, NAN, INF]),
        ("samplers", [["top_q"], ["dry", "dry"], "top_k;;temperature", [""]]),
        ("logit_bias", [{-1: 0}, {2**31: 0}, {0: NAN}, {0: INF}]),
        ("seed", [-1, 2**64]),
        ("stop", ["", ["a", ""]]),
        ("stop_token_ids", [[-1], [2**31]]),
        ("top_logprobs", [-1, 21]),
    ],
)
def test_invalid_values(name, values):
    for value in values:
        with pytest.raises(ValueError, match=name):
            SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", ["5", 5.0, True]),
        ("temperature", ["hot", True, [1]]),
        ("top_k", [2.5]),
        ("logit_bias", [[1, 2], {"a": 1}, {1.5: 1}, {1: "abc"}, {1: "5"}, {1: None}, {1: True}]),
        ("dry_breakers", [5, [5], b"x"]),
        ("samplers", [5, [5], {"dry"}]),
        ("dry_allowed_length", [2.0]),
        ("seed", [1.0]),
        ("stop", [5, [5], b"x"]),
        ("stop_token_ids", [["a"], [1.5]]),
        ("ignore_eos", [1, "yes"]),
        ("logprobs", [5]),
    ],
)
def test_wrong_types(name, values):
    for value in values:
        with pytest.raises(TypeError, match=name):
            SamplingParams(**{name: value})


def test_settings_cannot_change():
    bias = {1: 2.0}
    params = SamplingParams(temperature=1, logit_bias=bias, stop=["a"])
    with pytest.raises(AttributeError):
        params.temperature = 2
    bias[1] = 5.0
    assert params.logit_bias == {1: 2.0}
    for change in (
        lambda: operator.setitem(params.logit_bias, 1, 5.0),
        lambda: operator.delitem(params.logit_bias, 1),
        lambda: operator.ior(params.logit_bias, {3: 5.0}),
        lambda: params.logit_bias.update({3: 5.0}),
        lambda: params.logit_bias.setdefault(3, 5.0),
        lambda: params.logit_bias.pop(1),
        lambda: params.logit_bias.popitem(),
        lambda: params.logit_bias.clear(),
    ):
        with pytest.raises(TypeError, match="cannot change"):
            change()
    assert params.logit_bias == {1: 2.0}
    assert hash(params) == hash(SamplingParams(temperature=1, logit_bias={1: 2.0}, stop="a"))
    assert pickle.loads(pickle.dumps(params)) == params == copy.deepcopy(params)
    assert json.loads(json.dumps(dataclasses.asdict(params)))["logit_bias"] == {"1": 2.0}


def test_replace_and_over():
    params = SamplingParams(temperature=0.5, top_k=5)
    assert params.replace(top_k=None, seed=3) == SamplingParams(temperature=0.5, seed=3)
    with pytest.raises(TypeError, match="top_q"):
        params.replace(top_q=1)
    with pytest.raises(ValueError, match="top_p"):
        params.replace(top_p=2)
    merged = params.over(NEUTRAL)
    assert (merged.temperature, merged.top_k, merged.top_p) == (0.5, 5, 1.0)
    assert merged.seed is None
