"""Whether a verified file is one that the predictor can answer with, on this runtime.

Layer: device. Imports ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

from moe_edge.errors import BackendError, ModelFileError
from moe_edge.manifest import Manifest
from moe_edge.runtime.backends import Backend
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Signature

SIGNATURE = "serving_default"
_MISCOMPUTED, _MISCOMPUTED_PER_CHANNEL = "w4", "dynamic_w8"
"""Schemes whose activations are rounded on the fly: tflite-runtime 2.14 loads them and answers wrongly, without an
error; 8-bit weights with one scale a channel, 4-bit weights always (0.28 and 0.80 of the classes are LiteRT's)."""


def require_manifest(file: ModelFile) -> Manifest:
    """The manifest; a foreign file is refused: without labels and columns an answer has no meaning.

    Raises:
        ModelFileError: If the file has none.
    """
    if file.manifest is None:
        raise ModelFileError(
            f"{file.source}: expected a .tflite written by moe-edge, got one without its manifest; "
            "convert the Keras model with moe-edge convert, or run this file with ai_edge_litert's Interpreter"
        )
    return file.manifest


def check_signature(file: ModelFile, manifest: Manifest) -> Signature:
    """The signature of the whole graph, which takes and gives what the manifest says.

    Raises:
        ModelFileError: If it doesn't.
    """
    signature = file.signatures.get(SIGNATURE)
    if signature is None:
        raise ModelFileError(f"{file.source}: expected the signature {SIGNATURE}, got {list(file.signatures)}")
    tensors = file.subgraphs[signature.subgraph].tensors
    expected = {
        "x": (1, *manifest.input_shape),
        "prediction": (1, len(manifest.schema.labels)),
        "routing_weights": (1, manifest.num_experts),
    }
    places = {**signature.inputs, **signature.outputs}
    for name, shape in expected.items():
        if name not in places:
            raise ModelFileError(f"{file.source}: expected {name!r} in {SIGNATURE}, got {sorted(places)}")
        tensor = tensors[places[name]]
        if tensor.shape != shape or tensor.dtype != manifest.io:
            raise ModelFileError(
                f"{file.source}: expected {name!r} to be {manifest.io} {shape}, got {tensor.dtype} {tensor.shape}; "
                "convert the model again"
            )
    # serving_default is subgraph 0, which interpreters run without asking for a signature.
    if signature.subgraph != 0 or set(signature.inputs) != {"x"}:
        raise ModelFileError(f"{file.source}: expected {SIGNATURE} to be the first subgraph, with the one input x")
    return signature


def refuse_miscomputed(manifest: Manifest, backend: Backend) -> None:
    """Refuse what a runtime would answer wrongly, without an error.

    Raises:
        BackendError: If it would.
    """
    if backend.name != "tflite-runtime":
        return
    schemes = {part.scheme for part in manifest.parts}
    if _MISCOMPUTED in schemes or (_MISCOMPUTED_PER_CHANNEL in schemes and not manifest.per_tensor):
        wrong = _MISCOMPUTED if _MISCOMPUTED in schemes else f"per-channel {_MISCOMPUTED_PER_CHANNEL}"
        raise BackendError(
            f"tflite-runtime answers {wrong} files wrongly; convert with moe-edge convert --scheme w8a8, "
            "or dynamic_w8 with --per-tensor, or install ai-edge-litert"
        )
