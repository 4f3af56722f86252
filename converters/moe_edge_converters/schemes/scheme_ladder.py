"""``--scheme auto``: the smallest file that keeps its accuracy on validation rows.

The gate stays float32 in every candidate, so routes never flip; experts get the schemes in which their error costs the
mixture least for the bytes saved (a multiple-choice knapsack, solved for a sweep of prices). Candidates are tried from
the smallest up and accepted on the metric, the routes and the worst class.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge_converters.assembly import Assembly, assemble
from moe_edge_converters.file_writer import pack, serialize
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.expert_errors import SchemeCosts, measure_costs
from moe_edge_converters.schemes.gate_refit import refit_gate
from moe_edge_converters.schemes.ladder_trial import Trial, run_trial
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import DenseNetwork, MixtureSpec
from moe_edge_converters.targets.target_options import can_run, fit_options

Rows = npt.NDArray[np.float32]
Progress = Callable[[int, str], None]

LADDER_SCHEMES = (Scheme.FLOAT32, Scheme.FLOAT16, Scheme.W8A16, Scheme.W8A8, Scheme.DYNAMIC_W8, Scheme.W4)
"""What an expert may be stored in, float32 first."""

MAX_MIXED_CANDIDATES = 12
"""Mixed files to try: the sweep gives up to one a price; more only repeat neighbours."""

MIN_ROUTE_AGREEMENT = 0.99
"""Share of validation rows whose strongest expert must stay the same; only a re-fitted gate can move any."""

NARROW_ROWS = 3
"""A candidate that misses the budget by at most so many rows gets its gate re-fitted before it is given up."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the smaller file may lose on validation rows.

    Attributes:
        max_accuracy_drop: Percentage points (classification). On few rows at least one row may be lost: one of 188
            validation rows is 0.53 points, and no sample of that size can tell 0.5 from 0.
        max_rmse_rise: Percent of the float32 model's RMSE (regression).
    """

    max_accuracy_drop: float = 0.5
    max_rmse_rise: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_accuracy_drop <= 100:
            raise ValueError(f"expected 0 <= max_accuracy_drop <= 100 points, got {self.max_accuracy_drop}")
        if not 0 <= self.max_rmse_rise < float("inf"):
            raise ValueError(f"expected max_rmse_rise >= 0 percent, got {self.max_rmse_rise}")

    def rows(self, num_rows: int) -> int:
        """Rows that may be lost of ``num_rows``."""
        return max(1, int(self.max_accuracy_drop * num_rows / 100))


@dataclass(frozen=True, kw_only=True)
class LadderData:
    """The rows that the search needs.

    Attributes:
        train_rows, train_target: Calibration and re-fitting of the gate.
        validation_rows, validation_target: What candidates are accepted on; never the test rows.
    """

    train_rows: Rows
    train_target: npt.NDArray[Any]
    validation_rows: Rows
    validation_target: npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One candidate of the ladder.

    Attributes:
        schemes: Each expert's scheme.
        refitted: Whether its gate was re-fitted.
        trial: How it did on validation rows.
        accepted: Whether it is within the budget.
        reason: Why not, in words.
    """

    schemes: tuple[Scheme, ...]
    refitted: bool
    trial: Trial
    accepted: bool
    reason: str = ""

    @property
    def name(self) -> str:
        """``w4`` for a uniform file, ``3 w4 + 2 float16`` for a mixed one."""
        counts = {scheme: self.schemes.count(scheme) for scheme in dict.fromkeys(self.schemes)}
        if len(counts) == 1:
            text = self.schemes[0].value
        else:
            text = " + ".join(f"{count} {scheme.value}" for scheme, count in counts.items())
        return text + (", gate re-fitted" if self.refitted else "")


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The search's outcome.

    Attributes:
        rungs: Every candidate that was tried, from the smallest file up; the last is float32.
        chosen: The smallest accepted one.
        spec: The mixture to convert: the source's, or with its gate re-fitted.
        options: The options to convert it with.
    """

    rungs: tuple[Rung, ...]
    chosen: Rung
    spec: MixtureSpec
    options: ConversionOptions

    def record(self) -> list[dict[str, Any]]:
        """The rungs as JSON values, for the manifest."""
        return [
            {
                "schemes": rung.name,
                "bytes": rung.trial.num_bytes,
                "metric": float(f"{rung.trial.metric:.6g}"),
                "agreement": float(f"{rung.trial.agreement:.6g}"),
                "route_flips": rung.trial.route_flips,
                "us": round(rung.trial.latency_us, 1),
                "accepted": rung.accepted,
                "chosen": rung is self.chosen,
            }
            for rung in self.rungs
        ]


def search_schemes(
    spec: MixtureSpec,
    data: LadderData,
    budget: Budget,
    *,
    options: ConversionOptions,
    progress: Progress | None = None,
) -> Ladder:
    """Find the smallest file within a budget.

    Args:
        spec: The mixture; one that may not run routed gets uniform candidates only.
        data: Training and validation rows with their targets.
        budget: What may be lost.
        options: Everything but the schemes.
        progress: Called with (0, what is tried).

    Raises:
        ConversionError: If there are no validation rows.
    """
    if not len(data.validation_rows):
        raise ConversionError("--scheme auto decides on validation rows, got none; give the training table")
    notify = progress or (lambda steps, note: None)
    search = _Search(spec, data, budget, options)
    notify(0, "measuring each expert in each scheme")
    candidates = search.candidates()
    rungs: list[Rung] = []
    chosen: tuple[Rung, MixtureSpec] | None = None
    # The smallest accepted file is chosen; the larger ones are tried all the same, because the ladder shows what
    # another budget would buy.
    for schemes in candidates:
        rung = search.try_schemes(schemes, spec)
        notify(0, f"{rung.name}: {rung.trial.num_bytes:,} bytes")
        rungs.append(rung)
        if chosen is None and not rung.accepted:
            refitted = search.refit(rung)
            if refitted is not None:
                rungs.append(refitted[0])
                chosen = refitted if refitted[0].accepted else None
        elif chosen is None:
            chosen = rung, spec
    if chosen is None:
        closest = max(rungs, key=lambda rung: (rung.trial.correct, -rung.trial.metric))
        raise ConversionError(
            f"no file for {options.target.value} is within the budget; the closest, {closest.name}: {closest.reason}; "
            "allow more with --max-accuracy-drop or --max-rmse-rise"
        )
    return Ladder(rungs=tuple(rungs), chosen=chosen[0], spec=chosen[1], options=search.options_for(chosen[0].schemes))


class _Search:
    """One search: the float32 file as the yardstick, and the candidates."""

    def __init__(self, spec: MixtureSpec, data: LadderData, budget: Budget, options: ConversionOptions) -> None:
        self.spec, self.data, self.budget, self.options = spec, data, budget, options
        self.uniform: dict[Scheme, Assembly] = {}
        # The yardstick is float32 on LiteRT, whether or not the target could run it.
        float_options = replace(options, scheme=Scheme.FLOAT32, expert_schemes={}, gate_scheme=Scheme.FLOAT32)
        self.float_assembly = assemble(spec, float_options, None)
        self.float_trial = self._trial(self.float_assembly)

    def candidates(self) -> list[tuple[Scheme, ...]]:
        """Each expert's scheme, for every file worth trying, the smallest first; float32 is last where it may run."""
        count = self.spec.num_experts
        uniform = [(scheme,) * count for scheme in LADDER_SCHEMES]
        mixed: list[tuple[Scheme, ...]] = []
        if self.spec.combine.routable:
            costs, self.uniform = measure_costs(self.spec, self.data.train_rows, LADDER_SCHEMES, self.options)
            mixed = sweep_prices(costs)
        target = self.options.target
        runnable = [
            schemes
            for schemes in dict.fromkeys([*uniform, *mixed])
            if all(can_run(scheme, target) for scheme in schemes)
        ]
        sizes = {schemes: self._size(schemes) for schemes in runnable}
        exact = uniform[0]
        most = sizes.get(exact, len(_content(self.float_assembly)))
        below = sorted((each for each in sizes if each != exact and sizes[each] < most), key=lambda each: sizes[each])
        if exact not in sizes and not below:
            raise ConversionError(f"no scheme that runs on {target.value} makes this mixture smaller than float32")
        return [*below, exact] if exact in sizes else below

    def try_schemes(self, schemes: tuple[Scheme, ...], spec: MixtureSpec, *, refitted: bool = False) -> Rung:
        """Build a candidate and judge it on validation rows."""
        trial = self._trial(assemble(spec, self.options_for(schemes), self.data.train_rows))
        reason = self._refusal(trial)
        return Rung(schemes=schemes, refitted=refitted, trial=trial, accepted=not reason, reason=reason)

    def refit(self, rung: Rung) -> tuple[Rung, MixtureSpec] | None:
        """Re-fit the gate to the quantized experts where that may be enough; None where it can't."""
        if not (
            self._is_narrow(rung.trial) and self.spec.combine.routable and isinstance(self.spec.gate, DenseNetwork)
        ):
            return None
        # The experts' own signatures tell what they answer, whether or not the file will have them.
        routed = replace(self.options_for(rung.schemes), routed=True)
        assembly = assemble(self.spec, routed, self.data.train_rows)
        gate = refit_gate(self.spec, assembly, self.data.train_rows, self.data.train_target)
        spec = replace(self.spec, gate=gate)
        return self.try_schemes(rung.schemes, spec, refitted=True), spec

    def options_for(self, schemes: tuple[Scheme, ...]) -> ConversionOptions:
        """The options that give each expert its scheme."""
        most = max(dict.fromkeys(schemes), key=schemes.count)
        others = {index: scheme for index, scheme in enumerate(schemes) if scheme is not most}
        return fit_options(replace(self.options, scheme=most, expert_schemes=others, gate_scheme=Scheme.FLOAT32))

    def _size(self, schemes: tuple[Scheme, ...]) -> int:
        """Bytes of the file without manifest."""
        if len(set(schemes)) == 1 and schemes[0] in self.uniform:
            return len(_content(self.uniform[schemes[0]]))
        return len(_content(assemble(self.spec, self.options_for(schemes), self.data.train_rows)))

    def _trial(self, assembly: Assembly) -> Trial:
        return run_trial(
            _content(assembly),
            self.data.validation_rows,
            self.data.validation_target,
            task=self.spec.task,
            reference=None if assembly is self.float_assembly else self.float_trial,
        )

    def _refusal(self, trial: Trial) -> str:
        """Why a candidate is out of the budget; empty when it is within."""
        exact, num_rows = self.float_trial, len(self.data.validation_rows)
        if trial.route_agreement < MIN_ROUTE_AGREEMENT:
            return f"routes: {trial.route_agreement:.1%} of rows keep their expert, expected {MIN_ROUTE_AGREEMENT:.0%}"
        if self.spec.task is Task.REGRESSION:
            rise = 100 * (trial.metric / max(exact.metric, 1e-12) - 1)
            return f"RMSE rises {rise:.2f} %" if rise > self.budget.max_rmse_rise else ""
        lost, allowed = exact.correct - trial.correct, self.budget.rows(num_rows)
        if lost > allowed:
            return f"loses {lost} of {num_rows} rows, {allowed} allowed"
        for name, before, after in zip(exact.class_names, exact.class_correct, trial.class_correct, strict=True):
            # The whole loss, and one row more, may not fall on one class.
            if before - after > allowed + 1:
                return f"class {name} loses {before - after} rows, {allowed + 1} allowed"
        return ""

    def _is_narrow(self, trial: Trial) -> bool:
        if self.spec.task is Task.REGRESSION:
            return trial.metric <= self.float_trial.metric * (1 + 2 * self.budget.max_rmse_rise / 100)
        allowed = self.budget.rows(len(self.data.validation_rows))
        return self.float_trial.correct - trial.correct <= allowed + NARROW_ROWS


