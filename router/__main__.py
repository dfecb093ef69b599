"""`python -m router`: the same as `llama-router`."""

import sys

from router.cli import main

sys.exit(main())
