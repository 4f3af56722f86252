import json
import zipfile

import keras
import numpy as np
import pytest

from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig, TrainingConfig
from moe_edge.errors import DataError, ModelFileError, MoeEdgeError
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.archive import load_model, match_split, save_model
from moe_edge.training.builders import create_moe_model
from moe_edge.training.mixture import build_mixture
from moe_edge.training.split import split_dataset

CONFIG = MixtureConfig(expert=ExpertConfig(hidden=(4,)), gate=GateConfig(num_experts=2, hidden=()))


def small_dataset(shift=0.0):
    x = np.random.default_rng(0).normal(size=(30, 3)) + shift
    return dataset_from_arrays(x, np.arange(30) % 2, labels=["nö", "yes"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "m.keras"
    dataset = small_dataset()
    save_model(
        build_mixture(CONFIG, 3, 2),
        path,
        schema=dataset.schema,
        mixture_config=CONFIG,
        training_config=TrainingConfig(seed=7),
        split=split_dataset(dataset),
    )
    return path


def test_what_belongs_to_the_model_comes_back(saved):
    dataset = small_dataset()
    loaded = load_model(saved)
    assert loaded.schema == dataset.schema
    assert loaded.config == CONFIG
    assert loaded.training == TrainingConfig(seed=7)
    assert np.array_equal(match_split(loaded, dataset).test, split_dataset(dataset).test)
    assert loaded.model(dataset.features).shape == (30, 2)


def test_another_table_is_refused(saved):
    with pytest.raises(DataError, match=r"isn't the table that .* --all-rows"):
        match_split(load_model(saved), small_dataset(shift=1e-6))


def test_plain_keras_reads_the_file_and_its_files_are_read(saved, tmp_path):
    assert keras.saving.load_model(saved, safe_mode=True).name == "mixture"
    create_moe_model(3, 2, 2).save(tmp_path / "plain.keras")
    loaded = load_model(tmp_path / "plain.keras")
    assert loaded.schema is None and loaded.split is None and loaded.config is None
    with pytest.raises(DataError, match="remembers no split"):
        match_split(loaded, small_dataset())


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    model = build_mixture(CONFIG, 3, 2)
    monkeypatch.setattr("moe_edge.training.archive.to_dict", lambda value: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_model(model, tmp_path / "m.keras", schema=small_dataset().schema)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MoeEdgeError, match=r"ends in \.keras"):
        save_model(model, tmp_path / "m.h5", schema=small_dataset().schema)


def rewritten(source, target, *, drop=(), **members):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name not in members and name not in drop:
                new.writestr(name, old.read(name))
        for name, content in members.items():
            new.writestr(name, content)
    return target


def refused(path, **options):
    with pytest.raises(ModelFileError) as raised:
        load_model(path, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_truncated_files_are_refused_at_every_length(saved, tmp_path):
    content = saved.read_bytes()
    for share in (0, 0.01, 0.3, 0.6, 0.9, 0.999):
        cut = tmp_path / "cut.keras"
        cut.write_bytes(content[: int(len(content) * share)])
        assert "expected a .keras archive" in refused(cut)


def test_a_flipped_byte_is_noticed(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    at = content.index(b"model.weights.h5") + 3000
    content[at] ^= 0xFF
    (tmp_path / "flip.keras").write_bytes(content)
    assert "damaged" in refused(tmp_path / "flip.keras")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../evil.txt": b""}, "outside the archive"),
        ({"/etc/evil": b""}, "outside the archive"),
        ({"a\\..\\evil": b""}, "outside the archive"),
        ({"payload.pkl": b""}, "which is code"),
        ({"config.json": b"{"}, "JSON"),
        ({"moe_edge/schema.json": b"[]"}, "damaged or newer"),
        ({"moe_edge/config.json": b"{}"}, "damaged or newer"),
        ({"moe_edge/config.json": b'{"mixture": {"colour": 1}, "training": null}'}, "unknown key"),
        ({"moe_edge/split.npz": b"PK"}, "damaged or newer"),
    ],
)
def test_tampered_files_are_refused(saved, tmp_path, members, said):
    assert said in refused(rewritten(saved, tmp_path / "t.keras", **members))


def test_a_pickle_in_the_split_is_not_unpickled(saved, tmp_path):
    np.savez(tmp_path / "s.npz", train=np.array([{}], dtype=object))
    content = (tmp_path / "s.npz").read_bytes()
    assert "damaged" in refused(rewritten(saved, tmp_path / "t.keras", **{"moe_edge/split.npz": content}))


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "a.keras").write_text("hello")
    assert "no zip" in refused(tmp_path / "a.keras")
    (tmp_path / "h.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "HDF5" in refused(tmp_path / "h.keras")
    with zipfile.ZipFile(tmp_path / "z.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip without config.json" in refused(tmp_path / "z.keras")
    assert "there is no file" in refused(tmp_path / "none.keras")
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    assert "expected a .keras model" in refused(tmp_path / "a.tflite")


def test_a_lambda_is_refused_with_the_way_out(tmp_path):
    row = keras.Input((3,))
    keras.Model(row, keras.layers.Lambda(lambda x: x * 2)(row)).save(tmp_path / "l.keras")
    said = refused(tmp_path / "l.keras")
    assert "Lambda" in said and "stack the experts on axis 1" in said
    assert load_model(tmp_path / "l.keras", unsafe=True).model(np.ones((1, 3))).shape == (1, 3)


def test_classes_of_unknown_packages_are_refused_before_keras_looks_for_them(saved, tmp_path):
    with zipfile.ZipFile(saved) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1].update(module="os", class_name="system", registered_name=None)
    path = rewritten(saved, tmp_path / "t.keras", **{"config.json": json.dumps(config)})
    assert "--import os" in refused(path)
    assert "can't import the custom module" in refused(saved, custom_modules=["no_such_module"])


def test_weights_of_another_model_are_refused(saved, tmp_path):
    build_mixture(CONFIG, 5, 2).save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
        config = archive.read("config.json")
    assert "can't load it" in refused(rewritten(saved, tmp_path / "t.keras", **{"model.weights.h5": weights}))
    both = rewritten(saved, tmp_path / "u.keras", **{"model.weights.h5": weights, "config.json": config})
    assert "as its schema says" in refused(both)
