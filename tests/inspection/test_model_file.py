"""Opening `.keras` files: what is refused before Keras sees it, what is loaded, and what that leaves behind."""

import hashlib
import importlib
import io
import json
import logging
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from analyzer.errors import ModelError, UnsafeModelError
from analyzer.inspection import model_file
from analyzer.inspection.model_archive import MAX_HDF5_DEPTH, MAX_MEMBERS
from analyzer.inspection.model_config import parse_losses
from analyzer.inspection.model_file import CompiledLoss, compiled_losses, load, preflight


@keras.saving.register_keras_serializable(package="test_model_file")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable(package="test_model_file")
def halved(inputs):
    return inputs / 2


class Stranger(keras.layers.Layer):
    def call(self, inputs):
        return inputs + 1


class StrangeLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


def small_model(*extra):
    inputs = keras.Input((3,), name="in")
    outputs = keras.layers.Dense(2, name="dense")(inputs)
    for layer in extra:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a small compiled model, to be taken apart."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = small_model(keras.layers.Dropout(0.5))
    model.compile("adam", "mse")
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_config(path, saved, change):
    """The saved model with its configuration changed in place."""
    members = members_of(saved)
    config = json.loads(members["config.json"])
    change(config)
    return pack(path, members | {"config.json": json.dumps(config)})


def with_layer(path, saved, layer):
    return with_config(path, saved, lambda config: config["config"]["layers"].append(layer))


def with_weights(path, saved, write):
    """The saved model with something added to its HDF5 file."""
    members = members_of(saved)
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        write(file)
    return pack(path, members | {"model.weights.h5": weights.getvalue()})


def entry(name, module, config=None, class_name="function", **more):
    """A layer of the name `bad` that has a class or function as an argument."""
    argument = {"module": module, "class_name": class_name, "config": config or name, "registered_name": name}
    inner = {"name": "bad", "trainable": True, "function": argument, **more}
    return {"module": "keras.layers", "class_name": "Lambda", "config": inner, "registered_name": None}


# ------------------------------------------------------------------------------------------------------- what it says


def test_a_file_tells_its_facts(path, saved):
    path.write_bytes(saved)
    facts = preflight(str(path))
    assert facts.name == "model.keras"
    assert facts.size == len(saved)
    assert facts.sha256 == hashlib.sha256(saved).hexdigest()
    assert facts.keras_version == keras.__version__
    assert facts.class_name == "Functional"
    assert facts.custom_objects == ()
    assert (facts.loss, facts.metrics) == ("mse", None)


def test_looking_imports_neither_keras_nor_a_framework(path, saved):
    path.write_bytes(saved)
    code = (
        "import sys; from analyzer.inspection.model_file import preflight; print(preflight(sys.argv[1]).class_name); "
        "print([m for m in ('keras', 'jax', 'tensorflow', 'torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["Functional", "[]"]


def test_losses_of_several_outputs_are_told_by_name(path):
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(2, name=name)(inputs) for name in "abc"}
    model = keras.Model(inputs, outputs)
    losses = {"a": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "b": "mae", "c": halved}
    model.compile("adam", loss=losses, metrics={"a": ["accuracy"]})
    model.save(path)
    facts = preflight(path)
    assert compiled_losses(facts) == {
        "a": CompiledLoss(name="sparse_categorical_crossentropy", from_logits=True),
        "b": CompiledLoss(name="mean_absolute_error"),
        "c": CompiledLoss(name="test_model_file>halved"),
    }
    assert facts.metrics == {"a": ["accuracy"]}


def test_a_model_that_was_not_compiled_has_no_loss(path):
    small_model().save(path)
    assert compiled_losses(preflight(path)) is None


def test_losses_in_a_list_keep_their_order_and_their_gaps():
    huber = keras.saving.serialize_keras_object(keras.losses.Huber())
    assert parse_losses(["bce", None, huber]) == (
        CompiledLoss(name="binary_crossentropy"),
        None,
        CompiledLoss(name="huber"),
    )


@pytest.mark.parametrize("short", ["mse", "MSE", "mae", "MAE", "mape", "MAPE", "msle", "MSLE", "bce", "kld", "KLD"])
def test_abbreviations_mean_what_they_mean_to_keras(short):
    assert parse_losses(short) == CompiledLoss(name=keras.losses.get(short).__name__)


