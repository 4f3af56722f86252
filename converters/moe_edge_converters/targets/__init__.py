"""Where a file is meant to run: what that forces, and whether it answers there."""
