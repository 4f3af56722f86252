"""The same mixture as other runtimes take it, for measuring against them, set up as their documentation advises."""
