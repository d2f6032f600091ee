"""Some of the limits."""

import pytest
from campaign.contents import contents
from campaign.kills import works
from campaign.limits import LIMITS, can_mount, meet

BY_NAME = {limit.name: limit for limit in LIMITS}


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    """A training, and what it holds at its end without a limit."""
    folder = tmp_path_factory.mktemp("whole")
    work = works(small_data, folder)[0]
    assert work.finish(folder / "0_whole")
    return work, contents(folder / "0_whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("the disk fills up", "checkpoint.pt cannot be written (at least"),
        ("24 open files", "error: too many open files; allow more open files (ulimit -n)"),
        ("SIGINT twice", "error: interrupted"),
    ],
)
def test_a_training(name, said, whole, tmp_path):
    if BY_NAME[name].disk and not can_mount(tmp_path):
        pytest.skip("only root can mount a small disk")
    row = meet(BY_NAME[name], whole[0], tmp_path / "0_limit", whole[1])
    assert not row.wrong and said in row.said
