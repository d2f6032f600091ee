"""Tables of records with known numbers."""

from handmade import record

from ocp_physmol.experiments.tables import ASSEMBLED, DELTA_P, RATIO, TABLE1, plain, table

ENERGY = TABLE1["energy_mae_mev"]
INF = float("inf")


def marked(records, column) -> list[str]:
    """Names of the rows whose value is marked as the best."""
    best = table(records, [column]).best[column.label]
    return best[best].index.tolist()


def test_the_best_are_marked_as_shown():
    records = [record("a", energy=50.04), record("b", energy=49.96), record("c", energy=50.2)]
    assert marked(records, ENERGY) == ["a", "b"]  # both read 50.0
    assert marked(records, RATIO) == []  # neither is better
    records[1]["assembly"]["success_fraction"] = 0.5
    assert marked(records, ASSEMBLED) == ["b"]  # more is better


def test_what_is_not_finite_or_missing_is_never_best():
    records = [record("a", delta_p=INF), record("b", delta_p=0.3), record("c", delta_p=0.2)]
    records.append(record("d", errors={}))
    del records[3]["recovery"]["0.1"]
    assert marked(records, DELTA_P) == ["c"]
    texts = table(records, [DELTA_P]).texts[DELTA_P.label]
    assert texts.tolist() == ["∞", "0.300", "0.200", "–", "0.150"]
    assert table(records, [ENERGY]).texts.loc["d", ENERGY.label] == "–"


def test_one_model_has_no_rival():
    assert marked([record("a")], ENERGY) == []


def test_doing_nothing_stands_below():
    content = table([record("a"), record("b")], [ENERGY, DELTA_P])
    assert content.texts.loc["do nothing"].tolist() == ["", "0.150"]
    assert content.texts.index.tolist() == ["a", "b", "do nothing"]
    assert table([record("a")], [ENERGY]).texts.index.tolist() == ["a"]


def test_a_terminal_has_numbers_for_labels():
    lines = plain(table([record("some model", energy=7.0)], [ENERGY, DELTA_P])).split("\n")
    assert lines[0].split() == ["(1)", "(2)"] and lines[1].split()[-2:] == ["7.0", "0.200"]
    assert lines[-2] == "(1) energy MAE (meV)"
    assert len(set(map(len, lines[:3]))) == 1
