"""`python -m bundle COMMAND --help`."""

from bundle.cli.main import entry

if __name__ == "__main__":
    entry()
