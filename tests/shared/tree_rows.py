"""Rows on which a tree goes wrong that compares in another precision than its estimator."""

import numpy as np

from moe_edge.training.estimators.frozen_models import read_trees


def threshold_rows(estimator, num_features, count):
    """Rows whose every value is a threshold of that feature, or a float32 next to one."""
    rng = np.random.default_rng(5)
    trees = read_trees(estimator).trees
    columns = []
    for feature in range(num_features):
        found = np.concatenate([t.threshold[(t.left >= 0) & (t.feature == feature)] for t in trees] + [np.zeros(1)])
        found = found[np.isfinite(found)].astype(np.float32)
        near = np.concatenate([found, np.nextafter(found, np.float32(9e9)), np.nextafter(found, np.float32(-9e9))])
        near[np.abs(near) < np.finfo(np.float32).tiny] = 0
        columns.append(rng.choice(near, size=count))
    return np.stack(columns, axis=1)
