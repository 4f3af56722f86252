import click
import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge.cli.part_spelling import parse_part
from moe_edge.training.config_file import read_job, read_settings


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


@pytest.fixture
def printed(tmp_path):
    """The settings that ``--print-config`` writes for options, read back."""

    def read(*options):
        result = run(*options, "--print-config")
        assert result.exit_code == 0, result.output
        path = tmp_path / "printed.toml"
        path.write_text(result.output)
        settings = read_settings(path)
        return {name: table for name, table in settings.items() if table}

    return read


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(90, 4, 3)) + y[:, None, None], y=np.array(["a", "b", "c"])[y])
    return tmp_path / "t.npz"


@pytest.mark.parametrize(
    ("text", "role", "part"),
    [
        ("dense", "expert", {"kind": "dense"}),
        ("dense:64,32", "expert", {"kind": "dense", "hidden": [64, 32]}),
        ("dense:64,32,count=3", "expert", {"kind": "dense", "hidden": [64, 32], "count": 3}),
        (
            "random_forest:max_depth=8,count=2",
            "expert",
            {"kind": "random_forest", "options": {"max_depth": 8}, "count": 2},
        ),
        (
            "conv2d:16,shape=8x8x1,filters=4x8,depthwise=true,activation=tanh",
            "trunk",
            {
                "kind": "conv2d",
                "hidden": [16],
                "activation": "tanh",
                "options": {"shape": [8, 8, 1], "filters": [4, 8], "depthwise": True},
            },
        ),
        (
            "conv1d:hidden=none,padding=valid",
            "expert",
            {"kind": "conv1d", "hidden": [], "options": {"padding": "valid"}},
        ),
        ("dense:hidden=8x4", "expert", {"kind": "dense", "hidden": [8, 4]}),
        ("gaussian:floor=1e-3,share=-.5", "gate", {"kind": "gaussian", "options": {"floor": 1e-3, "share": -0.5}}),
        ("keras:build=my_models:small", "expert", {"kind": "keras", "options": {"build": "my_models:small"}}),
    ],
)
def test_parts_are_spelled(text, role, part):
    assert parse_part(text, role) == part


@pytest.mark.parametrize(
    ("text", "role", "said"),
    [
        ("nearest_neighbours", "expert", "nearest kind that can: random_forest"),
        ("svm", "gate", "nearest kind that can: logistic_regression"),
        ("random_forrest:max_depth=8", "expert", "did you mean random_forest"),
        ("dense:64;32", "expert", "OPTION=VALUE"),
        ("dense:64,count=0", "expert", "count=N of at least 1"),
        ("dense:hidden=big", "expert", "hidden=64x32"),
    ],
)
def test_parts_that_are_none(text, role, said):
    with pytest.raises(click.BadParameter, match=said):
        parse_part(text, role)


def test_one_expert_is_all_of_them_and_several_are_those(printed):
    assert printed("--expert", "gru:shape=8x3", "--num-experts", 4)["mixture"]["expert"] == {
        "kind": "gru",
        "options": {"shape": [8, 3]},
    }
    tree = printed("--gate", "hierarchical:6", "--num-experts", 4)["mixture"]["gate"]
    assert tree == {"kind": "hierarchical", "hidden": [6], "options": {"hidden": True}, "num_experts": 4}
    listed = printed("--expert", "dense:8,count=2", "--expert", "decision_tree:max_depth=4", "--expert-hidden", "5")
    assert listed["mixture"]["experts"] == [
        {"kind": "dense", "hidden": [8]},
        {"kind": "dense", "hidden": [8]},
        {"kind": "decision_tree", "hidden": [5], "options": {"max_depth": 4}},
    ]


def test_every_option_has_its_place_in_the_settings(printed):
    settings = printed(
        *("--target", "y", "--drop", "a", "--drop", "b", "--group", "g", "--test-share", 0.3),
        *("--pieces", "ranges", "--subtask-column", "h", "--ranges", "0.5,2", "--overlap", 0.2),
        *("--gate", "gaussian", "--gate-features", "h, w", "--top-k", 2, "--entropy-coef", 0.05),
        *("--z-loss-coef", 0.001, "--temperature", 0.5, "--load-balancing-coef", 0, "--num-experts", 3),
        *("--trunk", "gru:units=8,shape=4x2", "--trunk-units", 12, "--combine", "probabilities"),
        *(
            "--strategy",
            "em",
            "--em-iterations",
            7,
            "--fine-tune-epochs",
            4,
            "--epochs",
            9,
            "--patience",
            3,
            "--seed",
            5,
        ),
    )
    assert settings == {
        "data": {"target": "y", "drop": ["a", "b"], "group": "g", "test_share": 0.3},
        "mixture": {
            "combine": "probabilities",
            "expert": {},
            "gate": {
                "kind": "gaussian",
                "num_experts": 3,
                "features": ["h", "w"],
                "top_k": 2,
                "load_balancing_coef": 0.0,
                "entropy_coef": 0.05,
                "z_loss_coef": 0.001,
                "temperature": 0.5,
            },
            "trunk": {"kind": "gru", "units": 12, "options": {"units": 8, "shape": [4, 2]}},
        },
        "training": {
            "strategy": "em",
            "em_iterations": 7,
            "fine_tune_epochs": 4,
            "epochs": 9,
            "patience": 3,
            "seed": 5,
            "pieces": {"by": "ranges", "column": "h", "edges": [0.5, 2.0], "overlap": 0.2},
        },
    }


def test_a_subtask_column_or_ranges_say_what_the_pieces_are_by(printed):
    assert printed("--subtask-column", "device")["training"]["pieces"] == {"by": "column", "column": "device"}
    ranges = printed("--subtask-column", "h", "--ranges", "1")["training"]["pieces"]
    assert ranges == {"by": "ranges", "column": "h", "edges": [1.0]}


