"""`python -m bundle COMMAND --help`."""

import sys

from bundle.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
