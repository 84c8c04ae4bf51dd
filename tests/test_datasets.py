import pickle
import struct

import numpy as np
import pytest
import torch

from releq_gym.datasets import DATASETS, Split, Splits, load_splits
from releq_gym.datasets.augment import find_augmentation, flip_shift, shift
from releq_gym.datasets.base import data_root as find_data_root
from releq_gym.datasets.base import hash_index, hold_out
from releq_gym.datasets.normalise import Normalise
from releq_gym.registry import UnknownNameError

DIGITS_SEARCH_INDEX = "42b1485c5edfe7b120425297d95220fd9ac1910a649a817f42061af1e8e7c768"
MNIST_SEARCH_INDEX = "8ee49ad1c3ab50d20bc930b75400fe5234e4afa59dd5e65bdb74d047b537c71e"


def write_idx(folder, prefix, count):
    """Two files in the official format; image i is filled with i, its label is i modulo 10."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
        struct.pack(">iiii", 0x803, count, 28, 28) + images.tobytes()
    )
    (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
        struct.pack(">ii", 0x801, count) + labels.tobytes()
    )


@pytest.fixture
def tiny_mnist(tmp_path):
    write_idx(tmp_path, "train", 100)
    write_idx(tmp_path, "t10k", 20)
    return tmp_path


def rows(split):
    return {tuple(image.flatten().tolist()) for image in split.images}


def test_digits_splits_are_disjoint_complete_and_pinned():
    splits = load_splits("digits")
    parts = (splits.train, splits.search, splits.report)
    assert [len(part) for part in parts] == [898, 450, 449]
    assert len(rows(splits.train) | rows(splits.search) | rows(splits.report)) == sum(
        len(rows(part)) for part in parts
    )
    assert splits.search.index_sha256 == DIGITS_SEARCH_INDEX


def test_digits_splits_are_stratified():
    splits = load_splits("digits")
    for part in (splits.train, splits.search, splits.report):
        shares = part.labels.bincount(minlength=10) / len(part)
        assert (shares - 0.1).abs().max() < 0.01


def test_images_are_compact_and_in_range(tiny_mnist):
    digits, mnist = load_splits("digits").search, load_splits("mnist", tiny_mnist).search
    assert digits.images.shape[1:] == (1, 8, 8)
    assert digits.images.min() == 0 and digits.images.max() == 1
    assert mnist.images.dtype == torch.uint8 and mnist.images.shape[1:] == (1, 28, 28)


def test_mnist_is_read_from_the_official_files(tiny_mnist):
    splits = load_splits("mnist", tiny_mnist)
    assert [len(part) for part in (splits.train, splits.search, splits.report)] == [80, 20, 20]
    pixels = torch.cat([splits.train.images, splits.search.images])[:, 0, 0, 0]
    assert sorted(pixels.tolist()) == list(range(100))
    for part in (splits.train, splits.search):
        assert torch.equal(part.images[:, 0, 5, 7].long() % 10, part.labels)


def test_environment_variable_names_the_data_folder(tiny_mnist, monkeypatch):
    monkeypatch.setenv("RELEQ_GYM_DATA", str(tiny_mnist))
    assert len(load_splits("mnist").train) == 80


def test_only_the_cache_folder_is_downloaded_into(tmp_path, monkeypatch):
    monkeypatch.delenv("RELEQ_GYM_DATA", raising=False)
    assert find_data_root(tmp_path) == (tmp_path, False)
    folder, download = find_data_root(None)
    assert download and folder.name == "data"


def test_missing_data_set_says_where_it_looked_and_what_to_pass(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read from .*RELEQ_GYM_DATA.*MNIST/raw"):
        load_splits("mnist", tmp_path)


def test_failed_download_is_a_sentence(tmp_path, monkeypatch):
    def no_network(self):
        raise OSError("Network is unreachable")

    monkeypatch.delenv("RELEQ_GYM_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST.download", no_network)
    with pytest.raises(ValueError, match=r"Network is unreachable.*RELEQ_GYM_DATA"):
        load_splits("mnist")


def test_truncated_file_is_a_sentence(tiny_mnist):
    path = tiny_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        load_splits("mnist", tiny_mnist)


def test_report_is_read_on_first_access_only(tiny_mnist):
    splits = load_splits("mnist", tiny_mnist)
    (tiny_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        _ = splits.report


def test_splits_survive_pickling(tiny_mnist):
    splits = pickle.loads(pickle.dumps(load_splits("mnist", tiny_mnist)))
    assert len(splits.report) == 20


def test_unknown_data_set_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'mnist'"):
        load_splits("mnits")


def test_search_split_cut_from_train_can_be_refused():
    with pytest.raises(ValueError, match=r"search_from_train=True"):
        load_splits("digits", search_from_train=False)


def test_splits_object_is_taken_at_its_word():
    splits = load_splits("digits")
    assert load_splits(splits, search_from_train=False) is splits


def test_every_registered_data_set_is_listed():
    assert set(DATASETS.names()) >= {"digits", "mnist"}


@pytest.mark.parametrize(("count", "held"), [(60_000, 5_000), (50_000, 5_000), (1_000, 200)])
def test_hold_out_sizes(count, held):
    train, search = hold_out(Split(torch.zeros(count, 1, dtype=torch.uint8), torch.arange(count)))
    assert (len(train), len(search)) == (count - held, held)
    assert not set(train.labels.tolist()) & set(search.labels.tolist())


def test_hold_out_of_mnist_is_pinned():
    _, search = hold_out(Split(torch.zeros(60_000, 1, dtype=torch.uint8), torch.arange(60_000)))
    assert search.index_sha256 == hash_index(search.labels) == MNIST_SEARCH_INDEX


def test_split_hash_sees_images_labels_and_order():
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 2, 3])
    split = Split(images, labels)
    flipped = torch.tensor([3, 2, 1, 0])
    assert split.sha256 == Split(images.clone(), labels.clone()).sha256
    assert (
        len({split.sha256, Split(images, flipped).sha256, Split(images[flipped], labels).sha256})
        == 3
    )


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64), "float64"),
        (torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64), "one int64 class per image"),
        (torch.zeros(2, 1), torch.zeros(2, dtype=torch.int32), "one int64 class per image"),
        (torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), "no images"),
    ],
)
def test_split_refuses_what_cannot_be_used(images, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        Split(images, labels)


def test_normalise_by_channel():
    images = torch.tensor([[[[255]], [[0]]]], dtype=torch.uint8)
    normalised = Normalise(mean=(0.5, 0.5), std=(0.5, 0.25))(images)
    assert normalised.flatten().tolist() == [1.0, -2.0]
    assert torch.equal(Normalise((0.5,), (0.5,))(images).flatten(), torch.tensor([1.0, -1.0]))


def test_shift_moves_whole_images_and_fills_with_zero():
    images = torch.zeros(64, 2, 16, 16)
    images[:, :, 8, 8] = 1
    moved = shift(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum(dim=(2, 3)), torch.ones(64, 2))
    assert torch.equal(moved[:, 0], moved[:, 1])
    positions = moved[:, 0].flatten(1).argmax(dim=1)
    rows_, columns = positions // 16, positions % 16
    assert set(rows_.tolist()) == set(columns.tolist()) == {6, 7, 8, 9, 10}


def test_flip_shift_mirrors_half():
    images = torch.zeros(200, 1, 16, 16)
    images[..., :8] = 1
    left = flip_shift(images, torch.Generator().manual_seed(0))[:, 0, 8, 4]
    assert 70 < left.sum() < 130


@pytest.mark.parametrize("augment", [shift, flip_shift])
def test_augmentation_depends_on_its_generator_alone(augment):
    images = torch.rand(8, 3, 16, 16)
    state = torch.random.get_rng_state()
    first = augment(images, torch.Generator().manual_seed(1))
    assert torch.equal(first, augment(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, torch.Generator().manual_seed(2)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_unknown_augmentation_names_the_nearest():
    assert find_augmentation("none") is None
    with pytest.raises(UnknownNameError, match="Did you mean 'shift'"):
        find_augmentation("shfit")


@pytest.mark.data
def test_real_mnist_has_the_official_sizes(data_root):
    splits = load_splits("mnist", data_root)
    assert isinstance(splits, Splits)
    assert [len(part) for part in (splits.train, splits.search, splits.report)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert splits.search.index_sha256 == MNIST_SEARCH_INDEX
