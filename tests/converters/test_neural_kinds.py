"""Every neural kind of expert, and the shared trunk, through the .tflite: fused and routed, batches, both runtimes."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Combine, Task, TrunkConfig
from moe_edge.manifest import Role
from moe_edge.training.builders import create_gating_network, create_moe_model
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind
from moe_edge.training.kinds.trunk import build_trunk
from moe_edge.training.layers import StackExperts, WeightedSum
from moe_edge_converters import convert

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("routed_answers.py")
BATCHES = (1, 7, 64)
FEATURES, CLASSES = 48, 3

KINDS = {
    "conv1d": [("conv1d", {"shape": [16, 3], "filters": [8, 8]})] * 2,
    "conv1d-separable-dilated": [("conv1d", {"shape": [16, 3], "depthwise": True, "dilation": 2})] * 2,
    "conv1d-separable-strided": [("conv1d", {"shape": [16, 3], "depthwise": True, "strides": 2, "pool": 1})] * 2,
    "conv2d": [("conv2d", {"shape": [8, 6, 1], "filters": [8, 8]})] * 2,
    "conv2d-separable": [("conv2d", {"shape": [4, 4, 3], "depthwise": True, "summary": "average"})] * 2,
    "conv2d-dilated": [("conv2d", {"shape": [8, 6], "dilation": 2, "pool": 1, "padding": "valid", "filters": [8]})] * 2,
    "gru": [("gru", {"shape": [8, 6], "units": [12]})] * 2,
    "lstm": [("lstm", {"shape": [8, 6], "units": [12]})] * 2,
    "lstm-of-two-layers": [("lstm", {"shape": [4, 12], "units": [8, 8]})] * 2,
    "keras": [("keras", {"build": "moe_edge.training.builders:create_expert_model"})] * 2,
    "five-kinds": [
        ("dense", {}),
        ("linear", {}),
        ("conv1d", {"shape": [16, 3], "filters": 8}),
        ("lstm", {"shape": [8, 6]}),
        ("keras", {"build": "moe_edge.training.builders:create_expert_model"}),
    ],
}
TRUNKS = {
    "dense-trunk": TrunkConfig(units=16, hidden=(24,)),
    "conv1d-trunk": TrunkConfig(kind="conv1d", units=16, options={"shape": [16, 3], "filters": [8]}),
    "gru-trunk": TrunkConfig(kind="gru", units=12, activation="tanh", options={"shape": [8, 6]}),
}
ALL = [*KINDS, *TRUNKS]


def table(rows=700):
    """Waves of three shapes at any place in the window, with noise: classes that a window's layers tell apart."""
    rng = np.random.default_rng(5)
    labels = np.arange(rows) % CLASSES
    steps = np.linspace(0, 2 * np.pi, FEATURES, endpoint=False)
    phases = rng.uniform(0, 1, size=(rows, 1))
    x = np.sin(steps * (1 + labels[:, None]) + phases) + 0.4 * rng.normal(size=(rows, FEATURES))
    return x.astype(np.float32), labels


@functools.cache
def trained(name):
    """A mixture after a few steps, and its rows; made once."""
    keras.utils.set_random_seed(3)
    x, y = table()
    if name in KINDS:
        kinds = iter(enumerate(KINDS[name]))

        def expert(shape, outputs):
            index, (kind, options) = next(kinds)
            return expert_kind(kind).build(job(shape, outputs, options, seed=index))

        model = create_moe_model(FEATURES, CLASSES, len(KINDS[name]), expert=expert, load_balancing_coef=0.1)
    else:
        row = keras.Input((FEATURES,))
        features = build_trunk(TRUNKS[name], (FEATURES,), seed=1)(row)
        size = (TRUNKS[name].units,)
        experts = [expert_kind("dense").build(job(size, CLASSES, {}, seed=index))(features) for index in range(3)]
        gate = create_gating_network(size, 3)(features)
        model = keras.Model(row, WeightedSum()([gate, StackExperts()(experts)]))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[:500], y[:500], batch_size=32, epochs=5, verbose=0)
    return model, x, y


