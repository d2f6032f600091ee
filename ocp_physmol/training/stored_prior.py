"""What a training with a prior needs of its data and of its config."""

from ocp_physmol.errors import UserError
from ocp_physmol.losses.bound import Bound
from ocp_physmol.losses.restoring_force import RestoringForce


def require_stored_prior(trainer) -> None:
    """A UserError if the model of `trainer` has a prior that its training data do not hold, or
    outputs that are not in the prior's eV; or if it has none, and a loss asks for one."""
    name = trainer.config["model"].get("prior")
    if name is None:
        _refuse_prior_as_teacher(trainer)
        return
    entry = trainer.train_dataset[0]
    for key in (f"{name}_energy", f"{name}_forces", f"{name}_pos"):
        if key not in entry:
            raise UserError(
                f"model.prior {name} needs '{key}' in dataset.train.src; add it with "
                "ocp-physmol data curvature, or leave out the prior"
            )
    if "energy" not in trainer.elementrefs:
        raise UserError(
            f"model.prior {name} needs energies of the elements, for its own differ from the "
            "labels' by thousands of eV; add dataset.train.transforms.element_references"
        )
    for term_name, loss in trainer.terms.items():
        term = loss.loss_fn
        taught = isinstance(term, RestoringForce) and term.options.teacher != "springs"
        if isinstance(term, Bound | RestoringForce) and not taught:
            raise UserError(
                f"loss_functions.{term_name} evaluates copies of which the data hold no {name}; "
                "with model.prior, give restoring_force the teacher 'prior', and leave others out"
            )
    for output, normalizer in trainer.normalizers.items():
        if float(normalizer.rmsd) != 1:
            raise UserError(
                f"model.prior {name} is in eV: set stdev: 1 for {output} in "
                "dataset.train.transforms.normalizer, or leave out the normalizer"
            )


def _refuse_prior_as_teacher(trainer) -> None:
    for term_name, loss in trainer.terms.items():
        term = loss.loss_fn
        if isinstance(term, RestoringForce) and term.options.teacher == "prior":
            raise UserError(
                f"loss_functions.{term_name} has the teacher 'prior', and the model has no prior; "
                "set model.prior: gfn2, or another teacher"
            )
