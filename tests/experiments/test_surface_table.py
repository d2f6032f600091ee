"""Records of trainings on surfaces, with known numbers, as a table."""

import json
import re

import pytest
from handmade import record

from ocp_physmol.errors import UserError
from ocp_physmol.experiments.records import read_record
from ocp_physmol.experiments.surface_table import on_surfaces, one_a_model, table_of
from ocp_physmol.experiments.tables import markdown
from ocp_physmol.files import write_json

PARTS = ["seen", "unseen 1", "unseen 2"]


def surface_record(model: str, part: str, force: float, seed: int = 0, end: float = 1.0) -> dict:
    """A record as `judge_surfaces` writes it; a force error, and an energy error at the end."""
    content = record(f"{model}, {part}", seed=seed, steps=10)
    for key in ("recovery", "vibrations", "assembly", "pictures", "sids"):
        del content[key]
    errors = {"energy_mae_ev": 0.5, "force_mae_ev_per_a": force, "force_cosine": 0.1}
    relaxations = {"adwt": 0.4, "do_nothing_adwt": 0.3, "energy_mae_ev": end,
                   "converged_fraction": 0.0}  # fmt: skip
    nothing = {**errors, "force_mae_ev_per_a": 0.09}
    more = {"errors": errors, "nothing": nothing, "relaxations": relaxations}
    return {**content, **more, "model": model, "part": part, "parts": PARTS}


def trained(model: str, folds: tuple[float, float], seed: int = 0, **more) -> list[dict]:
    errors = zip(PARTS, (0.01, *folds))
    return [surface_record(model, part, force, seed, **more) for part, force in errors]


def test_folds_are_averaged_and_seeds_have_a_median():
    records = trained("a", (0.1, 0.3)) + trained("a", (0.2, 0.8), 1) + trained("a", (3, 5), 2)
    (row,) = one_a_model(records)
    assert row["unseen"]["errors/force_mae_ev_per_a"] == pytest.approx(0.5)  # of 0.2, 0.5, 4
    assert row["seen"]["errors/force_mae_ev_per_a"] == pytest.approx(0.01)
    assert row["parameters"] == 5678 and row["seen"]["steps"] == 10


def test_a_model_without_all_folds_is_not_compared():
    texts = table_of(trained("a", (0.1, 0.2)) + trained("b", (0.1, 0.2))[:2]).texts
    label = "unseen: force MAE (eV/Å)"
    assert texts[label].tolist() == ["0.1500", "–", "0.0900"]
    assert texts["seen: force MAE (eV/Å)"].tolist() == ["0.0100", "0.0100", "0.0900"]
    assert texts.index.tolist() == ["a", "b", "do nothing"]


def test_one_that_explodes_is_infinitely_wrong():
    texts = table_of(trained("a", (0.1, float("nan")), end=float("inf"))).texts
    assert texts.loc["a", "unseen: energy MAE at the end (eV)"] == "∞"
    assert texts.loc["a", "unseen: force MAE (eV/Å)"] == "∞"


def test_the_best_is_bold_in_markdown():
    records = trained("a", (0.1, 0.2)) + trained("b", (0.2, 0.2))
    rows = [re.split(r"\s*\|\s*", line) for line in markdown(table_of(records)).splitlines()]
    column = rows[0].index("unseen: force MAE (eV/Å)")
    assert [row[column] for row in rows[2:]] == ["**0.1500**", "0.2000", "0.0900"]


def test_molecules_have_their_own_table():
    assert not on_surfaces([record("a")])
    assert "energy MAE (meV)" in table_of([record("a")]).texts


def test_records_are_complete(tmp_path):
    content = surface_record("a", "seen", 0.1)
    write_json(tmp_path / "a.json", content)
    assert read_record(tmp_path / "a.json") == json.loads(json.dumps(content))
    del content["relaxations"]
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UserError, match=r"relaxations is missing; .* restore it with git"):
        read_record(tmp_path / "a.json")
