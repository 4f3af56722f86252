"""The whole job in pictures: mixture, training, experts by class, schemes, Keras against the file, on one page.

Layer: desktop (pictures). Imports matplotlib, NumPy and the shared modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.config import MixtureConfig
from moe_edge.parity import Answers
from moe_edge.pictures.curves import draw_training_curves
from moe_edge.pictures.heatmaps import draw_confusion, draw_usage_by_class
from moe_edge.pictures.mixture import MixtureDrawing, draw_mixture
from moe_edge.pictures.page import JOB_PAGE, Section, write_page
from moe_edge.pictures.schemes import SchemeResult, draw_schemes
from moe_edge.schema import FeatureSchema


@dataclass(frozen=True, kw_only=True, eq=False)
class JobFigures:
    """What a finished classification job knows of itself.

    Attributes:
        title: Heading of the page.
        schema: Columns, target and labels.
        config: The mixture.
        usage: Mean gate weight of each expert on the training rows.
        history: Keras' history of the training.
        best_epoch: The epoch whose weights were kept, counted from 1.
        schemes: One result a scheme.
        shown_scheme: The scheme whose answers are shown.
        keras: Keras' answers to the held-out rows.
        tflite: The answers of the file of ``shown_scheme``.
        targets: The held-out rows' class codes, shape (rows,).
        explained: A few answers: row, label, confidence, experts.
        machine: What ran it: processor, versions, date.
        commands: What to type next.
    """

    title: str
    schema: FeatureSchema
    config: MixtureConfig
    usage: Sequence[float]
    history: Mapping[str, Sequence[float]]
    best_epoch: int
    schemes: Sequence[SchemeResult]
    shown_scheme: str
    keras: Answers
    tflite: Answers
    targets: npt.NDArray[np.int64]
    explained: Sequence[Sequence[str]]
    machine: str
    commands: Sequence[str]


def write_job_report(figures: JobFigures, folder: Path) -> Path:
    """Draw all pictures into ``folder`` and write ``JOB_PAGE`` there.

    Returns:
        The page.

    Raises:
        MoeEdgeError: If the folder can't be written.
    """
    labels, config = figures.schema.labels, figures.config
    keras_codes = np.asarray(figures.keras.prediction).argmax(axis=1)
    tflite_codes = np.asarray(figures.tflite.prediction).argmax(axis=1)
    num_experts = len(figures.usage)
    mixture = draw_mixture(
        MixtureDrawing(
            feature_names=figures.schema.names,
            answer=f"{figures.schema.target}: one of {len(labels)} labels",
            expert_layers=(*config.expert.hidden, len(labels)),
            gate_layers=(*config.gate.hidden, num_experts),
            usage=figures.usage,
            caption="Percent and line width: how much each expert counts on average over the training rows",
        ),
        folder / "mixture.png",
    )
    curves = draw_training_curves(figures.history, folder / "training.png", best_epoch=figures.best_epoch)
    usage = draw_usage_by_class(
        figures.tflite.routing_weights, figures.targets, labels, folder / "experts.png", row_title=figures.schema.target
    )
    schemes = draw_schemes(figures.schemes, folder / "schemes.png")
    confusion = draw_confusion(
        keras_codes, tflite_codes, labels, folder / "keras-vs-tflite.png", scheme=figures.shown_scheme
    )
    sections = (
        Section(
            title="1  Split the problem: a mixture of experts",
            paragraphs=(
                f"Every row goes to {num_experts} small networks, the experts, and to one more, the gating network. "
                "The gate looks at the row and gives each expert a weight; the weights of a row add up to 1. "
                "The answer is the weighted sum of what the experts say.",
                "Thick lines belong to experts that count much. An expert with almost no weight would be dead: "
                "bytes that answer nothing.",
            ),
            picture=mixture,
            caption=f"The mixture: {len(figures.schema.names)} features, {num_experts} experts, their mean weights.",
        ),
        Section(
            title="2  Train experts and gate together",
            paragraphs=(
                "The loss rewards the mixture's answer and, at the same time, each expert for the rows that the gate "
                "gives it: so experts specialise. A balancing term keeps all of them in use.",
                f"Validation rows, which training doesn't see, choose the epoch that is kept: {figures.best_epoch}.",
            ),
            picture=curves,
            caption="Loss and accuracy, epoch by epoch, on training and validation rows.",
        ),
        Section(
            title="3  The gate sends rows to experts",
            paragraphs=(
                "Nobody told the experts what to learn. The map shows what each ended up with: the weight that the "
                "gate in the .tflite file gives it, on average, over the held-out rows of each "
                f"{figures.schema.target}.",
            ),
            picture=usage,
            caption="Mean gate weight of each expert for each class, held-out rows.",
        ),
        Section(
            title="4  Combine, shrink, and check",
            paragraphs=(
                "The whole mixture is one .tflite file. A scheme says how its numbers are stored: int8 weights take "
                "a quarter of the bytes of float32. Accuracy is the share of held-out rows with the right label; "
                "agreement is the share with the same label as the Keras model.",
                f"Times are for one row at a time, checks included, on {figures.machine}.",
            ),
            header=("scheme", "bytes", "accuracy", "agreement", "µs per row"),
            rows=[
                (r.scheme, f"{r.num_bytes:,}", f"{r.accuracy:.2%}", f"{r.agreement:.2%}", f"{r.row_us:.1f}")
                for r in figures.schemes
            ],
            picture=schemes,
            caption="Bytes, accuracy, agreement and time of each scheme.",
        ),
        Section(
            title="Does the file answer like the model?",
            paragraphs=(
                f"Each held-out row went through Keras and through the {figures.shown_scheme} file. Pale blue cells "
                "hold rows with the same label from both; a row with different labels is an orange cell elsewhere.",
            ),
            picture=confusion,
            caption=f"Labels by Keras against labels by the {figures.shown_scheme} file, held-out rows.",
        ),
        Section(
            title="Answers that name their experts",
            paragraphs=("A few held-out rows, answered by the file alone, without TensorFlow:",),
            header=("row", "label", "confidence", "experts that spoke"),
            rows=figures.explained,
        ),
        Section(
            title="Your turn",
            paragraphs=("The same job by the commands, here on this table; put your own in its place:",),
            commands=figures.commands,
        ),
    )
    lead = (
        "A Mixture of Experts was trained in Keras, converted to one small .tflite file in several schemes, compared "
        "with the trained model on rows that training never saw, and asked for answers."
    )
    return write_page(folder / JOB_PAGE, title=figures.title, lead=lead, sections=sections)
