"""Some of the kills, at fixed moments; and what would be a difference."""

import json

import pytest
from campaign.contents import contents
from campaign.kills import VERDICTS, Work, kill_once, works


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "moment"), [("training with SOAP", 1.5), ("data of your own files", 0.3)]
)
def test_killed_and_started_again(kind, moment, small_data, tmp_path):
    work = next(work for work in works(small_data, tmp_path) if work.kind == kind)
    assert work.finish(tmp_path / "0_whole")
    whole = contents(tmp_path / "0_whole")
    assert whole and kill_once(work, moment, tmp_path / "0_killed", whole) == VERDICTS[0]


@pytest.mark.slow
def test_what_is_not_the_same_end(tmp_path):
    code = "import sys; open(sys.argv[1], 'a').write('1')"
    (tmp_path / "appends.py").write_text(code)
    work = Work("", 1, [str(tmp_path / "appends.py"), "{out}/x.json"])
    (tmp_path / "1_a").mkdir()
    (tmp_path / "1_a/x.json").write_text("1")
    whole = contents(tmp_path / "1_a")
    assert work.finish(tmp_path / "1_a")
    assert kill_once(work, 0, tmp_path / "1_a", whole) == "another end: x.json"


def test_contents(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"value": [1, 2], "seconds": 3.5}))
    (tmp_path / ".b.json").write_text("{")
    (tmp_path / "log.txt").write_text("half a li")
    found = contents(tmp_path)
    assert list(found) == ["a.json"]
    (tmp_path / "a.json").write_text(json.dumps({"value": [1, 2], "seconds": 4.5}))
    assert contents(tmp_path) == found
    (tmp_path / "a.json").write_text(json.dumps({"value": [1, 3], "seconds": 3.5}))
    assert contents(tmp_path) != found
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ValueError, match=r"c\.json cannot be read"):
        contents(tmp_path)
