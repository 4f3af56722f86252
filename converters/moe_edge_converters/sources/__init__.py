"""Read a mixture out of what the user has: our Keras layers, any classical Keras model, a SavedModel folder."""
