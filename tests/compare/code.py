"""Runs Python code given as the first argument, with the others as its arguments: what a job does in tests."""

import sys

if __name__ == "__main__":
    exec(sys.argv.pop(1))
