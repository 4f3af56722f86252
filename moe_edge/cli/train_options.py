"""The options of ``moe-edge train``, and the settings that they ask for.

No option has a default here: what isn't given comes from ``--config``, then from the configurations.
Layer: command line. Imports no Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE
from moe_edge.cli.option_sections import Command, add_options, option
from moe_edge.cli.part_spelling import SHAPE, PartType
from moe_edge.config import ACTIVATIONS, Combine, Recipe, Strategy, Task
from moe_edge.training_config import CLUSTERINGS, PIECES

Settings = dict[str, Any]

_TRAINING_KEYS = (
    *("recipe", "strategy", "epochs", "batch_size", "learning_rate", "label_smoothing"),
    *("patience", "em_iterations", "fine_tune_epochs", "seed"),
)
"""Fields of ``TrainingConfig`` that have an option of their name."""


def hidden_sizes(text: str) -> tuple[int, ...]:
    """Read ``64,32``, units of each hidden layer; an empty text means none."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected whole numbers joined by commas, such as 64,32, got {text!r}") from None


def edges(text: str) -> tuple[float, ...]:
    """Read ``0.3,0.7``, borders between ranges."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers joined by commas, such as 0.3,0.7, got {text!r}") from None


def names(text: str) -> tuple[str, ...]:
    """Read ``height,weight``, names of columns."""
    columns = tuple(part.strip() for part in text.split(",") if part.strip())
    if not columns:
        raise click.BadParameter(f"expected names of columns joined by commas, got {text!r}; leave it out for all")
    return columns


def _choice(members: Any) -> click.Choice[str]:
    return click.Choice([getattr(member, "value", member) for member in members])


_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_AT_LEAST_1 = click.IntRange(min=1)

_FILES = (
    option("--output", "-o", type=OUTPUT_FILE, help="Where to write the model.  [default: DATA's name, .keras]"),
    option(
        "--config",
        "config",
        type=EXISTING_FILE,
        help="Settings from a .toml, or those that a .keras was trained with; options given here come first.",
    ),
    option("--print-config", is_flag=True, help="Print all settings with their meaning as a .toml, and stop."),
)
_DATA = (
    option("--target", help="Target column; several joined by commas for a regression with several outputs."),
    option("--task", type=_choice(Task), help="Read off the target by default."),
    option("--drop", multiple=True, help="Column to leave out; may be given several times."),
    option("--categorical", multiple=True, help="Column of numbers to take as categories; several times."),
    option("--group", help="Column that names each row's group; groups are split whole. No feature."),
    option("--test-share", type=_SHARE, help="Share of the rows held out.  [default: 0.2]"),
    option("--validation-share", type=_SHARE, help="Share of the rest.  [default: 0.15]"),
)
_PIECES = (
    option(
        "--pieces",
        type=_choice(PIECES),
        help="One piece for each expert to start from.  [default: none for joint, clusters for staged and em]",
    ),
    option("--clustering", type=_choice(CLUSTERINGS), help="Method of --pieces clusters.  [default: kmeans]"),
    option("--subtask-column", metavar="COLUMN", help="Pieces by this column's values, or --ranges of them."),
    option("--ranges", type=edges, metavar="EDGES", help="Pieces by ranges of --subtask-column, such as 0.3,0.7."),
    option(
        "--overlap",
        type=click.FloatRange(0, 1),
        help="Share of a piece's rows that it also takes from beyond its border.  [default: 0]",
    ),
)
_EXPERTS = (
    option("--num-experts", type=click.IntRange(min=2), help="Experts, where all are alike.  [default: 5]"),
    option(
        "--expert",
        "experts",
        type=PartType("expert"),
        multiple=True,
        metavar=SHAPE,
        help="dense:64,32 or random_forest:max_depth=8 or conv2d:shape=8x8x1,filters=16x32. Given once: all experts; "
        "with count=N, or several times: those experts.",
    ),
    option("--expert-hidden", type=hidden_sizes, metavar="SIZES", help="Units of each expert.  [default: 64,32]"),
    option("--trunk", type=PartType("trunk"), metavar=SHAPE, help="What gate and experts share: a neural kind."),
    option("--trunk-units", type=_AT_LEAST_1, help="Features that the trunk gives.  [default: 32]"),
    option("--activation", type=click.Choice(ACTIVATIONS), help="Of hidden layers.  [default: relu]"),
)
_GATE = (
    option("--gate", type=PartType("gate"), metavar=SHAPE, help="dense:32, gaussian, decision_tree:max_depth=4, ..."),
    option("--gate-hidden", type=hidden_sizes, metavar="SIZES", help="Units of the gate.  [default: 32]"),
    option("--gate-features", type=names, metavar="COLUMNS", help="Columns that the gate sees.  [default: all]"),
    option("--top-k", type=_AT_LEAST_1, help="Experts that count for each row; 1 is a hard choice.  [default: all]"),
    option("--load-balancing-coef", type=float, help="[default: 0.1 x max(1, experts / 8); classical: 0]"),
    option("--entropy-coef", type=float, help="Weight of a row's entropy: fewer experts to run.  [default: 0]"),
    option("--z-loss-coef", type=float, help="Weight of the squared log of the normaliser.  [default: 0]"),
    option("--temperature", type=float, help="Divides the gate's logits; below 1 sharpens.  [default: 1]"),
)
_TRAINING = (
    option(
        "--combine",
        type=_choice(Combine),
        help="How answers are mixed.  [default: probabilities, or gaussian for a regression]",
    ),
    option(
        "--strategy",
        type=_choice(Strategy),
        help="joint: backpropagation through everything; staged: experts on their pieces, then the gate; em: "
        "expectation-maximisation.  [default: joint]",
    ),
    option("--recipe", type=_choice(Recipe), help="Loss and schedule.  [default: competitive]"),
    option("--epochs", type=_AT_LEAST_1, help="Most epochs.  [default: 100, or 300 below 1000 rows; classical: 10]"),
    option("--batch-size", type=_AT_LEAST_1, help="Rows a step.  [default: 64, or 32 below 1000 rows; classical: 32]"),
    option(
        "--learning-rate",
        type=float,
        help="Adam's step at the start.  [default: 0.002; linear experts: 0.01; classical: 0.001]",
    ),
    option("--label-smoothing", type=float, help="In [0, 1).  [default: 0.1; classical: 0]"),
    option("--patience", type=_AT_LEAST_1, help="Epochs without a better validation loss.  [default: 20]"),
    option("--em-iterations", type=_AT_LEAST_1, help="Most iterations of em.  [default: 30]"),
    option(
        "--fine-tune-epochs",
        type=click.IntRange(min=0),
        help="Most epochs of joint training after staged or em, or of sparse training with --top-k.  [default: 0; 5]",
    ),
    option("--seed", type=click.IntRange(min=0), help="Of split, initialisation, order of rows.  [default: 0]"),
)


def train_options(command: Command) -> Command:
    """Add the options, section by section, the four steps in their order."""
    sections: list[tuple[str, tuple[Callable[..., Any], ...]]] = [
        ("Files", _FILES),
        ("The data", _DATA),
        ("1. Split the problem", _PIECES),
        ("2. Train the experts", _EXPERTS),
        ("3. Train the gate", _GATE),
        ("4. Combine, and how all of it learns", _TRAINING),
    ]
    for title, options in reversed(sections):
        command = add_options(title, *options)(command)
    return command


def asked_settings(options: dict[str, Any]) -> Settings:
    """The settings that were given on the command line, and no others.

    Raises:
        click.UsageError: If options contradict each other.
    """
    experts, one = _experts(options)
    gate = dict(options["gate"] or {})
    gate |= _given(
        options,
        hidden="gate_hidden",
        num_experts="num_experts",
        features="gate_features",
        activation="activation",
        top_k="top_k",
        load_balancing_coef="load_balancing_coef",
        entropy_coef="entropy_coef",
        z_loss_coef="z_loss_coef",
        temperature="temperature",
    )
    trunk = dict(options["trunk"] or {}) | _given(options, units="trunk_units")
    if trunk:
        trunk = _given(options, activation="activation") | trunk
    mixture = _given(options, task="task", combine="combine") | _filled(expert=one, experts=experts)
    mixture |= _filled(gate=gate, trunk=trunk)
    training = _given(
        options,
        **{name: name for name in _TRAINING_KEYS},
    )
    training |= _filled(pieces=_pieces(options))
    shares = _given(options, target="target", group="group", test_share="test_share")
    data = shares | _given(options, validation_share="validation_share", drop="drop", categorical="categorical")
    return _filled(data=data, mixture=mixture, training=training)


def default_output(data: Path) -> Path:
    """Where the model goes when nobody says."""
    return Path(data.stem + ".keras")


def _experts(options: dict[str, Any]) -> tuple[list[Settings], Settings]:
    """Experts one by one, or what all of them are."""
    common = _given(options, hidden="expert_hidden", activation="activation")
    given = [{**common, **part} for part in options["experts"]]
    if not given:
        return [], common
    if len(given) == 1 and "count" not in given[0]:
        return [], given[0]
    counts = [part.pop("count", 1) for part in given]
    experts = [part for part, count in zip(given, counts, strict=True) for _ in range(count)]
    asked = options["num_experts"]
    if asked not in (None, len(experts)):
        raise click.UsageError(
            f"expected --expert to name as many experts as --num-experts {asked}, got {len(experts)}"
        )
    return experts, {}


def _pieces(options: dict[str, Any]) -> Settings:
    pieces = _given(
        options, by="pieces", method="clustering", column="subtask_column", edges="ranges", overlap="overlap"
    )
    if "by" not in pieces and ("column" in pieces or "edges" in pieces):
        pieces["by"] = "ranges" if "edges" in pieces else "column"
    by = pieces.get("by")
    if by in ("clusters", "confusion") and "column" in pieces:
        raise click.UsageError(f"--subtask-column goes with --pieces column or ranges, got --pieces {by}")
    if by not in (None, "clusters") and "method" in pieces:
        raise click.UsageError(f"--clustering goes with --pieces clusters, got pieces by {by}")
    return pieces


def _given(options: dict[str, Any], /, **keys: str) -> Settings:
    """Settings by their key where the option was given."""
    return {
        key: list(options[name]) if isinstance(options[name], tuple) else options[name]
        for key, name in keys.items()
        if options[name] is not None and not (name in ("drop", "categorical") and not options[name])
    }


def _filled(**tables: Any) -> Settings:
    return {name: table for name, table in tables.items() if table}
