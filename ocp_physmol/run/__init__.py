"""The command line of main.py, and the processes that it starts."""
