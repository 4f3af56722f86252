"""Kinds of experts and gates: one small class each; ``registry`` finds them by name."""
