"""Strategies: in which order experts and gate learn."""
