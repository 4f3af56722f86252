"""A tour of the library on handwritten digits, for who knows the classical guide to Mixtures of Experts in Keras.

    python demos/digits.py            # about a minute on two cores
    python demos/digits.py --smoke    # a few seconds: the same path, fewer epochs

1. Split the problem: rows, and which of them are held out.
2. An expert for each piece: any Keras architecture.
3. A gating network: which experts count for which row.
4. Combine: one model, trained by your own compile/fit, shipped as one .tflite, compared, asked for reasons.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from moe_edge.training import create_moe_model, full_outputs  # first: it sets TensorFlow's environment

import keras  # isort: skip
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from moe_edge import Predictor
from moe_edge.runtime.latency import measure_latency
from moe_edge.thresholds import ParityThresholds, check_parity
from moe_edge_converters import convert
from moe_edge_converters.validation import validate

NUM_EXPERTS = 5


def create_small_expert(input_dim: int, output_dim: int) -> keras.Model:
    """One expert. The default is Dense 64 → Dense 32 → softmax; any Keras model of this signature will do."""
    return keras.Sequential(
        [
            keras.Input((input_dim,)),
            keras.layers.Dense(48, activation="relu"),
            keras.layers.Dense(output_dim, activation="softmax"),
        ]
    )


def create_small_gate(input_dim: int, num_experts: int) -> keras.Model:
    """The gate ends in a softmax: one weight an expert, each row's weights sum to 1."""
    return keras.Sequential(
        [
            keras.Input((input_dim,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(num_experts, activation="softmax"),
        ]
    )


def main() -> None:
    """Run the tour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few epochs, to see that everything runs")
    parser.add_argument("-o", "--output", type=Path, help="folder for the files; a temporary one by default")
    arguments = parser.parse_args()
    if arguments.output is None:
        with tempfile.TemporaryDirectory() as folder:
            tour(Path(folder), epochs=3 if arguments.smoke else 40)
    else:
        arguments.output.mkdir(parents=True, exist_ok=True)
        tour(arguments.output, epochs=3 if arguments.smoke else 40)


def tour(folder: Path, *, epochs: int) -> None:
    """The four steps, from arrays to an answer that names its experts."""
    keras.utils.set_random_seed(0)

    # 1. Split the problem. Pixels are 0..16; networks like small numbers.
    pixels, digits = load_digits(return_X_y=True)
    x = (pixels / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(x, digits, test_size=0.3, stratify=digits, random_state=0)

    # 2 and 3. Experts and gate, joined by a registered layer: no Lambda, so the file loads anywhere, in safe mode.
    # load_balancing_coef keeps every expert in use, as a part of the model (add_loss): your loss stays your own. The
    # guide's 0, and even 0.1, let an expert die on this table: bytes that answer nothing, and for w8a8 no row to
    # calibrate on. (moe-edge train has a loss that needs less force, see moe_edge.training.losses.)
    model = create_moe_model(
        x.shape[1],
        output_dim=10,
        num_experts=NUM_EXPERTS,
        expert=create_small_expert,
        gate=create_small_gate,
        load_balancing_coef=0.3,
    )

    # 4. Combine. From here on it is a plain keras.Model.
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=epochs, batch_size=32, validation_split=0.15, verbose=0)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"Keras: {accuracy:.2%} of {len(x_test)} held-out rows")

    # What the gate does: mean weight of each expert. One near zero is dead, and costs bytes for nothing.
    usage = full_outputs(model).predict(x_train, verbose=0)["routing_weights"].mean(axis=0)
    print("Gate's mean weights:", ", ".join(f"expert_{index} {share:.0%}" for index, share in enumerate(usage)))

    # One file. w8a8 measures the ranges of activations on training rows, expert by expert.
    result = convert(model, folder / "digits.tflite", calibration=x_train)
    whole = convert(model, folder / "digits-float32.tflite", calibration=x_train, scheme="float32")
    print(f"Files: {whole.num_bytes:,} bytes as float32, {result.num_bytes:,} as w8a8")

    # From here on TensorFlow isn't needed; this is what runs on the device.
    with Predictor(folder / "digits.tflite") as predictor:
        print(predictor.explain(x_test[:3]))
        latency = measure_latency(predictor.predict_raw, x_test[:1])
        print(f"One row: {latency.median_us:.1f} µs (median of {latency.num_runs} calls, here)")

        # Does the file answer like the model? The same held-out rows through both.
        report = validate(model, predictor, x_test, y_test)
    print(f"Same label for {report.agreeing_rows} of {report.num_rows} rows")
    for failure in check_parity(report, ParityThresholds()):
        print("FAIL:", failure)


if __name__ == "__main__":
    main()
