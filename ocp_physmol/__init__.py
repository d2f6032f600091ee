"""PhysMol as a plugin of the Open Catalyst framework (fairchem-core 1.10).

Importing the package makes fairchem importable without compiled extensions, keeps it from running
code that files hold, and registers the model, the trainer, the losses and the dataset in fairchem's
registry, in this process.
"""

from ocp_physmol.fairchem_compat import scatter_fallback

scatter_fallback.install()  # before anything imports fairchem

from ocp_physmol import losses as _losses  # noqa: E402, F401
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset  # noqa: E402
from ocp_physmol.fairchem_compat import files_as_data  # noqa: E402
from ocp_physmol.fairchem_compat.conservative import ConservativeModel  # noqa: E402
from ocp_physmol.model.physmol import PhysMol  # noqa: E402
from ocp_physmol.training.trainer import PhysMolTrainer  # noqa: E402

files_as_data.install()

__all__ = ["ConservativeModel", "PhysMol", "PhysMolLmdbDataset", "PhysMolTrainer"]
__version__ = "0.2.0"
