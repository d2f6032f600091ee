"""Run another command whose clock goes back an hour after a second: clock_back.py COMMAND..."""

import runpy
import sys
import time

started, clock = time.time(), time.time
time.time = lambda: clock() - 3600 * (clock() > started + 1)

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
