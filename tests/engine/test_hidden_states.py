"""The states behind the last norm, for whoever asks for them: the same in chunks of any size."""

from typing import Any

import numpy as np
import pytest

from pyqwen import Model
from pyqwen.engine.request import Scoring
from pyqwen.engine.stream import Waiter

IDS = [int(i) for i in np.random.default_rng(5).integers(0, 300, 40)]


@pytest.mark.parametrize("batch", [4, 256])
def test_hidden_states(tiny_model_path: Any, batch: int) -> None:
    with Model(tiny_model_path, batch=batch, max_sequences=2) as model:
        hidden = np.full((len(IDS), model.config.hidden), np.nan, np.float32)
        waiter = Waiter(model._engine)
        result = waiter.last_event(Scoring(IDS, waiter.deliver, hidden=hidden))
        assert result is hidden
        session = model._engine._session
        session.eval(IDS, [0] * len(IDS), [1] * len(IDS)) if batch == 256 else None
        expected = np.empty_like(hidden)
        if batch == 256:
            session.hidden(0, len(IDS), expected)
            np.testing.assert_array_equal(hidden, expected)
    assert np.isfinite(hidden).all()
