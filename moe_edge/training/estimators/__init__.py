"""Fitted scikit-learn estimators as frozen Keras models: decision trees as arrays, the layer that walks them."""
