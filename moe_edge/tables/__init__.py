"""From a table file to raw-encoded rows: cells, columns, the target. NumPy alone, so that a device reads tables too."""
