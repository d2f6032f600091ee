"""What a run has come to: a trained model, or a calculator that is only judged."""

from itertools import islice
from pathlib import Path

from ocp_physmol.checkpoint import training_of
from ocp_physmol.experiments.launch import BEST, LAST
from ocp_physmol.relaxation.calculator import CalculatorPredictor
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

REFERENCES = 512  # training molecules, to which energies of elements are fitted for a calculator


def open_run(folder: Path, config: dict, data: Path) -> tuple[Predictor, dict]:
    """The model of a run with the complete `config`, and how long its training took.

    The best checkpoint in `folder` is opened; the last one knows the training: `seconds_used`,
    `steps`, and `parameters`, their number. All are 0 for a calculator.
    """
    calculator = config.get("calculator")
    if calculator is not None:
        opened = CalculatorPredictor(calculator)
        opened.fit_references(list(islice(open_labelled(data / "train"), REFERENCES)))
        return opened, {"seconds_used": 0, "steps": 0, "parameters": 0}
    predictor, training = Predictor.open(folder / BEST), training_of(folder / LAST)
    return predictor, {
        **training,
        "parameters": sum(p.numel() for p in predictor.model.parameters()),
    }
