"""PhysMol as a plugin of the Open Catalyst framework (fairchem-core 1.10).

Importing the package makes fairchem importable without compiled extensions and registers the
model, the trainer, the losses and the dataset in fairchem's registry, in this process.
"""

from ocp_physmol import scatter_fallback

scatter_fallback.install()  # before anything imports fairchem

from ocp_physmol import conservative, losses, trainer  # noqa: E402
from ocp_physmol.datasets import lmdb_dataset  # noqa: E402
from ocp_physmol.model import physmol  # noqa: E402

__all__ = ["conservative", "lmdb_dataset", "losses", "physmol", "trainer"]
__version__ = "0.1.0"
