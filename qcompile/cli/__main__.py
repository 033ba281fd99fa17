"""`python -m qcompile.cli` is `qcompile`."""

import sys

from qcompile.cli import main

sys.exit(main())
