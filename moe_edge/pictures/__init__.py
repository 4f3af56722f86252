"""Pictures of a mixture and of how its file answers: PNG files, and one page that explains them.

Layer: desktop (pictures). Imports matplotlib (Agg, no display); plain arrays come in, so nothing of Keras is needed.
"""
