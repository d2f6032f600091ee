"""Ranks share a data set so that each entry is evaluated once."""

import pytest

from ocp_physmol.errors import UserError
from ocp_physmol.training import sharded_evaluation as shared_evaluation


@pytest.fixture
def batches_of(monkeypatch):
    def share(size, batch_size, rank, ranks):
        monkeypatch.setattr(shared_evaluation.distutils, "get_rank", lambda: rank)
        monkeypatch.setattr(shared_evaluation.distutils, "get_world_size", lambda: ranks)
        return [list(batch) for batch in shared_evaluation.evaluation_batches(size, batch_size)]

    return share


@pytest.mark.parametrize("size", [5, 8, 11, 40])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_entry_once_and_no_rank_idle(size, ranks, batch_size, batches_of):
    shares = [batches_of(size, batch_size, rank, ranks) for rank in range(ranks)]
    assert all(shares)
    batches = [batch for share in shares for batch in share]
    assert sorted(index for batch in batches for index in batch) == list(range(size))
    assert max(map(len, batches)) <= batch_size


def test_batches_are_those_of_one_rank(batches_of):
    alone = batches_of(11, 2, 0, 1)
    assert sorted(batches_of(11, 2, 0, 2) + batches_of(11, 2, 1, 2)) == alone


def test_more_ranks_than_entries(batches_of):
    with pytest.raises(UserError, match="2 structures cannot be shared by 3 ranks"):
        batches_of(2, 1, 0, 3)
