"""The command line of main.py, and the processes that it starts."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
