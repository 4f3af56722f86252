"""On the board: ``moe-edge``, whose own child processes start by a script instead of the emulated Python's file."""

import sys

sys.executable = sys.argv[1]
sys.argv = ["moe-edge", *sys.argv[2:]]

from moe_edge.cli.main import main  # noqa: E402

main()
