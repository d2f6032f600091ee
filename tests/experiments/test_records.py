"""Records on their way to a file and back."""

import functools
import re

import numpy as np
import pytest
from handmade import record, write_all

from ocp_physmol.errors import UserError
from ocp_physmol.experiments.records import compact, read_record, read_records
from ocp_physmol.files import write_json


def test_what_is_written_is_read(tmp_path):
    content = record("a", delta_p=float("inf"))
    write_json(tmp_path / "table1/a.json", content)
    found = read_record(tmp_path / "table1/a.json")
    assert {**found, "recovery": content["recovery"]} == content
    for noise, outcome in found["recovery"].items():
        assert content["recovery"][noise].items() <= outcome.items()


def test_what_older_records_do_not_say_is_found_in_their_lists(tmp_path):
    write_json(tmp_path / "table1/a.json", record("a"))
    outcome = read_record(tmp_path / "table1/a.json")["recovery"]["0.1"]
    far = np.mean(np.array(outcome["displacements"]) > 0.2)
    assert outcome["far_fraction"] == far
    assert outcome["delta_p_low_a"] <= outcome["delta_p_high_a"]


def test_runs_are_in_the_order_of_their_file(tmp_path):
    write_all(tmp_path, record("a", place=2), record("b", place=1), record("c", experiment="other"))
    found = read_records(tmp_path)
    assert {n: [r["name"] for r in rs] for n, rs in found.items()} == {
        "table1": ["b", "a"], "other": ["c"]
    }  # fmt: skip


def test_four_digits_are_kept():
    value = {"a": np.array([[0.00012345678, 123456.0]]), 0.1: (True, np.float32(2 / 3), 123456)}
    assert compact(value) == {"a": [[0.0001235, 123500.0]], "0.1": [True, 0.6667, 123456]}
    assert compact(float("inf")) == float("inf")


@pytest.mark.parametrize("text, problem", [
    ('{"name": "a", "exp', " cannot be read"), ("[]", ": .* it must be a mapping"),
    ('{"name": "a"}', ": experiment is missing; it must be str;"),
])  # fmt: skip
def test_damaged_records_are_named_with_the_cure(text, problem, tmp_path):
    write_all(tmp_path, record("a"))
    path = tmp_path / "table1/a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}{problem}.*restore it with git"):
        read_records(tmp_path)


@pytest.mark.parametrize(("path", "value"), [
    (("name",), None), (("steps",), "many"), (("seconds", "budget"), []), (("errors",), 5),
    (("errors", "energy_mae_mev"), "text"), (("recovery", "0.1", "displacements"), [["x"]]),
    (("recovery", "0.1", "delta_p_a"), "0.1"), (("vibrations", "minimum", "bands"), [1]),
    (("pictures", "recovery"), [{"gdb": 1}]), (("config", "complete"), None),
    (("config",), {"complete": {}}), (("errors", "energy_mae_mev"), [1.0]),
])  # fmt: skip
def test_what_the_report_could_not_show_is_named(path, value, tmp_path):
    content = record("a")
    place = functools.reduce(dict.__getitem__, path[:-1], content)
    place[path[-1]] = value
    write_json(tmp_path / "table1/a.json", content)
    with pytest.raises(UserError, match=rf"a\.json: {re.escape('.'.join(path))}.*restore it with"):
        read_records(tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"--records .*nowhere does not exist; make records with"):
        read_records(tmp_path / "nowhere")
