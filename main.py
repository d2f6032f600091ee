"""python main.py --mode train --config-yml configs/qm9/physmol.yml; --help lists everything."""

from ocp_physmol.errors import exit_on_user_error

if __name__ == "__main__":
    with exit_on_user_error():  # also while this is imported, which takes seconds
        from ocp_physmol.run.cli import main

        main()
