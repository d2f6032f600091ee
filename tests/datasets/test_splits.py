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


@pytest.mark.parametrize("sizes", [[900, 50, 50], [50] * 9 + [5000], [2000, 20, 20, 20, 20]])
def test_the_largest_system_is_trained_on(sizes):
    """Wherever chance would put it: else most frames would only validate."""
    sids = [system for system, size in enumerate(sizes) for _ in range(size)]
    for seed in range(20):
        parts = splits.deal(sids, {"train": 0.8, "val": 0.1, "test": 0.1}, seed)
        assert len(parts["train"]) >= max(sizes) and parts["val"] and parts["test"]
