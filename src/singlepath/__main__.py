"""`python -m singlepath`."""

from singlepath.cli import main

if __name__ == "__main__":
    main()