@pytest.mark.parametrize(
    "loss", ["KLDivergence", "LogCosh", "CTC", "BinaryCrossentropy", "CategoricalFocalCrossentropy", "SquaredHinge"]
)
def test_a_loss_class_has_the_name_that_keras_gives_it(loss):
    made = getattr(keras.losses, loss)()
    assert parse_losses(keras.saving.serialize_keras_object(made)) == CompiledLoss(name=made.name)


# ---------------------------------------------------------------------------------------------------- what is loaded


def test_a_loaded_model_computes_what_the_saved_one_did_and_is_not_compiled(path):
    model = small_model(keras.layers.BatchNormalization(), keras.layers.Activation("softmax"))
    model.compile("adam", "categorical_crossentropy")
    model.save(path)
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    opened = load(path)
    assert not opened.compiled
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(opened(x)), keras.ops.convert_to_numpy(model(x)))


def test_a_file_packed_again_with_compression_is_as_good(path, saved):
    pack(path, members_of(saved), zipfile.ZIP_DEFLATED)
    assert load(path).count_params() == 8


def test_registered_classes_and_functions_are_told_and_loaded(path):
    model = small_model(Doubling(name="twice"), keras.layers.Activation(halved))
    model.save(path)
    assert preflight(path).custom_objects == ("test_model_file>Doubling", "test_model_file>halved")
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(load(path)(x)), keras.ops.convert_to_numpy(model(x)))


def test_a_loss_of_the_user_is_not_needed(path):
    model = small_model()
    model.compile("adam", loss=StrangeLoss())
    model.save(path)
    assert preflight(path).custom_objects == ()
    assert compiled_losses(preflight(path)) == CompiledLoss(name="strange_loss")
    assert load(path).count_params() == 8


def test_operations_and_nested_models_are_parts_of_models(path):
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_regularizer="l2")])
    hidden = keras.layers.Dense(3, dtype="mixed_float16", kernel_constraint=keras.constraints.NonNeg())(inputs)
    outputs = keras.ops.sin(inner(inputs) + keras.ops.cast(hidden, "float32"))
    keras.Model(inputs, outputs).save(path)
    assert load(path).count_params() == 24


def test_layers_that_come_with_an_application_are_parts_of_models(path, saved):
    scale = {"module": "keras.src.applications.convnext", "class_name": "LayerScale", "registered_name": "LayerScale"}
    scale["config"] = {"name": "scale", "trainable": True, "init_values": 1.0, "projection_dim": 2}
    with_layer(path, saved, scale)
    assert preflight(path).custom_objects == ()


def _framework_draw():
    backend = keras.backend.backend()
    if backend == "torch":
        return importlib.import_module("torch").rand(2).tolist()
    if backend == "tensorflow":
        return importlib.import_module("tensorflow").random.uniform((2,)).numpy().tolist()
    return []  # JAX has no global random state


def _draws():
    numpy_draws = np.random.rand(2).tolist()  # noqa: NPY002 - the global state is what is looked at
    keras_draws = keras.ops.convert_to_numpy(keras.random.uniform((2,))).tolist()
    return random.random(), numpy_draws, keras_draws, _framework_draw(), keras.layers.Dense(1).name  # noqa: S311


@pytest.mark.parametrize("fails", [False, True])
def test_loading_leaves_every_random_state_and_name_counter_alone(path, saved, fails):
    path.write_bytes(saved)
    if fails:
        with_config(path, saved, lambda config: config["config"]["layers"][-1]["config"].update(rate="much"))

    def after(action):
        keras.utils.clear_session()
        keras.utils.set_random_seed(5)
        action()
        return _draws()

    def loading():
        if fails:
            with pytest.raises(ModelError):
                load(path)
        else:
            load(path)

    assert after(loading) == after(lambda: None)


# ------------------------------------------------------------------------------------- what would run code is refused


def test_a_lambda_is_refused_and_not_run(path, tmp_path):
    sentinel = tmp_path / "ran"
    # The closure is a plain string, so that the bytecode is complete in the file.
    place = str(sentinel)
    lambda_layer = keras.layers.Lambda(lambda t: (open(place, "w").close(), t)[1], name="trick")  # noqa: PTH123
    small_model(lambda_layer).save(path)
    sentinel.unlink()

    with pytest.raises(UnsafeModelError, match=r"the layer 'trick' holds Python bytecode.*safe_mode=False"):
        load(path)
    assert not sentinel.exists()
    keras.models.load_model(path, safe_mode=False)  # the very thing that was prevented
    assert sentinel.exists()


