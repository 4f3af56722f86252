"""measure_latency: it counts its calls, orders its percentiles and refuses nonsense; no test here times anything."""

import numpy as np
import pytest

from moe_edge.runtime.latency import measure_latency


def test_calls_warm_up_then_timed_runs_with_the_given_rows():
    seen = []
    rows = np.zeros((4, 3), np.float32)
    stats = measure_latency(seen.append, rows, num_runs=7, num_warmup=2)
    assert len(seen) == 9 and all(features is rows for features in seen)
    assert (stats.num_runs, stats.batch_size) == (7, 4)
    assert 0 <= stats.min_us <= stats.median_us <= stats.p90_us
    assert stats.per_row_us == stats.median_us / 4


@pytest.mark.parametrize("kwargs", [{"num_runs": 0}, {"num_warmup": -1}])
def test_refuses_counts_that_make_no_sense(kwargs):
    with pytest.raises(ValueError, match="expected num_runs"):
        measure_latency(len, np.zeros((1, 2), np.float32), **kwargs)


def test_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="at least one row"):
        measure_latency(len, np.zeros((0, 2), np.float32))
