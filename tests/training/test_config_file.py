import dataclasses
import json
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import (
    ACTIVATIONS,
    Combine,
    ExpertConfig,
    GateConfig,
    MixtureConfig,
    PiecesConfig,
    Recipe,
    Strategy,
    Task,
    TrainingConfig,
    TrunkConfig,
)
from moe_edge.errors import DataError
from moe_edge.job_config import DataConfig, JobConfig
from moe_edge.training.config_file import (
    check_settings,
    complete_job,
    job_settings,
    merge_settings,
    read_job,
    read_settings,
    with_row_shape,
    write_job,
)
from moe_edge.training.config_text import meanings, render_settings
from moe_edge.training.recipes import LINEAR_EXPERTS_RATE

CONFIGS = (DataConfig, MixtureConfig, ExpertConfig, TrunkConfig, GateConfig, TrainingConfig, PiecesConfig)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
sizes = st.lists(st.integers(1, 300), max_size=3).map(tuple)
values = st.one_of(
    st.booleans(), st.integers(-5, 500), st.floats(-1e6, 1e6), texts, st.lists(st.integers(1, 30), max_size=3)
)
options = st.dictionaries(texts, values, max_size=3)
networks = {"hidden": sizes, "activation": st.sampled_from(ACTIVATIONS), "options": options}
experts = st.builds(ExpertConfig, kind=st.sampled_from(["dense", "random_forest", "gru"]), **networks)
trunks = st.builds(TrunkConfig, kind=st.sampled_from(["dense", "conv2d"]), units=st.integers(1, 99), **networks)
shares = st.floats(0.01, 0.99)
data = st.builds(
    DataConfig,
    target=st.none() | texts,
    group=st.none() | texts,
    drop=st.lists(texts, max_size=2).map(tuple),
    categorical=st.lists(texts, max_size=2).map(tuple),
    test_share=shares,
    validation_share=shares,
)
pieces = st.none() | st.one_of(
    st.builds(PiecesConfig, by=st.just("clusters"), method=st.sampled_from(["kmeans", "gaussian_mixture"])),
    st.builds(PiecesConfig, by=st.just("column"), column=texts, overlap=st.floats(0, 1)),
    st.builds(
        PiecesConfig,
        by=st.just("ranges"),
        column=texts,
        edges=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3, unique=True).map(sorted).map(tuple),
    ),
)


@st.composite
def mixtures(draw):
    listed = draw(st.lists(experts, min_size=2, max_size=4)) if draw(st.booleans()) else []
    task = draw(st.sampled_from(Task))
    combine = {
        Task.CLASSIFICATION: (Combine.PROBABILITIES, Combine.LOGITS),
        Task.REGRESSION: (Combine.GAUSSIAN, Combine.MEAN),
    }[task]
    combine = draw(st.sampled_from(combine))
    number = len(listed) or draw(st.integers(2, 40))
    gate = GateConfig(
        num_experts=number,
        kind=draw(st.sampled_from(["dense", "gaussian"])),
        hidden=draw(sizes),
        options=draw(options),
        features=tuple(draw(st.lists(texts, max_size=2))),
        top_k=draw(st.none() | st.integers(1, number)) if combine.routable else None,
        load_balancing_coef=draw(st.none() | st.floats(0, 10)),
        entropy_coef=draw(st.floats(0, 1)),
        temperature=draw(st.floats(0.01, 10)),
    )
    return MixtureConfig(
        task=task,
        combine=combine,
        expert=draw(experts),
        experts=tuple(listed),
        trunk=draw(st.none() | trunks) if not gate.features else None,
        gate=gate,
    )


trainings = st.builds(
    TrainingConfig,
    recipe=st.sampled_from(Recipe),
    strategy=st.sampled_from(Strategy),
    pieces=pieces,
    epochs=st.integers(1, 10**6),
    learning_rate=st.floats(1e-9, 1),
    label_smoothing=st.floats(0, 0.99),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None)
@given(job=st.builds(JobConfig, data=data, mixture=mixtures(), training=trainings))
def test_what_is_written_reads_back_equal(job, tmp_path_factory):
    path = tmp_path_factory.mktemp("job") / "mixture.toml"
    write_job(job, path)
    loaded = read_job(path)
    assert loaded == job
    write_job(loaded, path)
    assert read_job(path) == job


