"""What tests of stages share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from forked import CONTEXT

from vsrprune.stages.training import ranks


@pytest.fixture
def quick_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other ranks of a training are forked with torch imported; by themselves they start from nothing."""
    monkeypatch.setattr(ranks, "multiprocessing", SimpleNamespace(get_context=lambda kind: CONTEXT))
