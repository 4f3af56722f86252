"""``moe-edge convert``: a Keras mixture to one .tflite file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, EXISTING_PATH, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.conversion_checks import check_early, failures_on_validation_rows
from moe_edge.cli.conversion_report import report_conversion
from moe_edge.cli.conversion_rows import read_rows
from moe_edge.cli.interruption import will_write
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.cli.source_options import source_options
from moe_edge.errors import require
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import AUTO, Scheme
from moe_edge_converters.targets.target import Target

_SCHEMES = click.Choice([scheme.value for scheme in Scheme])
_EXPERT_SCHEMES = click.Choice([*(scheme.value for scheme in Scheme), AUTO])


def _parse_expert_schemes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[int, Scheme]:
    """Read ``INDEX=SCHEME`` pairs."""
    schemes = {}
    for value in values:
        index, separator, name = value.partition("=")
        if not separator or not index.isdigit() or name not in [scheme.value for scheme in Scheme]:
            raise click.BadParameter(f"expected INDEX=SCHEME, such as 3=w4, got {value!r}")
        schemes[int(index)] = Scheme(name)
    return schemes


_EPILOG = "Schemes: " + "; ".join(f"{scheme.value}: {scheme.summary}" for scheme in Scheme) + ".\n\n"
_EPILOG += "Targets: " + "; ".join(f"{target.value}: {target.summary}" for target in Target) + "."


@click.command(epilog=_EPILOG)
@click.argument("model", type=EXISTING_PATH)
@click.argument("data", type=EXISTING_FILE, required=False)
@click.option(
    "-o", "--output", type=OUTPUT_FILE, help="The .tflite to write.  [default: MODEL with the ending .tflite]"
)
@click.option(
    "--scheme",
    type=_EXPERT_SCHEMES,
    default="w8a8",
    show_default=True,
    help="How the experts are stored; auto: the smallest file within the budget.",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Budget of auto in percentage points of accuracy on validation rows (classification).",
)
@click.option(
    "--max-rmse-rise",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Budget of auto in percent of RMSE on validation rows (regression).",
)
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
    "--routed/--fused-only",
    default=None,
    help="Write signatures that run experts one by one, or only the fused graph.  [default: routed where safe]",
)
@click.option(
    "--top-k", type=click.IntRange(1), help="Let only so many experts count for each row.  [default: all of them]"
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "fully_connected", "gather"]),
    default="auto",
    show_default=True,
    help="Compute all experts, or gather the chosen ones (float32 with --top-k); auto takes the faster.",
)
@click.option(
    "--io",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="Input and output of the graph; int8 takes preprocessed features, and needs w8a8.",
)
@click.option(
    "--target",
    type=click.Choice([target.value for target in Target]),
    default=Target.LITERT.value,
    show_default=True,
    help="Where the file is meant to run: it is run there or checked, and refused if it answers otherwise.",
)
@click.option(
    "--self-contained", is_flag=True, help="Share no bytes between signatures, for microcontrollers and unknown hosts."
)
@click.option(
    "--no-fuse", is_flag=True, help="Convert a model that is no mixture as it is; it runs whole, never routed."
)
@click.option(
    "--all-rows", is_flag=True, help="Calibrate on all rows of DATA, though MODEL was trained on another table."
)
@source_options
@output_options
def command(
    model: Path,
    data: Path | None,
    output: Path | None,
    *,
    scheme: str,
    max_accuracy_drop: float,
    max_rmse_rise: float,
    gate_scheme: str,
    expert_schemes: dict[int, Scheme],
    per_tensor: bool,
    routed: bool | None,
    top_k: int | None,
    layout: str,
    io: str,
    target: str,
    self_contained: bool,
    no_fuse: bool,
    custom_modules: tuple[str, ...],
    unsafe_load: bool,
    all_rows: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert the Keras MODEL to one fused .tflite file, and run the file.

    MODEL is a .keras file, one of ours or any classical mixture (a softmax gate weighs the answers of experts with
    weights of their own, in a sum), or a SavedModel folder with one.

    DATA is the table that MODEL was trained on: calibration uses the rows that training used, as remembered in MODEL.
    float16, float32 and dynamic_w8 need no DATA.
    """
    output = output or model.with_suffix(".tflite")
    asked = [gate_scheme, *(chosen.value for chosen in expert_schemes.values()), scheme]
    calibrated = [name for name in asked if name == AUTO or Scheme(name).needs_calibration]
    if scheme == AUTO and expert_schemes:
        raise click.UsageError("--scheme auto chooses every expert's scheme; drop --expert-scheme")
    if data is None and calibrated:
        raise click.UsageError(
            f"{calibrated[0]} calibrates on DATA, the table that the model was trained on; "
            "give it, or choose --scheme float16, which needs none"
        )
    check_writable(output, suffix=".tflite")
    will_write(output)
    if scheme != AUTO:
        check_early(
            model,
            ConversionOptions(
                scheme=Scheme(scheme),
                gate_scheme=Scheme(gate_scheme),
                expert_schemes=expert_schemes,
                routed=routed,
                top_k=top_k,
                target=Target(target),
            ),
        )
    require("tensorflow", extra="desktop", purpose="convert")
    require("ai_edge_quantizer", extra="desktop", purpose="convert")
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge_converters.answer_check import start_runtime
    from moe_edge_converters.conversion import STAGES, convert
    from moe_edge_converters.schemes.scheme_ladder import Budget
    from moe_edge_converters.sources.source import open_source

    with hide_native_notices():
        start_runtime()
    report = Reporter(as_json=as_json, quiet=quiet)
    with report.progress(f"Converting {model.name}", total=STAGES) as advance:
        loaded = open_source(model, unsafe=unsafe_load, custom_modules=custom_modules)
        rows = read_rows(loaded, data, all_rows=all_rows, needs_target=scheme == AUTO)
        result = convert(
            loaded.model,
            output,
            calibration=rows.training,
            fuse=not no_fuse,
            scheme=scheme,
            gate_scheme=gate_scheme,
            expert_schemes=expert_schemes,
            per_tensor=per_tensor,
            routed=routed,
            top_k=top_k,
            layout=layout,
            io=io,
            target=target,
            self_contained=self_contained,
            schema=loaded.schema,
            provenance={"source": model.name},
            record=loaded.record,
            training_target=rows.training_target,
            validation=rows.validation,
            budget=Budget(max_accuracy_drop=max_accuracy_drop, max_rmse_rise=max_rmse_rise),
            progress=advance,
        )
    failures = failures_on_validation_rows(loaded, result, rows, top_k=top_k)
    picture = None
    if result.ladder is not None:
        from moe_edge.pictures.ladder import draw_ladder

        picture = draw_ladder(result.ladder.record(), output.with_suffix(".ladder.png"), task=result.manifest.task)
    table = data if data is not None else "DATA"
    loading = "".join(f" --import {name}" for name in custom_modules) + (" --unsafe-load" if unsafe_load else "")
    following = f"moe-edge validate {model} {result.path} {table}{loading}"
    report_conversion(
        report, result, rows_are=rows.description, failures=failures, next_command=following, picture=picture
    )