def test_the_printed_defaults_read_back_as_the_defaults(tmp_path):
    path = tmp_path / "mixture.toml"
    path.write_text(render_settings({}))
    assert read_job(path) == JobConfig()
    assert complete_job(read_settings(path), task=Task.REGRESSION, num_rows=10) == complete_job(
        {}, task=Task.REGRESSION, num_rows=10
    )


def test_every_option_of_every_config_stands_in_the_printed_file_with_its_default(tmp_path):
    """Uncommented, the file says what the configurations have; a new field that nobody wrote about fails here."""
    text = render_settings({})
    live = re.sub(r"(?m)^#(?=[\w\[])", "", text)
    live = re.sub(r"(?m)^\w+ =$", "", live)  # options that are off until they have a value
    path = tmp_path / "mixture.toml"
    path.write_text(live)
    found = read_settings(path)
    mixture, training = found["mixture"], found["training"]
    tables = {
        DataConfig: found["data"],
        MixtureConfig: {key: value for key, value in mixture.items() if not isinstance(value, (dict, list))},
        ExpertConfig: mixture["experts"][0],
        TrunkConfig: mixture["trunk"],
        GateConfig: mixture["gate"],
        TrainingConfig: {key: value for key, value in training.items() if key != "pieces"},
        PiecesConfig: training["pieces"],
    }
    nested = {"expert", "experts", "trunk", "gate", "pieces"}
    for config, table in tables.items():
        assert set(meanings(config)) == {field.name for field in dataclasses.fields(config)}
        default = config()
        for field in dataclasses.fields(config):
            value = getattr(default, field.name)
            if field.name in nested:
                continue
            if value is None:
                assert field.name not in table and f"#{field.name} =\n" in text
            else:
                wanted = getattr(value, "value", value)
                assert table[field.name] == (list(wanted) if isinstance(wanted, tuple) else wanted), field.name
    assert mixture["expert"] == mixture["experts"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mixture.gat]\nkind = 'dense'", "unknown key 'gat'.*did you mean 'gate'"),
        ("[mixture.gate]\nnum_expert = 4", "mixture.gate: unknown key 'num_expert'.*did you mean 'num_experts'"),
        ("[training]\nepochs = 'many'", "training.epochs: expected int, got 'many'"),
        ("[training]\nstrategy = 'emm'", "expected one of joint, staged, em, got 'emm'"),
        ("[[mixture.experts]]\nkind = 'dense'\ncount = 0", "count: expected a whole number >= 1"),
        ("[[mixture.experts]]\nkinds = 'dense'", "did you mean 'kind'"),
        ("mixture = 3", "mixture: expected"),
        ("[mixture\n", "expected TOML.*--print-config"),
        ("[training]\nepochs = 3\nepochs = 4", "expected TOML"),
    ],
)
def test_files_are_read_strictly(tmp_path, text, said):
    path = tmp_path / "mixture.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_values_that_contradict_each_other_are_told(tmp_path):
    path = tmp_path / "mixture.toml"
    path.write_text("[mixture.gate]\nnum_experts = 3\ntop_k = 4")
    with pytest.raises(DataError, match=r"top_k in \[1, 3\]"):
        read_job(path)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_settings(tmp_path / "nowhere.toml")
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_settings(tmp_path / "m.toml")
    (tmp_path / "m.keras").write_bytes(b"no zip")
    with pytest.raises(DataError, match="a model that moe-edge trained"):
        read_settings(tmp_path / "m.keras")


def test_a_models_own_settings_are_read_from_its_file(tmp_path):
    job = JobConfig(training=TrainingConfig(epochs=7), data=DataConfig(target="y"))
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        content = {name: job_settings(job)[name] for name in ("data", "mixture", "training")}
        archive.writestr("moe_edge/config.json", json.dumps({**content, "training": {"epochs": 7, "pieces": None}}))
    assert read_settings(path)["training"] == {"epochs": 7}
    assert read_settings(path)["data"]["target"] == "y"


def test_alike_experts_are_counted():
    forest = {"kind": "random_forest", "options": {"max_depth": 8}}
    listed = check_settings({"mixture": {"experts": [{"kind": "dense", "count": 3}, forest]}})
    assert listed["mixture"]["experts"] == [{"kind": "dense"}] * 3 + [forest]
    job = complete_job(listed, task=Task.CLASSIFICATION, num_rows=5000)
    assert job.mixture.gate.num_experts == 4
    assert render_settings(listed).count("[[mixture.experts]]") == 2 and "\ncount = 3\n" in render_settings(listed)