def job(shape, outputs, options, *, seed):
    shape = (shape,) if isinstance(shape, int) else shape
    return ExpertJob(
        input_shape=shape,
        num_outputs=outputs,
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        hidden=(16,),
        options=options,
        seed=seed,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a mixture in a scheme; made once."""
    folder = tmp_path_factory.mktemp("neural-kinds")

    @functools.cache
    def write(name, scheme):
        model, x, _ = trained(name)
        return convert(model, folder / f"{name}-{scheme}.tflite", calibration=x[:500], scheme=scheme).path

    return write


@pytest.mark.parametrize("name", ALL)
def test_float32_answers_are_keras_own_in_any_batch_fused_and_routed(name, written):
    model, x, y = trained(name)
    expected = model.predict(x, verbose=0)
    assert np.mean(expected.argmax(1) == y) > 0.55, "the mixture must have learnt something to lose"
    with (
        Predictor(written(name, "float32"), mode="dense") as fused,
        Predictor(written(name, "float32"), mass=1.0) as routed,
    ):
        for batch in BATCHES:
            rows = x[500 : 500 + batch]
            # float32 sums in another order: some 1e-7 an operation.
            for predictor in (fused, routed):
                answers = predictor.predict_raw(rows)["prediction"]
                np.testing.assert_allclose(answers, expected[500 : 500 + batch], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_w8a8_stays_within_the_accuracy_budget_fused_and_routed(name, written):
    model, x, y = trained(name)
    expected = model.predict(x[500:], verbose=0)
    rows, labels = x[500:], y[500:]
    fused = Predictor(written(name, "w8a8"), mode="dense")
    answers = fused.predict_raw(rows)["prediction"]
    # 200 rows: the budget of half a point is one row; near ties of a mixture trained this shortly flip a few.
    assert np.mean(answers.argmax(1) == labels) >= np.mean(expected.argmax(1) == labels) - 0.02
    assert np.mean(answers.argmax(1) == expected.argmax(1)) >= 0.96
    routed = Predictor(written(name, "w8a8"), mass=1.0).predict_raw(rows[:64])["prediction"]
    # Routed signatures are cut from the fused graph: the same weights and ranges, weighted in another order at most.
    np.testing.assert_allclose(routed, answers[:64], atol=1e-6)
    for batch in BATCHES:
        np.testing.assert_allclose(fused.predict_raw(rows[:batch])["prediction"], answers[:batch], atol=1e-6)


@pytest.fixture(scope="module")
def old_answers(written, old_runtime_python, tmp_path_factory):
    """What both runtimes answer, fused and routed: runtime -> name and scheme -> answers by how they were run."""
    folder = tmp_path_factory.mktemp("neural-kinds-runtimes")
    found = {}
    for runtime, python in (("litert", sys.executable), ("tflite-runtime", str(old_runtime_python))):
        jobs = []
        for name in ALL:
            np.save(folder / f"{name}.npy", trained(name)[1][500:512])
            for scheme in ("float32", "w8a8"):
                answers = folder / f"{runtime}-{name}-{scheme}.npz"
                rows = str(folder / f"{name}.npy")
                jobs.append({"model": str(written(name, scheme)), "rows": rows, "answers": str(answers)})
        (folder / "jobs.json").write_text(json.dumps(jobs))
        done = subprocess.run(
            [python, str(SCRIPT), str(folder / "jobs.json")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        for entry in jobs:
            with np.load(entry["answers"]) as arrays:
                found[runtime, Path(entry["model"]).stem] = dict(arrays)
    return found


@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
@pytest.mark.parametrize("name", ALL)
def test_both_runtimes_answer_alike_fused_and_routed(name, scheme, old_answers):
    modern, old = (old_answers[runtime, f"{name}-{scheme}"] for runtime in ("litert", "tflite-runtime"))
    reference = modern["fused/path/plain/prediction"]
    # int8 kernels of another age round a half the other way: a few steps of 1/256 along a recurrence.
    tolerance = 1e-5 if scheme == "float32" else 0.06
    for answers in (modern, old):
        for mode in ("fused", "routed"):
            for resolver in ("plain", "delegate"):
                given = answers[f"{mode}/path/{resolver}/prediction"]
                np.testing.assert_allclose(given, reference, atol=tolerance, rtol=0, err_msg=f"{mode} {resolver}")
        for resolver in ("plain", "delegate"):
            np.testing.assert_array_equal(
                answers[f"fused/path/{resolver}/prediction"].argmax(1),
                answers[f"routed/path/{resolver}/prediction"].argmax(1),
            )


@pytest.mark.parametrize("name", TRUNKS)
def test_the_trunk_runs_once_and_experts_take_its_features(name, written):
    from ai_edge_litert.interpreter import Interpreter

    model, x, _ = trained(name)
    path = written(name, "float32")
    interpreter = Interpreter(model_path=str(path))
    given = interpreter.get_signature_runner("gate")(x=x[:1])
    features = np.asarray(model.get_layer("trunk")(x[:1]))
    np.testing.assert_allclose(given["features"], features, atol=1e-5)
    taken = interpreter.get_signature_runner("expert_0").get_input_details()["features"]["shape"]
    assert list(taken) == [1, TRUNKS[name].units]
    with Predictor(path) as predictor:
        assert Role.TRUNK in {part.role for part in predictor.manifest.parts}
