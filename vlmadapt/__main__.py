"""`python -m vlmadapt`, as `accelerate launch -m vlmadapt` needs it."""

from vlmadapt.cli.main import main

if __name__ == "__main__":
    main()
