"""Sessions that are read with an adapter: as any other request with it, and in no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqwen import Model

IDS = list(range(40, 90))


def test_a_session_with_an_adapter(
    tiny_model_path: Path, adapter_paths: dict[str, Path], tmp_path: Path
) -> None:
    with Model(tiny_model_path, context=256, adapters=adapter_paths, threads=1) as model:
        expected = model.logits(IDS, adapter={"all": 0.5})[-1]
        with model.session(adapter={"all": 0.5}) as session, model.session() as plain:
            assert plain.sync(IDS) == len(IDS)
            assert session.sync(IDS) == len(IDS)
            assert (session.logits == expected).all()
            assert (plain.logits == model.logits(IDS)[-1]).all()
            session.rewind(30)
            session.eval(IDS[30:])
            assert (session.logits == expected).all()
            with pytest.raises(ValueError, match="adapter"):
                session.save(tmp_path / "a.session")
        with pytest.raises(ValueError, match="there is no adapter 'b'"):
            model.session(adapter="b")
        with pytest.raises(ValueError, match="session's file"):
            model.chat("Hello!", adapter="all", session=tmp_path / "b.session")
        assert not list(tmp_path.iterdir())
