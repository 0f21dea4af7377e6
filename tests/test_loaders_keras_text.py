"""Real use: a text classifier trained in Keras, saved, and run from the command line on ragged text."""

import numpy as np
import pytest
from keras_models import keras

from gated_c.cli import main

K = keras.layers

FILLERS = ["the", "a", "very", "quite", "was", "is", "film", "song", "play"]
PRAISE, BLAME = ["good", "great", "fine"], ["bad", "dull", "poor"]
TURNS = ["not", "never"]
WORDS = [*FILLERS, *PRAISE, *BLAME, *TURNS]


def sentences(seed, count):
    """Words, and whether they praise: a "not" before the verdict turns it around."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        turned, praises = rng.integers(0, 2, 2)
        verdict = [str(rng.choice(TURNS))] * turned + [str(rng.choice(PRAISE if praises else BLAME))]
        texts.append([*map(str, rng.choice(FILLERS, rng.integers(0, 6))), *verdict])
        labels.append(praises ^ turned)
    return texts, np.array(labels)


def padded(texts):
    """Ids from 1 on, 0 behind the end."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, words in zip(ids, texts, strict=True):
        row[: len(words)] = [1 + WORDS.index(word) for word in words]
    return ids


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            K.Embedding(len(WORDS) + 1, 8, mask_zero=True),
            K.Bidirectional(K.LSTM(8)),
            K.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    texts, labels = sentences(0, 256)
    model.fit(padded(texts), labels, batch_size=64, epochs=25, verbose=0)
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving
@pytest.mark.parametrize("name", ["reviews.keras", "reviews.h5"])
def test_labels_from_the_command_line_are_those_of_keras(tmp_path, classifier, name):
    texts, labels = sentences(1, 200)
    classifier.save(tmp_path / name)
    np.save(tmp_path / "ids.npy", padded(texts))
    paths = [str(tmp_path / file) for file in (name, "ids.npy", "scores.npy")]
    assert main(["run", *paths[:2], "-o", paths[2]]) == 0
    scores, expected = np.load(paths[2]), classifier.predict(padded(texts), verbose=0)
    assert scores.shape == expected.shape
    np.testing.assert_array_equal(scores.argmax(1), expected.argmax(1))
    assert np.mean(scores.argmax(1) == labels) > 0.9


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving
def test_lengths_do_what_padding_does(tmp_path, classifier):
    texts, _ = sentences(2, 50)
    classifier.save(tmp_path / "reviews.keras")
    ids, lengths = padded(texts), np.array([len(words) for words in texts])
    np.save(tmp_path / "ids.npy", np.where(ids == 0, 3, ids))
    np.save(tmp_path / "lengths.npy", lengths)
    paths = [str(tmp_path / file) for file in ("reviews.keras", "ids.npy", "lengths.npy", "scores.npy")]
    assert main(["run", *paths[:2], "--lengths", paths[2], "-o", paths[3]]) == 0
    expected = classifier.predict(ids, verbose=0)
    np.testing.assert_array_equal(np.load(paths[3]).argmax(1), expected.argmax(1))
