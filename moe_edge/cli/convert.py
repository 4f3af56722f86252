"""``moe-edge convert``: a Keras mixture to one .tflite file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.errors import DataError, require
from moe_edge.strict import to_dict
from moe_edge_converters.schemes import Scheme

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from moe_edge_converters.conversion import ConversionResult

_SCHEMES = click.Choice([scheme.value for scheme in Scheme])


def _parse_expert_schemes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[int, Scheme]:
    """Read ``INDEX=SCHEME`` pairs."""
    schemes = {}
    for value in values:
        index, separator, name = value.partition("=")
        if not separator or not index.isdigit() or name not in [scheme.value for scheme in Scheme]:
            raise click.BadParameter(f"expected INDEX=SCHEME, such as 3=w4, got {value!r}")
        schemes[int(index)] = Scheme(name)
    return schemes


@click.command(epilog="Schemes: " + "; ".join(f"{scheme.value}: {scheme.summary}" for scheme in Scheme) + ".")
@click.argument("model", type=EXISTING_FILE)
@click.argument("data", type=EXISTING_FILE, required=False)
@click.option(
    "-o", "--output", type=OUTPUT_FILE, help="The .tflite to write.  [default: MODEL with the ending .tflite]"
)
@click.option("--scheme", type=_SCHEMES, default="w8a8", show_default=True, help="How the experts are stored.")
@click.option(
    "--gate-scheme",
    type=_SCHEMES,
    default="float32",
    show_default=True,
    help="How the gate is stored; a rounded gate sends rows to other experts, for few bytes saved.",
)
@click.option(
    "--expert-scheme",
    "expert_schemes",
    multiple=True,
    metavar="INDEX=SCHEME",
    callback=_parse_expert_schemes,
    help="A scheme for one expert, such as 3=w4; repeat for more.",
)
@click.option("--per-tensor", is_flag=True, help="One scale a weight tensor, for hosts without per-channel weights.")
@click.option(
    "--self-contained", is_flag=True, help="Share no bytes between signatures, for microcontrollers and unknown hosts."
)
@click.option(
    "--all-rows", is_flag=True, help="Calibrate on all rows of DATA, though MODEL was trained on another table."
)
@output_options
def command(
    model: Path,
    data: Path | None,
    output: Path | None,
    *,
    scheme: str,
    gate_scheme: str,
    expert_schemes: dict[int, Scheme],
    per_tensor: bool,
    self_contained: bool,
    all_rows: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert the Keras MODEL to one fused .tflite file, and run the file.

    DATA is the table that MODEL was trained on: calibration uses the rows that training used, as remembered in MODEL.
    float16, float32 and dynamic_w8 need no DATA.
    """
    output = output or model.with_suffix(".tflite")
    calibrated = [name for name in (scheme, gate_scheme, *expert_schemes.values()) if Scheme(name).needs_calibration]
    if data is None and calibrated:
        raise click.UsageError(
            f"--scheme {Scheme(calibrated[0]).value} calibrates on DATA, the table that the model was trained on; float16 needs none"
        )
    check_writable(output, suffix=".tflite")
    require("tensorflow", extra="desktop", purpose="convert")
    require("ai_edge_quantizer", extra="desktop", purpose="convert")
    from moe_edge_converters.conversion import STAGES, convert

    report = Reporter(as_json=as_json, quiet=quiet)
    with report.progress(f"Converting {model.name}", total=STAGES) as advance:
        loaded, rows = _load(model, data, all_rows=all_rows)
        result = convert(
            loaded.model,
            output,
            calibration=rows,
            scheme=scheme,
            gate_scheme=gate_scheme,
            expert_schemes=expert_schemes,
            per_tensor=per_tensor,
            self_contained=self_contained,
            schema=loaded.schema,
            provenance={"source": model.name},
            progress=advance,
        )
    _show(report, result, model, data)


def _load(model: Path, data: Path | None, *, all_rows: bool) -> tuple[Any, npt.NDArray[np.float32] | None]:
    """The model with its schema, and the training rows of the table."""
    from moe_edge.training.archive import load_model, match_split
    from moe_edge.training.data import encode_dataset

    loaded = load_model(model)
    if data is None:
        return loaded, None
    if loaded.schema is None:
        return loaded, _plain_rows(data, loaded.model)
    dataset = encode_dataset(data, loaded.schema)
    if all_rows or loaded.split is None:
        return loaded, dataset.features
    return loaded, dataset.features[match_split(loaded, dataset).train]


def _plain_rows(data: Path, model: Any) -> npt.NDArray[np.float32]:
    """All rows of a table for a Keras model from elsewhere, which knows no columns: numbers, in the table's order."""
    import numpy as np

    from moe_edge.schema import Column
    from moe_edge.training.columns import encode_column
    from moe_edge.training.tables import read_table

    table = read_table(data)
    shape = tuple(int(size) for size in model.inputs[0].shape[1:])
    names = list(table.names)[: int(np.prod(shape))]
    rows = np.stack([encode_column(Column(name=name), table.column(name)) for name in names], axis=1)
    if rows.shape[1] != np.prod(shape):
        raise DataError(
            f"{data}: expected at least {int(np.prod(shape))} columns for {model.name}, got {rows.shape[1]}"
        )
    return rows.reshape(-1, *shape)


def _show(report: Reporter, result: ConversionResult, model: Path, data: Path | None) -> None:
    check = result.check
    report.document(
        {
            "path": str(result.path),
            "num_bytes": result.num_bytes,
            "scheme": result.manifest.scheme,
            "rows_checked": check.num_rows,
            "max_abs_error": check.max_abs_error,
            "top1_agreement": check.top1_agreement,
            "coverage": None if result.coverage is None else to_dict(result.coverage),
        }
    )
    if result.coverage is not None:
        report.table(
            f"Calibration: {result.coverage.num_rows} rows",
            ("expert", "own rows", "used rows"),
            [
                (f"expert_{index}", own, used)
                for index, (own, used) in enumerate(zip(result.coverage.own, result.coverage.used, strict=True))
            ],
        )
    agreement = "" if check.top1_agreement is None else f", same class for {check.top1_agreement:.1%}"
    report.say(f"Wrote {result.path}: {result.num_bytes:,} bytes, {result.manifest.scheme}")
    report.say(f"Ran it on {check.num_rows} rows: largest difference from Keras {check.max_abs_error:.2g}{agreement}")
    table = data if data is not None else "DATA"
    report.next_command(f"moe-edge validate {model} {result.path} {table}")
