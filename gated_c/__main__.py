"""``python -m gated_c`` is ``gated-c``."""

import sys

from gated_c.cli import main

sys.exit(main())
