"""The models that come with the package, trained on QM9."""

from pathlib import Path

from ocp_physmol.errors import UserError

FOLDER = Path(__file__).parents[1] / "weights"
SHIPPED: dict[str, str | None] = {"physmol": None, "physmol-gfn2": "gfn2"}  # their priors, by name


def shipped_models(prior: str | None) -> list[Path]:
    """The files of the models with a prior, or of those without one.

    A UserError if there are none.
    """
    name = "qm9" if prior is None else f"qm9-{prior}"
    found = sorted(FOLDER.glob(f"{name}-[0-9].json"))
    if not found:
        raise UserError(f"no model with the prior {prior} comes with the package; give models")
    return found
