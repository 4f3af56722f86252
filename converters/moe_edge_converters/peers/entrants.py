"""What the peers of a Keras mixture run, written to files, and how to measure them.

Layer: desktop (converters). Imports Keras and TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_edge.runtime.benchmark.campaign import Entrant
from moe_edge.runtime.benchmark.model_benchmark import BARE

_PEERS = "moe_edge_converters.peers"
KERAS = f"{_PEERS}.keras_subject:KerasSubject"
ONNX = f"{_PEERS}.onnxruntime_subject:OnnxRuntimeSubject"


def prepare_peers(
    names: Sequence[str], keras_model: Path, *, tflite: Path, folder: Path, num_threads: int = 1
) -> list[Entrant]:
    """Make the files that the peers run, and say how to measure them.

    Args:
        names: ``onnxruntime``, ``keras``, ``plain-tflite``.
        keras_model: The ``.keras`` that ``tflite`` was converted from.
        tflite: The moe-edge file, which must be of the same mixture.
        folder: Where to write; must last as long as the measurement.
        num_threads: Threads of one call.

    Raises:
        MoeEdgeError: If the model can't be loaded, isn't the same mixture, or a peer can't run it.
    """
    from moe_edge.runtime.model_file import ModelFile
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.training.archive import load_model
    from moe_edge_converters.validation import check_same_mixture

    loaded = load_model(keras_model)
    with ModelFile.open(tflite) as file:
        if file.manifest is not None:
            check_same_mixture(loaded.model, loaded.schema, file.manifest, source=str(tflite))
    entrants: list[Entrant] = []
    for name in names:
        if name == "keras":
            entrants += keras_entrants(keras_model, num_threads=num_threads)
        elif name == "plain-tflite":
            entrants.append(plain_tflite_entrant(loaded.model, folder, num_threads=num_threads))
        else:
            from moe_edge_converters.sources.source import read_source

            entrants += onnx_entrants(read_source(keras_model).spec, folder, num_threads=num_threads)
    return entrants


def keras_entrants(keras_model: Path, *, num_threads: int = 1) -> list[Entrant]:
    """``predict``, and the compiled call."""
    common = {"model": str(keras_model.resolve()), "num_threads": num_threads}
    return [
        Entrant(name="Keras predict", factory=KERAS, options={**common, "how": "predict"}),
        Entrant(name="Keras call, tf.function", factory=KERAS, options={**common, "how": "call"}),
    ]


def plain_tflite_entrant(model: Any, folder: Path, *, num_threads: int = 1) -> Entrant:
    """What ``tf.lite.TFLiteConverter`` makes of the Keras model, float32, on the runtime that we run on."""
    single, batches = folder / "plain-1.tflite", folder / "plain.tflite"
    single.write_bytes(convert_plainly(model, batch=1))
    batches.write_bytes(convert_plainly(model, batch=None))
    return Entrant(
        name="plain Keras→TFLite",
        factory=BARE,
        options={
            "model": str(single),
            "batch_model": str(batches),
            "num_threads": num_threads,
            "xnnpack": True,
        },
    )


def convert_plainly(model: Any, *, batch: int | None) -> bytes:
    """The converter's own way, with a fixed batch, which its guide advises, or a free one."""
    import tensorflow as tf

    shape = (batch, *model.input_shape[1:])
    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="x"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    content: bytes = converter.convert()
    return content


def onnx_entrants(spec: Any, folder: Path, *, num_threads: int = 1) -> list[Entrant]:
    """Every layout of the mixture's graph.

    Raises:
        ConversionError: If the mixture isn't one that the ONNX writer knows.
    """
    from moe_edge_converters.peers.onnx_graph import OnnxLayout, build_onnx

    entrants = []
    for layout in OnnxLayout:
        path = folder / f"{layout.value}.onnx"
        path.write_bytes(build_onnx(spec, layout=layout))
        entrants.append(
            Entrant(
                name=f"ONNX Runtime, {layout.value}",
                factory=ONNX,
                options={"model": str(path), "num_threads": num_threads},
            )
        )
    return entrants
