"""The gates' own layers and fits: chosen columns and top-k, Gaussian gates, trees of gates, softmax regression."""
