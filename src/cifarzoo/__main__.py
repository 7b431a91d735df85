"""`python -m cifarzoo` is `cifarzoo`."""

from cifarzoo.cli import main

if __name__ == "__main__":
    main()
