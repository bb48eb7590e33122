"""``python -m analyzer`` is ``keras-analyzer``."""

from __future__ import annotations

import sys

from analyzer.cli import main

sys.exit(main())