def test_the_command_line_comes_before_the_file(printed, tmp_path):
    file = tmp_path / "mixture.toml"
    file.write_text("[training]\nepochs = 3\nseed = 8\n[mixture.gate]\nnum_experts = 7\n")
    assert printed("--config", file, "--epochs", 4) == {
        "mixture": {"expert": {}, "gate": {"num_experts": 7}},
        "training": {"epochs": 4, "seed": 8},
    }


def test_a_file_trains_as_the_same_options_do_and_travels_in_the_model(table, tmp_path):
    options = ("--num-experts", 3, "--expert", "dense:6", "--epochs", 3, "--seed", 2, "--test-share", 0.25)
    file = tmp_path / "mixture.toml"
    file.write_text(run(*options, "--print-config").output)
    by_options, by_file = tmp_path / "a.keras", tmp_path / "b.keras"
    for output, given in ((by_options, options), (by_file, ("--config", file))):
        result = run(table, "-o", output, *given)
        assert result.exit_code == 0, result.output
    assert "3 experts, dense 6; joint, competitive recipe" in result.output

    from moe_edge.training import load_model

    loaded = load_model(by_file)
    for ours, same in zip(load_model(by_options).model.get_weights(), loaded.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, same)
    assert loaded.data.test_share == 0.25
    assert loaded.record["training"]["epochs"] == 3
    # The model itself serves as a configuration file.
    job = read_job(by_file)
    assert (job.data, job.mixture, job.training) == (loaded.data, loaded.config, loaded.training)

    from moe_edge import Predictor

    converted = CliRunner().invoke(
        main, ["convert", str(by_file), "--scheme", "float32", "-o", str(tmp_path / "b.tflite")]
    )
    assert converted.exit_code == 0, converted.output
    with np.load(table) as arrays, Predictor(tmp_path / "b.tflite") as predictor:
        assert predictor.manifest.extras["job"] == loaded.record
        # Rows as the table has them, or laid flat.
        rows = arrays["x"][:5]
        np.testing.assert_array_equal(predictor.predict_proba(rows), predictor.predict_proba(rows.reshape(5, 12)))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--expert", "svm"], 2, "nearest kind that can: logistic_regression"),
        (["--gate", "nearest_neighbours"], 2, "nearest kind that can: random_forest"),
        (["--expert", "dense,count=2", "--num-experts", "3"], 2, "a kind of expert among"),
        (["--expert", "dense:count=2", "--num-experts", "3"], 2, "as --num-experts 3, got 2"),
        (["--top-k", "9"], 2, "top_k in [1, 5]"),
        (["--pieces", "column"], 2, "expected a column"),
        (["--ranges", "2,1", "--subtask-column", "x0_0"], 2, "rising edges"),
        (["--ranges", "0,nan", "--subtask-column", "x0_0"], 2, "finite numbers"),
        (["--pieces", "clusters", "--subtask-column", "x0_0"], 2, "goes with --pieces column or ranges"),
        (["--clustering", "kmeans", "--subtask-column", "x0_0"], 2, "goes with --pieces clusters"),
        (["--gate-features", ","], 2, "names of columns"),
        (["--seed", str(2**32)], 2, "seed < 2**32"),
        (["--expert", "linear:8"], 2, "no hidden layers"),
        (["--gate", "gaussian:8"], 2, "no hidden layers"),
        (["--temperature", "0"], 2, "temperature > 0"),
        (["--combine", "mean", "--task", "classification"], 2, "probabilities or logits"),
        (["--gate-features", "x0_00"], 1, "did you mean 'x0_0'"),
        (["--expert", "random_forest:maxdepth=3", "--strategy", "em"], 2, "did you mean max_depth"),
        (["--expert", "random_forest:max_depth=3"], 2, "got random_forest, fitted by an algorithm of their own"),
        (["--gate", "decision_tree"], 2, "got decision_tree, fitted by an algorithm of its own; use strategy staged"),
        (["--expert", "dense:8,foo=3"], 2, "unknown option 'foo'; expected options among: none"),
        (["--gate", "gaussian:covarianz=full"], 2, "did you mean covariance"),
        (["--trunk", "dense:count=2"], 2, "unknown option 'count'"),
        (["--expert", "gru:units=0.5"], 2, "units to be a list of whole numbers"),
        (["--expert", "conv1d:shape=7x3"], 1, "of 12 features, as a row has, got 7x3 = 21"),
        (["--trunk", "conv1d:shape=7x3"], 1, "of 12 features, as a row has, got 7x3 = 21"),
        (["--expert", "conv1d", "--drop", "x0_0"], 1, "rows are flat: say how their 11 features lie, as option shape"),
        (["--trunk", "dense", "--expert", "lstm"], 1, "rows are flat: say how their 32 features lie"),
    ],
)
def test_mistakes_are_told_before_tensorflow_is_imported(table, monkeypatch, options, code, said):
    monkeypatch.chdir(table.parent)
    monkeypatch.setattr("moe_edge.training.keras_setup.load_keras", lambda: pytest.fail("TensorFlow was imported"))
    result = run(table, *options)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.split())


def test_without_a_table_the_missing_argument_is_named():
    result = run("--epochs", 3)
    assert result.exit_code == 2 and "DATA" in result.output


def test_help_teaches_kinds_and_the_four_steps():
    text = run("--help").output
    steps = ["1. Split the problem:", "2. Train the experts:", "3. Train the gate:", "4. Combine"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert "hist_gradient_boosting" in text and "hierarchical" in text and "count=2" in text
