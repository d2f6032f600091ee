"""ASE calculators in processes of their own: the same answers, in order, and clear refusals."""

import os

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.emt import EMT

from ocp_physmol.calculators.pool import CalculatorPool, Refusal, Source, Worker
from ocp_physmol.errors import UserError

EMT_SOURCE = Source.named("ase.calculators.emt:EMT")


def structure(atoms, rattle=0.0, seed=0):
    shift = np.random.default_rng(seed).normal(scale=rattle, size=(len(atoms), 3))
    given = {"numbers": atoms.numbers, "positions": atoms.positions + shift}
    return given | ({"cell": atoms.cell.array, "pbc": atoms.pbc} if atoms.pbc.any() else {})


def structures(count=20):
    kinds = [molecule("CH3CH2OH"), fcc111("Cu", (2, 2, 2), vacuum=6.0), molecule("H2O")]
    return [structure(kinds[k % 3], 0.05, k) for k in range(count)]


def directly(given):
    atoms = Atoms(**given)
    atoms.calc = EMT()
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.fixture(scope="module")
def pool():
    with CalculatorPool(EMT_SOURCE, processes=2) as pool:
        yield pool


def test_answers_are_those_of_the_calculator_in_their_order(pool):
    given = structures()
    for one, (energy, forces) in zip(given, pool.evaluate(iter(given)), strict=True):
        expected = directly(one)
        assert energy == pytest.approx(expected[0], abs=1e-12)
        np.testing.assert_allclose(forces, expected[1], atol=1e-12)


def test_what_is_refused_has_a_reason_and_the_others_their_answers(pool):
    odd = structure(molecule("SiH4"))
    given = [*structures(3), odd, *structures(3)]
    answers = list(pool.evaluate(given))
    assert isinstance(answers[3], Refusal) and "Si" in answers[3]
    assert not any(isinstance(a, Refusal) for a in answers[:3] + answers[4:])


def test_nothing_is_left_over_from_who_stopped_early(pool):
    answers = pool.evaluate(structures())
    next(answers)
    answers.close()
    ((energy, _),) = pool.evaluate(structures(1))
    assert energy == pytest.approx(directly(structures(1)[0])[0])


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_leaves_no_answer_for_another_structure(processes, monkeypatch):
    receive = Worker.receive

    def interrupted(self):
        monkeypatch.setattr(Worker, "receive", receive)
        raise KeyboardInterrupt

    water = structure(molecule("H2O"))
    with CalculatorPool(EMT_SOURCE, processes) as pool:
        assert len(list(pool.evaluate(structures(2)))) == 2
        monkeypatch.setattr(Worker, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(pool.evaluate([structure(molecule("CH4"))]))
        (answer,) = pool.evaluate([water])
    assert answer[0] == pytest.approx(directly(water)[0])


def test_a_pool_whose_process_died_starts_anew():
    water = structure(molecule("H2O"))
    with CalculatorPool(EMT_SOURCE, 1) as pool:
        list(pool.evaluate([water]))
        pool._workers[0].process.kill()
        with pytest.raises(UserError, match="has ended with status -9"):
            list(pool.evaluate([structure(molecule("CH4"))]))
        assert len(list(pool.evaluate([water]))) == 1


def test_no_more_processes_start_than_there_is_work_for():
    with CalculatorPool(EMT_SOURCE, 3) as pool:
        assert list(pool.evaluate([])) == [] and len(pool._workers) == 0
        list(pool.evaluate(structures(1)))
        assert len(pool._workers) == 1
        found = list(pool.evaluate(structures(8)))
        assert len(pool._workers) == 3
        for one, given in zip(found, structures(8)):
            assert one[0] == pytest.approx(directly(given)[0], abs=1e-12)


def test_modules_of_the_user_are_found_and_files_do_not_meet(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from ase.calculators.emt import EMT\n"
        "class Writing(EMT):\n"
        "    def calculate(self, *arguments, **options):\n"
        "        path = Path('input.txt')\n"
        "        assert not path.exists(), 'somebody else is here'\n"
        "        path.touch()\n"
        "        super().calculate(*arguments, **options)\n"
        "        path.unlink()\n"
    )
    monkeypatch.chdir(tmp_path)
    with CalculatorPool(Source.named("mine:Writing"), 2) as pool:
        answers = list(pool.evaluate(structures(12)))
    assert not any(isinstance(answer, Refusal) for answer in answers)
    assert [path.name for path in tmp_path.glob("*.txt")] == []


def test_files_of_the_user_stand_in_nobodys_way(tmp_path, monkeypatch):
    for name in ("random", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with CalculatorPool(EMT_SOURCE, 1) as pool:
        assert len(list(pool.evaluate(structures(1)))) == 1


def test_a_forked_process_starts_its_own(pool):
    water = structure(molecule("H2O"))
    (before,) = pool.evaluate([water])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        found = list(pool.evaluate([structure(molecule("CH4")), water]))
        os.write(writer, f"{found[1][0]}".encode())
        pool.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert float(os.read(reader, 100)) == pytest.approx(before[0])
    assert all(os.path.isdir(worker.folder.name) for worker in pool._workers)
    (after,) = pool.evaluate([structure(molecule("NH3"))])
    assert after[0] == pytest.approx(directly(structure(molecule("NH3")))[0])


def test_what_does_not_move_is_not_computed_again(monkeypatch):
    sent = []
    send = Worker.send
    monkeypatch.setattr(Worker, "send", lambda self, given: sent.append(given) or send(self, given))
    given = structures(6)
    with CalculatorPool(EMT_SOURCE, processes=2) as pool:
        first = list(pool.evaluate(given))
        moved = [*given[:2], structure(molecule("CH4")), *given[3:]]
        second = list(pool.evaluate(moved))
        assert len(sent) == 7 and sent[-1] is moved[2]
        for k, (one, other) in enumerate(zip(first, second)):
            assert (one[0] == other[0]) == (k != 2)
        assert len(list(pool.evaluate(given))) == 6 and len(sent) == 8  # of the call before only


@pytest.mark.parametrize("name", ["gfn9", "ase:", ":EMT", "ase.calculators.emt:EMT()"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="give one of gfn2, mmff94, ani1x, or MODULE:NAME"):
        Source.named(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("nowhere:EMT"), "No module named 'nowhere'.*install its package"),
        (Source("ase.nothing:EMT", needs="x==1"), "pip install x==1"),
        (Source("ase.calculators.emt:Nothing"), "has no attribute 'Nothing'"),
        (Source("broken:Calculator"), "RuntimeError: it does not work; ImportError: the root"),
        (Source("os:abort"), "the process of os:abort has ended with status -6"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_the_cure(source, message, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(
        "try:\n"
        "    raise ImportError('the root')\n"
        "except ImportError as e:\n"
        "    raise RuntimeError('it does not work') from e\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        list(CalculatorPool(source, 1).evaluate(structures(1)))


def test_gfn2_is_conservative():
    given = structure(molecule("CH3CH2OH"), 0.05)
    moved = []
    for sign in (1, -1):
        shifted = given["positions"].copy()
        shifted[2, 1] += sign * 1e-3
        moved.append({**given, "positions": shifted})
    with CalculatorPool(Source.named("gfn2"), 1) as pool:
        (_, forces), (above, _), (below, _) = pool.evaluate([given, *moved])
    assert forces[2, 1] == pytest.approx((below - above) / 2e-3, abs=1e-3)