def sweep_prices(costs: SchemeCosts, *, limit: int = MAX_MIXED_CANDIDATES) -> list[tuple[Scheme, ...]]:
    """Mixed choices on the lower hull of error against bytes.

    For a price p of a byte, each expert takes the scheme that minimises error + p * bytes; the choice changes only at
    the prices where two schemes of one expert tie.

    Args:
        costs: Errors and bytes of each expert in each scheme.
        limit: Most choices to return, evenly spread.
    """
    prices = set()
    for errors, sizes in zip(costs.errors, costs.num_bytes, strict=True):
        gain = errors[None, :] - errors[:, None]
        saved = sizes[:, None] - sizes[None, :]
        useful = (saved > 0) & (gain > 0)
        prices.update((gain[useful] / saved[useful]).tolist())
    ties = sorted(prices)
    between = [0.0, *(float(np.sqrt(a * b)) for a, b in pairwise(ties)), *(2 * p for p in ties[-1:])]
    choices: dict[tuple[Scheme, ...], None] = {}
    for price in between:
        columns = np.argmin(costs.errors + price * costs.num_bytes, axis=1)
        choices[tuple(costs.schemes[column] for column in columns)] = None
    mixed = [choice for choice in choices if len(set(choice)) > 1]
    if len(mixed) <= limit:
        return mixed
    return [mixed[index] for index in np.linspace(0, len(mixed) - 1, limit).astype(int)]


def _content(assembly: Assembly) -> bytes:
    if assembly.self_contained:
        return pack(assembly.model)
    return serialize(assembly.model, manifest=None, aliases=assembly.aliases)
