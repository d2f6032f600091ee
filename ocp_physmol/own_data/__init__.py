"""One's own calculations: from files that ASE reads to a trained and judged model."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
