"""`python -m openk2.cli`."""

from openk2.cli import main

if __name__ == "__main__":
    main()
