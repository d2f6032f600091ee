from setuptools import find_packages, setup

setup(
    name="ocp-physmol",
    version="0.1.0",
    description="PhysMol, a physics-empowered potential, as an Open Catalyst plugin",
    packages=find_packages(include=["ocp_physmol", "ocp_physmol.*"]),
    package_data={"ocp_physmol.experiments": ["report.html", "paper/*.csv"]},
    python_requires=">=3.9,<3.13",
    install_requires=[
        "fairchem-core==1.10.0",  # the last release with OCPTrainer and the trainer registry
        "torch>=2.4,<2.5",
        "torch-geometric",
        "scipy<1.17",  # fairchem 1.10 imports scipy.special.sph_harm, removed in 1.17
        "pymatgen",  # Pauling electronegativities; fairchem needs it too
        "ase<3.26",  # fairchem 1.10's batched relaxations lack what 3.26 asks of them
        # 1.7 and 1.8 crash in forked data-loading workers, 3.0 refuses one file twice in a process
        "lmdb<1.7",
        "pyyaml",
        "submitit",
        "numba",  # compiles the sums over edges, with no compiler installed; fairchem needs it too
        "tqdm",
        "matplotlib",
        "jinja2",  # fills the template of the report; torch needs it too
        "rdkit",  # bonds, their orders and rings, for the functional groups of molecule assembly
    ],
    extras_require={
        "qm9": ["qm9pack==1.0.3"],  # carries QM9 itself as CSV files (104 MB)
        # compiled: needs torch installed first, a C++ compiler, and --no-build-isolation
        "baselines": ["torch_scatter==2.1.2", "torch_sparse==0.6.18"],
        "dev": ["pytest", "ruff"],
    },
    entry_points={"console_scripts": ["ocp-physmol=ocp_physmol.__main__:main"]},
)
