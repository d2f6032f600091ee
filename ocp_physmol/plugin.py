"""Importing it makes fairchem importable, and the models, the trainer, the losses and the dataset
known to fairchem's registry.

From then on fairchem reads files as data, too, and runs no code that they hold.
"""

from ocp_physmol import losses as _losses  # noqa: F401
from ocp_physmol.datasets import lmdb_dataset as _dataset  # noqa: F401
from ocp_physmol.fairchem_compat import conservative as _conservative  # noqa: F401
from ocp_physmol.fairchem_compat import files_as_data
from ocp_physmol.model import physmol as _model  # noqa: F401
from ocp_physmol.training import trainer as _trainer  # noqa: F401

files_as_data.install()
