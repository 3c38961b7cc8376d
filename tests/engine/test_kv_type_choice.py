"""kv_type="auto", and what a plan recommends: the file decides, and the memory that is free."""

import pytest

import pyqwen
from pyqwen import Model, _native
from pyqwen.cli.memory import describe_fit
from pyqwen.loading.residence import Residence
from pyqwen.loading.settings import resolve_settings

SMALLEST = ("q8_0", "q5_1")


def planned(path, **options):
    return pyqwen.plan(path, threads=1, **options)


@pytest.fixture
def free(monkeypatch):
    """``free(n)``: the machine has n bytes now."""
    machine = _native.machine()

    def set_free(available):
        monkeypatch.setattr(_native, "machine", lambda: {**machine, "available_bytes": available})

    return set_free


@pytest.fixture
def totals(tiny_model_path):
    types = ("f16", "q8_0", SMALLEST)
    return {name: planned(tiny_model_path, kv_type=name).total for name in types}


def test_auto_takes_the_best_that_fits(tiny_model_path, free, totals):
    for available, expected in [
        (totals["f16"], "f16"),
        (totals["f16"] - 1, "q8_0"),
        (totals["q8_0"], "q8_0"),
        (totals["q8_0"] - 1, SMALLEST),
        (0, SMALLEST),
    ]:
        free(available)
        assert planned(tiny_model_path, kv_type="auto").kv_type == expected
        with Model(tiny_model_path, kv_type="auto", threads=1) as model:
            assert model.kv_type == expected


def test_the_default_does_not_depend_on_free_memory(tiny_model_path, free):
    for available in (0, 2**60):
        free(available)
        assert planned(tiny_model_path).kv_type == "f16"


def test_later_loads_keep_the_choice(tiny_model_path, free):
    free(0)
    residence = Residence(tiny_model_path, resolve_settings(kv_type="auto", cache=False, threads=1))
    chosen = residence.first_load()[1].kv_format
    residence.unload()
    free(2**60)
    assert residence.load().kv_format == chosen
    residence.unload()


def test_the_plan_recommends(tiny_model_path, free, totals):
    free(totals["q8_0"])
    plan = planned(tiny_model_path)
    assert not plan.fits
    assert plan.kv_type_that_fits == "q8_0"
    assert "with --kv-type q8_0 this one does" in describe_fit(plan)
    free(totals[SMALLEST])
    plan = planned(tiny_model_path)
    assert plan.kv_type_that_fits == SMALLEST
    assert "with --kv-type q8_0,q5_1 this one does" in describe_fit(plan)
    for available in (totals["f16"], totals[SMALLEST] - 1):
        free(available)
        assert planned(tiny_model_path).kv_type_that_fits is None


def test_a_pair(tiny_model_path):
    with Model(tiny_model_path, kv_type=["q8_0", "q5_1"], threads=1) as model:
        assert model.kv_type == SMALLEST
        model.generate("Hello", max_tokens=4)
    with Model(tiny_model_path, kv_type=("q8_0", "q8_0"), threads=1) as model:
        assert model.kv_type == "q8_0"


@pytest.mark.parametrize("kv_type", [("f16",), ("f16", "f16", "f16"), 8, ("f16", 8), b"f16"])
def test_refuses_what_is_no_type(tiny_model_path, kv_type):
    with pytest.raises((TypeError, ValueError), match="kv_type"):
        Model(tiny_model_path, kv_type=kv_type)
