"""The classical guide's mixing function, which never answered row by row, is refused with the way out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe_edge.errors import ConversionError
from moe_edge.training import create_moe_model
from moe_edge_converters.sources.classical_trap import check_answers_rows
from moe_edge_converters.sources.extraction import extract_mixture

E, K = 5, 10


def classical(mix, *, stack=False):
    """The guide's model: experts as a list, mixed in a Lambda."""
    row = keras.Input((8,))
    gate = keras.layers.Dense(E, activation="softmax")(row)
    experts = [keras.layers.Dense(K, activation="softmax")(row) for _ in range(E)]
    inputs = [gate, keras.ops.stack(experts, axis=1)] if stack else [gate, experts]
    return keras.Model(row, keras.layers.Lambda(mix, output_shape=(K,))(inputs))


def mix_list(tensors):
    return tf.reduce_sum(tensors[0][:, :, None] * tensors[1], axis=1)


def mix_expanded(tensors):
    return tf.reduce_sum(tf.expand_dims(tensors[0], -1) * tf.convert_to_tensor(tensors[1]), axis=1)


def mix_transposed(tensors):
    """Gives (num_experts, num_classes) for as many rows as experts, and fails on others."""
    return tf.reduce_sum(tf.stack(tensors[1]) * tensors[0][:, :, None], axis=0)


@pytest.mark.parametrize("mix", [mix_list, mix_expanded, mix_transposed])
def test_the_trap_is_refused_with_the_way_out(mix):
    model = classical(mix)
    for refuse in (check_answers_rows, extract_mixture):
        with pytest.raises(ConversionError, match=r"the Lambda .*stack the experts on axis 1.*create_moe_model"):
            refuse(model)


def test_the_trap_does_answer_one_row_and_five():
    """Why it is called a trap: it runs on some batches, with the wrong number of answers on one row."""
    assert np.asarray(classical(mix_list)(np.zeros((1, 8), np.float32))).shape == (E, K)


def test_stacked_experts_answer_row_by_row_but_a_lambda_is_no_mixture():
    model = classical(mix_list, stack=True)
    check_answers_rows(model)
    with pytest.raises(ConversionError, match="expected a mixture of experts"):
        extract_mixture(model)


def test_sound_models_pass():
    check_answers_rows(create_moe_model(8, K, E))
    check_answers_rows(create_moe_model((2, 4), K, 2, expert=flat, gate=flat))


def flat(input_dim, units):
    layers = keras.layers
    return keras.Sequential([keras.Input(input_dim), layers.Flatten(), layers.Dense(units, activation="softmax")])


def test_a_model_that_mixes_rows_is_refused():
    row = keras.Input((8,))
    summed = keras.layers.Lambda(lambda x: tf.reduce_sum(x, axis=0), output_shape=(8,))(row)
    with pytest.raises(ConversionError, match=r"one answer a row, got shape \(8,\) for 1 rows; check the layers"):
        check_answers_rows(keras.Model(row, summed))


def test_a_model_with_a_second_output_is_told_to_give_one():
    x = keras.Input((3,))
    gate = keras.layers.Dense(2, activation="softmax")(x)
    with pytest.raises(
        ConversionError, match=r"one output, got 2; pass keras.Model\(model.inputs, model.outputs\[0\]\)"
    ):
        check_answers_rows(keras.Model(x, [keras.layers.Dense(4)(x), gate]))
