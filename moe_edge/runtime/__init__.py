"""The device side: open a .tflite, check it, run it. Never imports TensorFlow or Keras."""
