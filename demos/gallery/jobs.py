"""What the gallery shows: each panel is one ``moe-edge train`` and one ``moe-edge convert``, as pasted."""

from __future__ import annotations

from dataclasses import dataclass

from tables import CURVE, DIGITS, PLANE, WINDOWS, ZONES

FOLDER = "demo-output/gallery"
_TABLES = {
    PLANE: f"{FOLDER}/{PLANE} --target arm",
    ZONES: f"{FOLDER}/{ZONES} --target arm --drop zone",
    CURVE: f"{FOLDER}/{CURVE} --target reading --task regression",
    WINDOWS: f"{FOLDER}/{WINDOWS}",
    DIGITS: f"demo-output/{DIGITS} --target digit",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One mixture.

    Attributes:
        name: Title of its panel, and name of its files.
        table: Name of its table.
        options: Of ``moe-edge train``.
        scheme: Of ``moe-edge convert``.
        quantiles: Whether the panel shows quantiles instead of the experts' lines.
    """

    name: str
    table: str
    options: str
    scheme: str = "w8a8"
    quantiles: bool = False

    @property
    def stem(self) -> str:
        """Path of its files, without ending."""
        return f"{FOLDER}/{self.name.replace(' ', '_').replace('=', '_')}"

    @property
    def table_path(self) -> str:
        """Path of its table."""
        return _TABLES[self.table].split()[0]

    @property
    def commands(self) -> tuple[str, str]:
        """Train, then convert."""
        return (
            f"moe-edge train {_TABLES[self.table]} {self.options} -o {self.stem}.keras",
            f"moe-edge convert {self.stem}.keras {self.table_path} -o {self.stem}.tflite --scheme {self.scheme}",
        )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Some mixtures side by side.

    Attributes:
        name: Of the file.
        title: Of the section.
        text: What to look at.
        style: ``classes``, ``regions``, ``line``, ``windows`` or ``images``.
        jobs: One a panel.
        columns: Panels in a row.
    """

    name: str
    title: str
    text: str
    style: str
    jobs: tuple[Job, ...]
    columns: int


def _experts(*kinds: tuple[str, str]) -> tuple[Job, ...]:
    return tuple(Job(name=name, table=PLANE, options=f"--num-experts 3 {options}") for name, options in kinds)


_FEW = "--epochs 60 --batch-size 32 --learning-rate 0.01"
_TREES = "--strategy staged --gate linear"
_LINES = "--num-experts 3 --expert linear_regression"
_PIECES = "--num-experts 3 --strategy staged --expert logistic_regression --gate linear"


def _gate(kind: str, options: str = "") -> Job:
    text = f"--num-experts 4 --strategy staged --expert logistic_regression --gate {kind}{options}"
    return Job(name=f"gate {kind}", table=PLANE, options=f"{text} {_FEW}" if kind == "dense" else text)


PICTURES = (
    Picture(
        name="experts_plane",
        title="Experts for columns",
        text="Colours are the classes that the file answers, white lines where the gate changes its favourite "
        "expert, dots held-out rows in their true class. Neural kinds learn with the gate (`joint`), the "
        "others on clusters (`staged`).",
        style="classes",
        columns=4,
        jobs=_experts(
            ("dense", f"--expert dense:12 {_FEW}"),
            ("linear", f"--expert linear {_FEW} --pieces clusters"),
            ("keras", f"--expert keras:build=demos.gallery.own_expert:residual {_FEW}"),
            ("logistic_regression", f"--expert logistic_regression {_TREES}"),
            ("decision_tree", f"--expert decision_tree:max_depth=5 {_TREES}"),
            ("random_forest", f"--expert random_forest:n_estimators=20,max_depth=6 {_TREES}"),
            ("gradient_boosting", f"--expert gradient_boosting:n_estimators=15 {_TREES}"),
            ("hist_gradient_boosting", f"--expert hist_gradient_boosting:max_iter=15 {_TREES}"),
        ),
    ),
    Picture(
        name="experts_line",
        title="Experts for numbers",
        text="Thick lines: each expert where it is the favourite; black: the mixture; strip: the gate's weights. "
        "The last one mixes kinds. The fine steps are int8 (`w8a8`, the default) in straight lines; trees "
        "stay float.",
        style="line",
        columns=3,
        jobs=(
            Job(name="linear_regression", table=CURVE, options=f"{_LINES} --strategy em --gate linear"),
            Job(
                name="regression trees",
                table=CURVE,
                options="--num-experts 3 --expert decision_tree:max_depth=3 --strategy staged --gate linear",
            ),
            Job(
                name="mixed kinds",
                table=CURVE,
                options="--expert linear_regression:count=2 --expert hist_gradient_boosting:max_iter=15 "
                "--strategy em --gate linear",
            ),
        ),
    ),
    Picture(
        name="experts_windows",
        title="Experts for windows of a signal",
        text="One held-out window of each class; its colour is the expert that the gate prefers, beside it the "
        "answer. Recurrent experts are unrolled, 24 steps here, which is what their bytes go into.",
        style="windows",
        columns=3,
        jobs=tuple(
            Job(name=kind, table=WINDOWS, options=f"--num-experts 3 --expert {spelling} {_FEW}")
            for kind, spelling in (
                ("conv1d", "conv1d:filters=8x12"),
                ("gru", "gru:units=10"),
                ("lstm", "lstm:units=10"),
            )
        ),
    ),
    Picture(
        name="experts_images",
        title="Experts for images",
        text="Held-out digits; the frame is the expert that the gate prefers, above each the answer.",
        style="images",
        columns=1,
        jobs=(
            Job(
                name="conv2d",
                table=DIGITS,
                options="--num-experts 3 --expert conv2d:shape=8x8x1,filters=8x12 --epochs 12",
            ),
        ),
    ),
    Picture(
        name="gates",
        title="Gates",
        text="The same four logistic regressions on the same clusters; only the gate differs. Colours: the favourite "
        "expert, paler where the choice is close.",
        style="regions",
        columns=5,
        jobs=(
            _gate("dense"),
            _gate("linear"),
            _gate("gaussian"),
            _gate("hierarchical"),
            _gate("logistic_regression"),
            _gate("decision_tree", ":max_depth=4"),
            _gate("random_forest", ":n_estimators=20,max_depth=5"),
            _gate("gradient_boosting", ":n_estimators=15"),
            _gate("hist_gradient_boosting", ":max_iter=15"),
        ),
    ),
    Picture(
        name="pieces",
        title="Ways to split the problem",
        text="What each expert was given to start from shows in what the gate then gives it. `overlap` also gives "
        "each expert rows from beyond its border, and the borders turn paler. `confusion` groups classes that "
        "a dense network takes for each other: an expert then knows its own classes alone.",
        style="regions",
        columns=6,
        jobs=(
            Job(name="kmeans", table=PLANE, options=f"{_PIECES} --pieces clusters"),
            Job(
                name="gaussian_mixture",
                table=PLANE,
                options=f"{_PIECES} --pieces clusters --clustering gaussian_mixture",
            ),
            Job(name="column", table=ZONES, options=f"{_PIECES} --pieces column --subtask-column zone"),
            Job(name="ranges", table=PLANE, options=f"{_PIECES} --pieces ranges --subtask-column y --ranges -0.7,0.7"),
            Job(name="confusion", table=PLANE, options=f"{_PIECES} --pieces confusion"),
            Job(name="overlap=0.3", table=PLANE, options=f"{_PIECES} --pieces clusters --overlap 0.3"),
        ),
    ),
    Picture(
        name="strategies",
        title="Strategies",
        text="The same clusters to start from, the same linear gate: all at once by gradients, one after the other, by "
        "expectation-maximisation.",
        style="line",
        columns=3,
        jobs=(
            Job(
                name="joint",
                table=CURVE,
                options="--num-experts 3 --expert linear --gate linear --pieces clusters --epochs 80 --batch-size 16 "
                "--learning-rate 0.05 --load-balancing-coef 0",
            ),
            Job(name="staged", table=CURVE, options=f"{_LINES} --gate linear --strategy staged"),
            Job(name="em", table=CURVE, options=f"{_LINES} --gate linear --strategy em"),
        ),
    ),
    Picture(
        name="density",
        title="Mixture density: quantiles",
        text="`predict_quantiles` of the same file: the band holds about 90 % of what to expect. It widens with "
        "the noise, and at the borders, where two experts are possible. Kept in float32.",
        style="line",
        columns=1,
        jobs=(
            Job(
                name="mixture density",
                table=CURVE,
                options=f"{_LINES} --gate linear --strategy em",
                scheme="float32",
                quantiles=True,
            ),
        ),
    ),
    Picture(
        name="choice",
        title="All experts, a few, or one",
        text="The gate's favourite; all four weighed, the two best, one alone (dynamic classifier selection).",
        style="regions",
        columns=3,
        jobs=tuple(
            Job(name=name, table=PLANE, options=f"--num-experts 4 --expert dense:6 {_FEW}{option}")
            for name, option in (("all experts", ""), ("top 2", " --top-k 2"), ("hard choice", " --top-k 1"))
        ),
    ),
)