def test_a_lambda_hidden_in_an_argument_is_refused(path, saved):
    hidden = {"class_name": "__lambda__", "config": {"code": "", "defaults": None, "closure": None}}
    layer = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    layer["config"] = {"name": "deep", "trainable": True, "units": 1, "kernel_initializer": [{"a": hidden}]}
    with pytest.raises(UnsafeModelError, match="the layer 'deep' holds Python bytecode"):
        preflight(with_layer(path, saved, layer))


def test_a_lambda_of_keras_2_is_refused(path, saved):
    layer = {"class_name": "Lambda", "config": {"name": "old", "trainable": True, "function": ["4wEA", None, None]}}
    with pytest.raises(UnsafeModelError, match="the layer 'old' holds Python bytecode"):
        preflight(with_layer(path, saved, layer))


@pytest.mark.parametrize("module", ["keras.layers", "keras.src.export.tfsm_layer", None])
@pytest.mark.parametrize("name", ["TorchModuleWrapper", "TFSMLayer"])
def test_layers_that_hold_programs_are_refused(path, saved, name, module):
    layer = {"module": module, "class_name": name, "config": {"name": "wrap", "trainable": True, "module": "gASV"}}
    with pytest.raises(UnsafeModelError, match=f"the layer 'wrap' is a {name}"):
        preflight(with_layer(path, saved, layer))


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("subprocess", "Popen"), ("posix", "system")])
@pytest.mark.parametrize("is_function", [True, False])
def test_a_file_that_names_the_standard_library_is_refused(path, saved, monkeypatch, module, name, is_function):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    layer = entry(name, module) if is_function else entry(name, module, {"args": "true"}, class_name=name)
    with pytest.raises(UnsafeModelError, match=rf"the layer 'bad' names {module}\.{name}, which belongs to Python"):
        load(with_layer(path, saved, layer))


@pytest.mark.parametrize(
    ("module", "name", "class_name"),
    [
        ("keras.utils", "get_file", "function"),
        ("keras.models", "load_model", "function"),
        ("keras.saving", "load_model", "load_model"),
        ("keras.models", "clone_model", "clone_model"),
        ("keras.config", "enable_unsafe_deserialization", "function"),
        ("keras.src.utils.python_utils", "func_load", "function"),
        ("keras.applications", "ResNet50", "ResNet50"),
        ("keras.src.applications.resnet", "ResNet50", "function"),
        ("keras", "version", "version"),
    ],
)
def test_parts_of_keras_that_are_not_parts_of_models_are_refused(path, saved, module, name, class_name):
    config = name if class_name == "function" else {"name": "x"}
    layer = entry(name, module, config, class_name=class_name)
    with pytest.raises(UnsafeModelError, match=rf"names {module}\.{name}, which is not among the modules"):
        preflight(with_layer(path, saved, layer))


def test_a_class_that_is_not_registered_is_refused_with_the_way_to_allow_it(path):
    small_model(Stranger(name="odd")).save(path)
    message = r"the layer 'odd' needs the class 'Stranger'.*--import .*custom_objects"
    with pytest.raises(UnsafeModelError, match=message):
        load(path)
    assert load(path, {"Stranger": Stranger}).count_params() == 8


def test_the_module_of_a_missing_class_is_what_to_import(path, saved):
    classes = ["One", "Two"]
    for name in classes:
        layer = {"module": "my_layers.blocks", "class_name": name, "config": {"name": name, "trainable": True}}
        saved = with_layer(path, saved, {**layer, "registered_name": f"mine>{name}"}).read_bytes()
    message = r"class 'mine>One'.*also missing: mine>Two\).*--import my_layers\)"
    with pytest.raises(UnsafeModelError, match=message):
        preflight(path)
    assert preflight(path, {"mine>One": object, "mine>Two": object}).custom_objects == ("mine>One", "mine>Two")


def test_a_function_that_is_not_registered_is_named(path):
    def act(inputs):
        return inputs

    small_model(keras.layers.Activation(act)).save(path)
    with pytest.raises(ModelError, match=r"the function 'act' is not part of Keras and not registered.*--import"):
        load(path)


# ----------------------------------------------------------------------------------------- files that are not sound


def _corrupt(saved):
    place = saved.index(b"model.weights.h5") + 200
    return saved[:place] + bytes([saved[place] ^ 0xFF]) + saved[place + 1 :]


