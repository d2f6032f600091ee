"""The models that come with the package, trained on QM9."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ocp_physmol.errors import UserError

FOLDER = Path(__file__).parents[1] / "weights"
SHIPPED: dict[str, str | None] = {"physmol-gfn2": "gfn2", "physmol": None}  # their priors, by name

# eV/Angstrom, by prior: how much the forces of the models differ, at the most, on the atoms of 95 %
# of the held-out minima that are found from DFT's (benchmarks/held_out.py)
USUAL_SPREAD = {"gfn2": np.inf, None: 0.31}  # there is one model on GFN2-xTB


def shipped_models(prior: str | None) -> list[Path]:
    """The files of the models with a prior, or without one; a UserError if there are none."""
    name = "qm9" if prior is None else f"qm9-{prior}"
    if found := sorted(FOLDER.glob(f"{name}-[0-9].json")):
        return found
    known = " or ".join(f"prior={other!r}" for other in SHIPPED.values())
    raise UserError(f"no model in the package has the prior {prior!r}; give models, or {known}")


def best_available() -> str:
    """The best of SHIPPED that can run here: without tblite, the one without a prior."""
    return next(
        name for name, prior in SHIPPED.items() if prior is None or find_spec("tblite") is not None
    )
