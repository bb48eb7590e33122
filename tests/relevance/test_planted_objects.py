"""Detection and segmentation networks trained on planted objects: their relevance conserves and lies on the object.

An object is a bright square with a texture, on noise. It counts as found where relevance lies on its pixels or at most
`REACH` pixels beside it: an edge of the object is seen by units whose receptive fields reach that far beyond it (two
3 x 3 convolutions with a pooling between them see 8 x 8 pixels, 4 on each side of their middle).
"""

import keras
import numpy as np
import pytest

from analyzer.relevance.explain import explain

pytestmark = pytest.mark.slow

L = keras.layers
SIZE, OBJECT, REACH = 32, 8, 4
N_TRAIN, N_TEST = 384, 16


def planted(n, seed):
    """Images, the class and box of each one's object, and its mask."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.05, (n, SIZE, SIZE, 1)).astype("float32")
    masks = np.zeros((n, SIZE, SIZE, 1), "float32")
    corners = rng.integers(0, SIZE - OBJECT + 1, (n, 2))
    classes = rng.integers(0, 2, n)
    rows, columns = np.indices((OBJECT, OBJECT))
    textures = [1 + (rows + columns) % 2, 1 + rows // 2 % 2]
    for image, mask, (top, left), kind in zip(images, masks, corners, classes, strict=True):
        where = (slice(top, top + OBJECT), slice(left, left + OBJECT))
        image[where] += textures[kind][..., None]
        mask[where] = 1
    boxes = np.concatenate([corners, corners + OBJECT], axis=1).astype("float32") / SIZE
    return images, classes, boxes, masks


def near(masks):
    """The objects and what lies at most `REACH` pixels beside them."""
    wide = np.pad(masks[..., 0] > 0, ((0, 0), (REACH, REACH), (REACH, REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * REACH + 1, 2 * REACH + 1), axis=(1, 2))
    return windows.any((-1, -2))


def on_object(relevance, masks):
    """Share of the positive relevance of all samples."""
    positive = np.maximum(relevance.sum(-1), 0)
    return (positive * near(masks)).sum() / positive.sum()


def trained(model, x, y, loss, epochs):
    """The model, its weights and batches the same on every backend."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        fan_in = np.prod(variable.shape[:-1])
        # Biases start a little below zero: noise alone then rarely passes a ReLU.
        drawn = rng.normal(size=variable.shape) * np.sqrt(2 / fan_in)
        variable.assign(drawn if len(variable.shape) > 1 else np.full(variable.shape, -0.1))
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def objects():
    return planted(N_TEST, 1)


@pytest.fixture(scope="module")
def detector():
    """A class and a box from one trunk."""
    images, classes, boxes, _ = planted(N_TRAIN, 0)
    inputs = L.Input((SIZE, SIZE, 1))
    x = L.MaxPooling2D()(L.Conv2D(8, 3, padding="same", activation="relu")(inputs))
    x = L.MaxPooling2D()(L.Conv2D(12, 3, padding="same", activation="relu")(x))
    likely = L.Dense(2, "softmax", name="cls")(L.GlobalMaxPooling2D()(x))
    outputs = {"cls": likely, "box": L.Dense(4, name="box")(L.Flatten()(x))}
    losses = {"cls": "sparse_categorical_crossentropy", "box": "mse"}
    return trained(keras.Model(inputs, outputs), images, {"cls": classes, "box": boxes}, losses, epochs=12)


@pytest.fixture(scope="module")
def segmenter():
    """Down and up again, with a skip connection at each size."""
    images, _, _, masks = planted(N_TRAIN, 0)
    inputs = L.Input((SIZE, SIZE, 1))
    first = L.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    second = L.Conv2D(8, 3, padding="same", activation="relu")(L.MaxPooling2D()(first))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(L.MaxPooling2D()(second))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(L.Concatenate()([L.UpSampling2D()(x), second]))
    x = L.Concatenate()([L.Conv2DTranspose(6, 2, strides=2)(x), first])
    outputs = L.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    return trained(keras.Model(inputs, outputs), images, masks, "binary_crossentropy", epochs=5)


def check(found, masks):
    (relevance,) = found.inputs.values()
    assert found.unexplained_fraction < 1e-3
    absorbed = found.ledger[["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]].to_numpy().sum()
    total = relevance.sum((1, 2, 3)).mean() + absorbed
    assert total == pytest.approx(found.output.mean(), abs=float(1e-3 * np.abs(relevance).sum((1, 2, 3)).mean()))
    assert near(masks).mean() < 0.3
    assert on_object(relevance, masks) >= 0.8


def test_the_class_of_a_detection(detector, objects):
    images, classes, _, masks = objects
    found = explain(detector, images, {"cls": "predicted"}, "epsilon_plus")
    assert np.mean(found.targets == classes) > 0.9
    check(found, masks)


def test_the_box_of_a_detection(detector, objects):
    images, _, boxes, masks = objects
    found = explain(detector, images, {"box": "predicted"}, "epsilon_plus", task="box")
    assert np.abs(found.output - boxes.sum(1)).mean() < 0.3
    check(found, masks)


def test_a_function_of_class_and_box(detector, objects):
    images, _, _, masks = objects

    def width_of_the_likely(outputs):
        likely = keras.ops.max(outputs["cls"], axis=-1)
        return likely + outputs["box"][:, 3] - outputs["box"][:, 1]

    check(explain(detector, images, width_of_the_likely, "epsilon_plus"), masks)


@pytest.mark.parametrize("method", ["auto", "magnitude"])
def test_a_mask(segmenter, objects, method):
    images, _, _, masks = objects
    probability = np.asarray(keras.ops.convert_to_numpy(segmenter(images)))
    assert np.mean((probability > 0.5) == (masks > 0)) > 0.97
    found = explain(segmenter, images, method=method, threshold=0.5)
    assert "mask" in found.target
    check(found, masks)
