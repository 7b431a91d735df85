"""`python -m cifarzoo` runs the command `cifarzoo`."""

from cifarzoo.cli import main

if __name__ == "__main__":
    main()
