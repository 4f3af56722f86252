"""From whatever the user has (a Keras model in memory, a .keras file, a SavedModel folder) to a mixture to convert.

Our own models are read layer by layer; any other is traced and recognised on its graph; ``fuse=False`` takes it as it
stands, as one network that runs whole.
Layer: desktop (converters).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError, ModelFileError
from moe_edge.schema import FeatureSchema
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.sources.classical_trap import check_answers_rows
from moe_edge_converters.sources.extraction import extract_mixture, is_own_mixture
from moe_edge_converters.sources.float_graph import FloatGraph, GraphRunner
from moe_edge_converters.sources.graph_slices import NetworkCutter
from moe_edge_converters.sources.linear_forms import FormPuller, WeightUse
from moe_edge_converters.sources.recognition import PROBE_ROWS, compare_graphs, probe_inputs, recognise_mixture
from moe_edge_converters.sources.tracing import TracedModel, is_saved_model, trace_keras, trace_saved_model
from moe_edge_converters.spec import GraphNetwork, MixtureSpec

if TYPE_CHECKING:
    from moe_edge.training.archive import LoadedModel

Rows = npt.NDArray[np.float32]

PLAIN = "plain"
"""The manifest's provenance has ``form: plain`` for a model that was taken as it stands."""


@dataclass(frozen=True, kw_only=True)
class MixtureSource:
    """A mixture and where it came from.

    Attributes:
        spec: The mixture.
        predict: The source's own answers: float32 (n, ...) rows to float32 (n, K).
        schema: Columns and labels that travelled with it.
        provenance: What the manifest says of the source.
        record: What it was trained with, where it says.
        probe: Seeded rows that the source is known to take; None for our own models, whose columns say it.
    """

    spec: MixtureSpec
    predict: Callable[[Rows], Rows]
    schema: FeatureSchema | None = None
    provenance: dict[str, str]
    probe: Rows | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


def open_source(path: Path, *, unsafe: bool = False, custom_modules: Sequence[str] = ()) -> LoadedModel:
    """Load a model from disk.

    Args:
        path: A ``.keras`` file or a SavedModel folder.
        unsafe: Trust the file: its Lambda layers run code.
        custom_modules: Modules to import first because they define the model's own classes; the current folder is
            searched last.

    Returns:
        The model with what travelled with it; of a SavedModel the ``TracedModel`` alone.

    Raises:
        ModelFileError: If it can't be loaded.
        ConversionError: If a SavedModel can't be traced.
    """
    from moe_edge.training.archive import LoadedModel, load_model

    if path.is_dir():
        if not is_saved_model(path):
            raise ModelFileError(f"expected a .keras file or a SavedModel folder, got {path} without saved_model.pb")
        return LoadedModel(model=trace_saved_model(path), path=path)
    here = str(Path.cwd())
    if custom_modules and here not in sys.path:
        sys.path.append(here)
    return load_model(path, unsafe=unsafe, custom_modules=custom_modules)


def read_source(
    model: Any, *, rows: Any = None, fuse: bool = True, schema: FeatureSchema | None = None
) -> MixtureSource:
    """Turn a model into a mixture, and compare the two before anything is written.

    Args:
        model: A ``keras.Model``, a ``TracedModel``, or a path.
        rows: Raw rows, array-like (n, ...), to check numbers on; seeded ones when None.
        fuse: Whether to look for a mixture; otherwise the model is one network that only runs whole.
        schema: Columns and labels, when they are known; its task decides where the graph alone doesn't tell.

    Raises:
        ConversionError: If it isn't recognised: which step of the pattern is missing; or the numbers differ.
    """
    provenance: dict[str, str] = {}
    record: Mapping[str, Any] = {}
    if isinstance(model, (str, Path)):
        provenance["source"] = Path(model).name
        loaded = open_source(Path(model))
        model, schema, record = loaded.model, schema or loaded.schema, loaded.record
    if fuse and not isinstance(model, TracedModel) and is_own_mixture(model):
        return MixtureSource(
            spec=extract_mixture(model),
            predict=_keras_predict(model),
            schema=schema,
            provenance=provenance,
            record=record,
        )
    if isinstance(model, TracedModel):
        traced = model
    else:
        if np.issubdtype(_input_dtype(model), np.floating):
            check_answers_rows(model)
        traced = trace_keras(model)
    probe = _finite_rows(rows, traced.input_shape)
    if probe is None:
        probe = probe_inputs(FloatGraph(traced.content))
    if fuse:
        try:
            spec = recognise_mixture(traced.content, probe)
        except ConversionError as error:
            raise ConversionError(
                f"{error}; --no-fuse (fuse=False) converts the model as it is, to run whole"
            ) from error
    else:
        spec = plain_spec(traced.content, probe)
        provenance["form"] = PLAIN
    if schema is not None and spec.task is not schema.task:
        spec = replace(spec, task=schema.task)
    _compare(spec, traced, probe)
    return MixtureSource(spec=spec, predict=traced.predict, schema=schema, provenance=provenance, probe=probe)