def _set_encrypted(saved):
    content = bytearray(saved)
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "the file is empty"),
        (lambda saved: saved[:100], "not a readable .keras file"),
        (lambda saved: saved[: len(saved) // 2], "not a readable .keras file"),
        (lambda saved: saved[:-1], "not a readable .keras file"),
        (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(500), "not a readable .keras file"),
        (_corrupt, "'model.weights.h5' is wrong"),
        (_set_encrypted, "is encrypted"),
    ],
    ids=["empty", "start", "half", "last byte", "other format", "flipped bits", "encrypted"],
)
def test_damage_is_one_clear_error(path, saved, change, message):
    path.write_bytes(change(saved))
    with pytest.raises(ModelError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"config.json": None}, "has no config.json"),
        ({"model.weights.h5": None}, "has no model.weights.h5"),
        ({"config.json": "{"}, "config.json is not readable JSON"),
        ({"config.json": b"\xff\xfe\xff"}, "config.json is not readable JSON"),
        ({"config.json": "[" * 100_000}, "config.json is not readable JSON"),
        ({"config.json": "[]"}, "config.json holds a list"),
        ({"config.json": "{}"}, "names no class"),
        ({"config.json": '{"class_name": "A", "module": 3}'}, "expected two strings"),
        ({"metadata.json": "7"}, "metadata.json holds a int"),
        ({"model.weights.h5": b"not HDF5"}, "model.weights.h5 is not readable HDF5"),
    ],
)
def test_a_missing_or_broken_part_is_named(path, saved, members, message):
    parts = {name: content for name, content in (members_of(saved) | members).items() if content is not None}
    with pytest.raises(ModelError, match=message):
        load(pack(path, parts))


def test_truncated_weights_are_one_clear_error(path, saved):
    members = members_of(saved)
    members["model.weights.h5"] = members["model.weights.h5"][:3000]
    with pytest.raises(ModelError, match="not readable HDF5"):
        load(pack(path, members))


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "assets/../../evil", "..\\evil", "C:\\evil", "C:evil"])  # noqa: S108
def test_a_member_that_would_be_unpacked_elsewhere_is_refused(path, saved, name):
    with pytest.raises(UnsafeModelError, match="outside its folder"):
        load(pack(path, members_of(saved) | {name: "x"}))


def test_assets_in_their_folder_are_fine(path, saved):
    assert load(pack(path, members_of(saved) | {"assets/layers/note.txt": "x"})).count_params() == 8


@pytest.mark.parametrize("name", ["assets/bomb", "model.weights.h5", "config.json"])
def test_a_decompression_bomb_is_refused(path, saved, name):
    members = members_of(saved) | {name: bytes(80 * 2**20)}
    pack(path, members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with pytest.raises(UnsafeModelError, match="decompression bomb"):
        load(path)


def test_too_many_members_are_refused(path, saved):
    pack(path, members_of(saved) | {f"assets/{i}": b"" for i in range(MAX_MEMBERS)})
    with pytest.raises(UnsafeModelError, match="members, more than"):
        preflight(path)


def test_a_configuration_too_long_to_parse_is_refused(path, saved, monkeypatch):
    monkeypatch.setattr("analyzer.inspection.model_archive.MAX_JSON_BYTES", 100)
    path.write_bytes(saved)
    with pytest.raises(UnsafeModelError, match=r"config\.json has .* bytes, more than the 100"):
        preflight(path)


def test_a_member_given_twice_is_refused(path, saved):
    path.write_bytes(saved)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeModelError, match=r"'config\.json' is there 2 times"):
        load(path)


# ----------------------------------------------------------------------------------- weights that read other files


def _virtual(file, other):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(other, "x", (2,))
    file.create_virtual_dataset("layers/bad", layout)


def _external(file, other):
    file.create_dataset("layers/bad", (2,), "f4", external=[(other, 0, 8)])


def _external_link(file, other):
    file["layers/bad"] = h5py.ExternalLink(other, "/x")


def _soft_link(file, other):
    file["layers/bad"] = h5py.SoftLink("/layers/dense")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_external_link, "is a ExternalLink"),
        (_soft_link, "is a SoftLink"),
        (_virtual, "is a virtual dataset"),
        (_external, "is an external dataset"),
    ],
)
def test_weights_that_read_other_files_are_refused(path, tmp_path, saved, write, message):
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(2, "f4")
    with pytest.raises(UnsafeModelError, match=rf"'/layers/bad' in model\.weights\.h5 {message}"):
        load(with_weights(path, saved, lambda file: write(file, str(other))))


