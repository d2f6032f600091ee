"""Whole systems are dealt to splits by their number of frames."""

import numpy as np
import pytest

from ocp_physmol.datasets import splits


def test_splits_get_their_share():
    """Of frames, however many a system has; never none."""
    rng = np.random.default_rng(0)
    fractions = {"train": 0.8, "val": 0.1, "test": 0.1}
    for systems in (3, 5, 200):
        sizes = rng.integers(1, 50, systems)
        sids = [system for system, size in enumerate(sizes) for _ in range(size)]
        parts = splits.deal(sids, fractions, seed=1)
        assert all(parts.values())
        assert sorted(k for part in parts.values() for k in part) == list(range(len(sids)))
    for split, share in fractions.items():
        assert len(parts[split]) == pytest.approx(share * len(sids), abs=50)
