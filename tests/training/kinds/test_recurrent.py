import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind


def build(kind, input_shape=(24,), **changes):
    values = {"num_outputs": 2, "task": Task.REGRESSION, "combine": Combine.GAUSSIAN, "hidden": ()}
    return expert_kind(kind).build(ExpertJob(input_shape=input_shape, **{**values, **changes}))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_layers_are_unrolled_and_the_last_state_answers(kind):
    model = build(kind, options={"shape": [8, 3], "units": [6, 5]})
    cells = [layer for layer in model.layers if type(layer).__name__ == kind.upper()]
    assert [cell.units for cell in cells] == [6, 5]
    assert all(cell.unroll for cell in cells)
    assert [cell.return_sequences for cell in cells] == [True, False]
    assert model.output_shape == (None, 4)
    rows = np.random.default_rng(0).normal(size=(4, 24)).astype(np.float32)
    changed = rows.copy()
    changed[:, 0] += 3
    # The first timestep still tells at the end.
    assert np.abs(np.asarray(model(rows)) - np.asarray(model(changed))).max() > 1e-4


def test_unrolled_equals_rolled():
    import keras

    model = build("gru", options={"shape": [8, 3]})
    rows = np.random.default_rng(0).normal(size=(4, 24)).astype(np.float32)
    cell = next(layer for layer in model.layers if type(layer).__name__ == "GRU")
    rolled = keras.layers.GRU.from_config({**cell.get_config(), "unroll": False})
    rolled.build((None, 8, 3))
    rolled.set_weights(cell.get_weights())
    states = keras.Model(model.input, cell.output)
    np.testing.assert_allclose(np.asarray(states(rows)), np.asarray(rolled(rows.reshape(4, 8, 3))), atol=1e-5)


def test_the_seed_decides_the_initial_weights():
    first, again, other = (build("lstm", options={"shape": [8, 3]}, seed=seed).get_weights() for seed in (1, 1, 2))
    for ours, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, same)
    assert np.abs(first[1] - other[1]).max() > 0.01


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((24,), {}, "rows are flat"),
        ((24,), {"shape": [7, 3]}, "7x3 = 21"),
        ((24,), {"shape": [8, 3], "units": [0]}, "each at least 1"),
        ((600,), {"shape": [300, 2]}, "at most 256 timesteps"),
    ],
)
def test_options_that_do_not_fit_are_named(shape, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        build("gru", shape, options=options)
    assert str(caught.value).startswith("gru")
