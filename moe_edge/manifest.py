"""The manifest: what a .tflite written by moe-edge says of itself, as JSON in the file's metadata.

Schema-versioned; new kinds of models add *parts*, not versions.
Layer: shared. Imports the standard library, ``moe_edge.task``, ``schema``, ``strict``.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

from moe_edge.errors import ModelFileError
from moe_edge.schema import FeatureSchema
from moe_edge.strict import from_dict, to_dict
from moe_edge.task import Combine, Task

FORMAT_VERSION = 1
MANIFEST_NAME = "moe_edge_manifest"
"""Name of the TFLite metadata entry whose buffer holds the manifest's JSON."""
HASH_NAME = "moe_edge_sha256"
"""Name of the metadata entry whose 64-byte buffer holds two SHA-256 digests, see ``moe_edge.runtime.model_file``."""


class Role(str, enum.Enum):
    """What a part does in the mixture."""

    PREPROCESS = "preprocess"
    TRUNK = "trunk"
    GATE = "gate"
    EXPERT = "expert"
    COMBINE = "combine"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the mixture.

    Attributes:
        id: Unique in the file: ``gate``, ``expert_3``, ...
        role: What it does.
        parent: The id of the part that it belongs to, or None.
        scheme: How its weights and activations are stored: ``float32``, ``w8a8``, ...
        signature: The signature that runs it alone, or None where only the whole graph holds it.
        usage: Mean gate weight on the training rows (experts), or None.
    """

    id: str
    role: Role
    parent: str | None = None
    scheme: str = "float32"
    signature: str | None = None
    usage: float | None = None


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Rows and the answers that the file gave on the machine that wrote it.

    Attributes:
        inputs: Raw rows; None stands for a missing value (JSON has no NaN).
        predictions: The file's ``prediction`` for each row.
        routing_weights: Its ``routing_weights`` for each row; None in files that were written before they were stored.
    """

    inputs: tuple[tuple[float | None, ...], ...] = ()
    predictions: tuple[tuple[float, ...], ...] = ()
    routing_weights: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the file holds and how it may be run.

    Attributes:
        task: Classification or regression.
        combine: How the experts' answers are mixed; decides whether routing is safe.
        num_experts: Experts in the mixture.
        scheme: The scheme asked for.
        per_tensor: Whether weights have one scale a tensor instead of one a channel.
        schema: Columns, categories, target, labels.
        parts: The parts, gate and experts among them.
        input_shape: Shape of one row as the graph takes it, without the batch.
        top_k: Experts that count for each row as trained, None for all.
        mass: Gate mass at which routed execution may stop, None where not measured.
        calibration: What the quantizer was shown: rows, rows for each expert.
        golden: Rows with the answers of the machine that wrote the file.
        tools: Versions of the tools that wrote it.
        provenance: Free text fields: source model, its hash, licence, ...
        io: ``float32``, or ``int8``: then the graph takes int8 features (after preprocessing) and gives int8 answers.
        layout: How the fused graph lays its experts out.
        extras: Room for what later kinds record (ladders, thresholds); never needed to run the file.
        format_version: Version of this schema.
    """

    task: Task
    combine: Combine
    num_experts: int
    scheme: str
    schema: FeatureSchema
    parts: tuple[Part, ...]
    input_shape: tuple[int, ...]
    per_tensor: bool = False
    top_k: int | None = None
    mass: float | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    golden: Golden = field(default_factory=Golden)
    tools: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    io: str = "float32"
    layout: str = "fully_connected"
    extras: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """Compact UTF-8 JSON without default values; the same manifest gives the same bytes."""
        content = {"format_version": self.format_version, **to_dict(self, omit_defaults=True)}
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes, *, source: str) -> Manifest:
        """Read a manifest back, strictly.

        Args:
            content: What ``to_json`` gave.
            source: The file that it came from, for messages.

        Raises:
            ModelFileError: If it isn't JSON, a key is wrong, or a newer moe-edge wrote it.
        """
        try:
            data = json.loads(content)
            version = data.get("format_version") if isinstance(data, dict) else None
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise ModelFileError(
                    f"{source}: expected manifest version {FORMAT_VERSION} or older, got {version}; upgrade moe-edge"
                )
            return from_dict(cls, data, where="manifest")
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelFileError(
                f"{source}: the manifest inside can't be read: {error}; convert the model again"
            ) from error
