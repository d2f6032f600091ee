"""python main.py --mode train --config-yml configs/qm9/physmol.yml; --help lists everything."""

from ocp_physmol.run.cli import main

if __name__ == "__main__":
    main()
