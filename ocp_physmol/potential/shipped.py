"""The models that come with the package, trained on QM9."""

from pathlib import Path

from ocp_physmol.errors import UserError

FOLDER = Path(__file__).parents[1] / "weights"
SHIPPED = {"physmol-gfn2": "gfn2"}  # their priors, by name


def shipped_models(prior: str | None) -> list[Path]:
    """The files of the models with a prior; a UserError if there are none."""
    if found := sorted(FOLDER.glob(f"qm9-{prior}-[0-9].json")):
        return found
    known = ", ".join(f"'{other}'" for other in SHIPPED.values())
    raise UserError(f"no model in the package has the prior {prior}; give models, or prior={known}")