def test_a_dataset_that_declares_far_more_than_it_stores_is_refused(path, saved):
    with_weights(path, saved, lambda file: file.create_dataset("layers/huge", (2**40,), "f4", chunks=(2**20,)))
    with pytest.raises(UnsafeModelError, match=r"model\.weights\.h5:/layers/huge unpacks to 4398046511104 bytes"):
        load(path)


def test_groups_nested_beyond_measure_are_refused(path, saved):
    with_weights(path, saved, lambda file: file.create_group("/".join("a" * (MAX_HDF5_DEPTH + 2))))
    with pytest.raises(UnsafeModelError, match=f"or {MAX_HDF5_DEPTH} levels"):
        load(path)


def test_groups_that_hold_themselves_are_walked_once(path, saved):
    def tie(file):
        file["layers/dense/again"] = file["layers"]

    assert preflight(with_weights(path, saved, tie)).class_name == "Functional"


# --------------------------------------------------------------------------------------------- what is no model file


def test_what_is_not_a_keras_file_is_named_with_a_way_to_convert(tmp_path, saved):
    (tmp_path / "folder.keras").mkdir()
    for name in ("old.h5", "old.hdf5", "model.zip"):
        (tmp_path / name).write_bytes(saved)
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "nothing.keras")
    with pytest.raises(ModelError, match="is a folder"):
        load(tmp_path / "folder.keras")
    advice = r"load_model\('old\.h5'\); model\.save\('old\.keras'\)"
    with pytest.raises(ModelError, match=f"HDF5 models are not opened.*{advice}"):
        load(tmp_path / "old.h5")
    with pytest.raises(ModelError, match="HDF5 models are not opened"):
        load(tmp_path / "old.hdf5")
    with pytest.raises(ModelError, match=r"ends in \.keras"):
        load(tmp_path / "model.zip")
    with pytest.raises(ModelError, match="not downloaded"):
        load("hf://someone/model")
    with pytest.raises(ModelError, match="not a regular file"):
        load(os.devnull)


def test_a_file_without_permission_says_so(path, saved, monkeypatch):
    path.write_bytes(saved)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(ModelError, match=r"cannot be read \(.*Permission denied\)"):
        preflight(path)


def test_a_file_that_holds_something_else_than_a_model_is_refused(path, saved):
    def to_layer(config):
        config.update(module="keras.layers", class_name="Flatten", config={"name": "flat"}, registered_name=None)

    with pytest.raises(ModelError, match=r"holds a Flatten, expected a keras\.Model"):
        load(with_config(path, saved, to_layer))


def _broken_dense(config):
    config["config"]["layers"][1]["config"]["new_option"] = 1


def test_a_file_from_a_newer_keras_says_to_upgrade(path, saved):
    with_config(path, saved, _broken_dense)
    with pytest.raises(ModelError, match="cannot rebuild the model in it") as caught:
        load(path)
    assert len(str(caught.value)) < 600
    pack(path, members_of(path.read_bytes()) | {"metadata.json": '{"keras_version": "99.1.0"}'})
    with pytest.raises(ModelError, match=r"written by Keras 99\.1\.0, and .* is installed.*Upgrade"):
        load(path)


def test_a_newer_keras_alone_is_no_reason_to_refuse(path, saved):
    pack(path, members_of(saved) | {"metadata.json": '{"keras_version": "99.1.0"}'})
    assert load(path).count_params() == 8


@pytest.mark.parametrize(
    ("version", "warned"),
    [("3.15.0", 1), ("3.12.3", 1), ("3.14.0", 1), ("3.15.1", 0), ("3.12.4", 0), ("3.16.0.dev1", 0)],
)
def test_a_keras_with_known_holes_is_warned_about_once(path, saved, monkeypatch, caplog, version, warned):
    path.write_bytes(saved)
    monkeypatch.setattr(keras, "__version__", version)
    model_file._warn_if_outdated.cache_clear()
    with caplog.at_level(logging.WARNING, logger="analyzer"):
        load(path)
        load(path)
    assert sum("known holes" in record.message for record in caplog.records) == warned


def test_bytes_before_the_archive_do_not_shift_what_is_read(path, saved):
    """Some tools put a header before a zip; offsets inside are then relative to it."""
    path.write_bytes(b"#!header\n" + saved)
    assert struct.unpack("<I", path.read_bytes()[9:13])[0] == 0x04034B50
    assert preflight(path).size == len(saved) + 9
    assert load(Path(path)).count_params() == 8
