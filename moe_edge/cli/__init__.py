"""The command ``moe-edge``: parse, call, print; one file per command."""
