"""Section 3.7: the registered trainer."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
