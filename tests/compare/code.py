"""Runs Python code given as an argument: what a job does in tests."""

import sys

if __name__ == "__main__":
    exec(sys.argv[1])
