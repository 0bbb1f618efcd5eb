"""`python -m unposed`."""

import sys

from unposed.cli import main

sys.exit(main())