def test_defaults_depend_on_task_rows_and_recipe():
    small = complete_job({}, task=Task.REGRESSION, num_rows=200)
    assert (small.training.epochs, small.training.batch_size) == (300, 32)
    assert (small.mixture.task, small.mixture.combine) == (Task.REGRESSION, Combine.GAUSSIAN)
    classical = complete_job({"training": {"recipe": "classical"}}, task=Task.CLASSIFICATION, num_rows=200)
    assert classical.training == TrainingConfig.classical()
    assert classical.mixture.gate.load_balancing_coef == 0
    told = complete_job(
        {"training": {"epochs": 4}, "mixture": {"gate": {"load_balancing_coef": 0.3}}}, task=Task.REGRESSION, num_rows=9
    )
    assert told.training.epochs == 4 and told.mixture.gate.load_balancing_coef == 0.3


def test_later_settings_have_the_last_word():
    base = {
        "mixture": {
            "experts": [{"kind": "dense"}] * 3,
            "gate": {"num_experts": 3, "kind": "gaussian", "options": {"a": 1}},
        },
        "training": {"epochs": 9, "seed": 2},
    }
    merged = merge_settings(base, {"training": {"epochs": 5}, "mixture": {"gate": {"kind": "dense"}}})
    assert merged["training"] == {"epochs": 5, "seed": 2}
    assert merged["mixture"]["gate"] == {"num_experts": 3, "kind": "dense"}, "options belong to their kind"
    listed = merge_settings(base, {"mixture": {"experts": [{"kind": "gru"}] * 2}})
    assert complete_job(listed, task=Task.CLASSIFICATION, num_rows=99).mixture.gate.num_experts == 2
    alike = merge_settings(base, {"mixture": {"expert": {"kind": "gru"}}})
    assert "experts" not in alike["mixture"]
    assert base["mixture"]["gate"]["options"] == {"a": 1}, "what is merged stays as it was"


def test_a_rows_shape_is_told_to_the_parts_that_take_one():
    def told(mixture, shape):
        return with_row_shape(JobConfig(mixture=mixture), shape).mixture

    image = told(MixtureConfig(expert=ExpertConfig(kind="conv2d")), (8, 8))
    assert image.expert.options == {"shape": [8, 8]}
    listed = (ExpertConfig(kind="lstm"), ExpertConfig(), ExpertConfig(kind="gru", options={"shape": [4, 75]}))
    window = told(MixtureConfig(experts=listed, gate=GateConfig(num_experts=3)), (100, 3))
    assert [expert.options for expert in window.experts] == [{"shape": [100, 3]}, {}, {"shape": [4, 75]}]
    trunk = told(MixtureConfig(trunk=TrunkConfig(kind="conv1d"), expert=ExpertConfig(kind="conv1d")), (100, 3))
    assert trunk.trunk.options == {"shape": [100, 3]} and trunk.expert.options == {}
    assert told(MixtureConfig(expert=ExpertConfig(kind="conv1d")), None).expert.options == {}
    assert told(MixtureConfig(expert=ExpertConfig(kind="gru")), (8, 8, 3)).expert.options == {}


def test_linear_experts_learn_in_larger_steps():
    def rate(*kinds):
        experts = [{"kind": kind} for kind in kinds]
        return complete_job({"mixture": {"experts": experts}}, task=Task.CLASSIFICATION, num_rows=50).training

    assert rate("linear", "linear").learning_rate == LINEAR_EXPERTS_RATE > rate("linear", "dense").learning_rate
    asked = {"mixture": {"expert": {"kind": "linear"}}, "training": {"learning_rate": 0.5}}
    assert complete_job(asked, task=Task.CLASSIFICATION, num_rows=50).training.learning_rate == 0.5


def test_the_file_says_which_table_is_for_all_experts_and_which_for_some():
    lines = render_settings({}).splitlines()
    for header, above in (
        ("[mixture.expert]", "# What every expert is, where all are alike."),
        ("#[[mixture.experts]]", "# Leave these tables out where all experts are alike"),
    ):
        assert lines[lines.index(header) - 1].startswith(above)
    assert "One expert, or all of them" not in "\n".join(lines)
    some = render_settings({"mixture": {"experts": [{"kind": "dense"}, {"kind": "linear"}]}}).splitlines()
    assert some[some.index("[[mixture.experts]]") - 2].startswith("# Where experts differ: one such table for each")