def plain_spec(content: bytes, rows: Rows) -> MixtureSpec:
    """A traced model as it stands: one network that has all the weight, never routed.

    A closing softmax stays outside the network, so that it is float32 in every scheme.
    """
    graph = FloatGraph(content)
    cutter = NetworkCutter(FormPuller(graph, graph.constants), graph.x, WeightUse(), whole=True)
    last = graph.producers[graph.output]
    closing = last.kind == "SOFTMAX" and len(graph.shapes[graph.output]) == 2
    network = cutter.cut_tensor(last.inputs[0] if closing else graph.output)
    runner = GraphRunner(graph)
    answers = np.concatenate([runner.run(row, wanted=[graph.output])[graph.output] for row in rows]).reshape(
        len(rows), -1
    )
    sums = np.abs(answers.sum(axis=1) - 1).max() < 1e-4 and answers.min() >= 0 and answers.shape[1] > 1
    return MixtureSpec(
        task=Task.CLASSIFICATION if closing or sums else Task.REGRESSION,
        combine=Combine.LOGITS if closing else Combine.MEAN,
        input_shape=graph.shapes[graph.x][1:],
        gate=_constant_gate(graph.shapes[graph.x][1:]),
        experts=(replace(network, ends_in_softmax=False),),
        num_outputs=network.num_outputs,
    )


def _constant_gate(input_shape: tuple[int, ...]) -> GraphNetwork:
    """A gate for one expert: the softmax of a single value is 1."""
    model = new_model("all weight on one network")
    builder = GraphBuilder(model, "gate")
    x = builder.input("features", input_shape)
    value = builder.gather_columns(builder.flatten(x, name="flat"), [0], name="value")
    builder.subgraph.outputs.append(builder.softmax(value, name="one"))
    return GraphNetwork(model=pack(model), num_outputs=1, ends_in_softmax=True)


def _compare(spec: MixtureSpec, traced: TracedModel, rows: Rows) -> None:
    """The fused graph answers like the source itself, not only like its traced graph."""
    model, _ = build_fused_graph(spec, ["float32"] * spec.num_experts)
    excess = compare_graphs(pack(model), rows, traced.predict)
    if not excess <= 0:
        raise ConversionError(
            f"the fused graph differs from the source model by {excess:.2g} more than float32 rounding explains; "
            "the source may answer otherwise for one row than for several, or at random"
        )


def _finite_rows(rows: Any, shape: tuple[int, ...]) -> Rows | None:
    """A few of the user's rows, evenly spread, where they are usable; their shape is complained about later."""
    if rows is None:
        return None
    array = np.asarray(rows)
    if array.dtype.kind not in "fiub" or array.shape[1:] != shape:
        return None
    array = array.astype(np.float32)
    array = array[np.isfinite(array.reshape(len(array), -1)).all(axis=1)]
    if not len(array):
        return None
    picked: Rows = array[np.unique(np.linspace(0, len(array) - 1, PROBE_ROWS).astype(int))]
    return picked


def _input_dtype(model: Any) -> Any:
    inputs = getattr(model, "inputs", None)
    return np.dtype(inputs[0].dtype) if inputs and inputs[0].dtype != "bfloat16" else np.dtype(np.float32)


def _keras_predict(model: Any) -> Callable[[Rows], Rows]:
    def predict(rows: Rows) -> Rows:
        return np.asarray(model.predict(rows, verbose=0, batch_size=256), dtype=np.float32)

    return predict
