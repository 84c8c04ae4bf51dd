import importlib
import os
import pickle
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from releq_gym.datasets import DATASETS, Split, Splits, load_splits
from releq_gym.datasets.augment import find_augmentation, flip_shift, shift
from releq_gym.datasets.base import data_root as find_data_root
from releq_gym.datasets.base import first_positions, hash_index, hold_out, hold_out_by_content
from releq_gym.datasets.mnistm import blend
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


def test_a_folder_that_does_not_exist_is_said_so(tmp_path):
    with pytest.raises(ValueError, match="nowhere, which does not exist") as refused:
        load_splits("mnist", tmp_path / "nowhere")
    assert "download=True" not in str(refused.value)


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
        (torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64), "one per image: an int64 class"),
        (torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), "no images"),
        (torch.zeros(2, 1), np.array(["cat", "dog"]), "labels of a Split are <U3; give numbers"),
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


def random_images(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def write_npz(path, **counts):
    """One part per keyword; all images differ."""
    arrays = {}
    for seed, (part, count) in enumerate(counts.items()):
        arrays[f"{part}_images"] = random_images(count, seed=seed)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 10
    np.savez(path, **arrays)
    return path


def write_folder(root, images):
    """Image i is in the class folder ``c<i % 10>``."""
    for place, image in enumerate(images):
        folder = root / f"c{place % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place:05}.png")


@pytest.mark.parametrize(
    ("counts", "sizes", "from_train"),
    [
        ({"train": 40, "val": 10, "test": 20}, (40, 10, 20), False),
        ({"val": 10, "test": 20}, (0, 10, 20), False),
        ({"train": 50, "test": 20}, (40, 10, 20), True),
        ({"train": 40, "val": 20}, (40, 10, 10), False),
        ({"val": 20}, (0, 10, 10), False),
        ({"train": 40}, (20, 10, 10), True),
    ],
)
def test_parts_become_splits_without_a_shared_image(tmp_path, counts, sizes, from_train):
    splits = load_splits(str(write_npz(tmp_path / "mine.npz", **counts)))
    parts = (splits.train, splits.search, splits.report)
    assert splits.name == "mine"
    assert tuple(0 if part is None else len(part) for part in parts) == sizes
    assert splits.search_from_train is from_train
    for part, count in (("search", sizes[1]), ("report", sizes[2])):
        assert re.search(rf"{part} is [\w ]+ \({count}( images)?\)", str(splits))
    assert len(set().union(*(rows(part) for part in parts if part))) == sum(sizes)


def test_npz_and_image_folder_of_the_same_images_give_the_same_splits(tmp_path):
    path = write_npz(tmp_path / "mine.npz", train=50, test=20)
    arrays = np.load(path)
    for part in ("train", "test"):
        write_folder(tmp_path / "mine" / part, arrays[f"{part}_images"])
    packed, folder = (load_splits("cifar10", where) for where in (path, tmp_path / "mine"))
    assert packed.train.sha256 == folder.train.sha256
    assert packed.search.sha256 == folder.search.sha256
    assert rows(packed.report) == rows(folder.report)


def test_hold_out_by_content_does_not_depend_on_the_order():
    split = Split(torch.rand(60, 1, 4, 4), torch.arange(60))
    order = torch.randperm(60)
    for one, other in zip(
        hold_out_by_content(split),
        hold_out_by_content(Split(split.images[order], split.labels[order])),
        strict=True,
    ):
        assert one.sha256 == other.sha256


def test_npz_of_inputs_that_are_no_images_keeps_their_shape(tmp_path):
    signals = np.random.default_rng(0).random((40, 2, 16))
    np.savez(tmp_path / "s.npz", train_images=signals, train_labels=np.arange(40) % 3)
    splits = load_splits(str(tmp_path / "s.npz"))
    assert splits.train.images.shape == (20, 2, 16)
    assert splits.train.images.dtype == torch.float32


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros(3)}, "holds x; it needs train_images and train_labels, or val_"),
        ({"train_images": np.zeros((8, 4, 4), np.uint8)}, "no train_labels"),
        (
            {"train_images": np.zeros((8, 4, 4), np.uint8), "train_labels": np.zeros((8, 2), int)},
            "one integer per image",
        ),
    ],
)
def test_npz_without_the_right_arrays_is_explained(tmp_path, arrays, sentence):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=sentence):
        load_splits("cifar10", tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"val_labels": np.array(3)}, r"val_labels is int64 of shape \(\)"),
        ({"val_images": np.full((20, 4, 4), "x")}, "val_images is <U1; images are uint8"),
        (
            {"val_images": np.full((20, 4, 4), np.nan)},
            r"mine\.npz, val: The images of a Split hold NaN or infinity",
        ),
        (
            {"val_labels": np.arange(19)},
            r"mine\.npz, val: Labels of shape \(19,\) for 20 images",
        ),
        (
            {"train_images": np.zeros((0, 4, 4), np.uint8), "train_labels": np.zeros(0, int)},
            r"mine\.npz, train: A split holds no images",
        ),
    ],
)
def test_npz_of_what_is_no_image_or_no_label_is_a_sentence(tmp_path, arrays, sentence):
    good = {"val_images": np.zeros((20, 4, 4), np.uint8), "val_labels": np.arange(20)}
    np.savez(tmp_path / "mine.npz", **good | arrays)
    with pytest.raises(ValueError, match=sentence):
        load_splits(str(tmp_path / "mine.npz"))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"val": 1}, r"val: to be cut .* 2 images or more, not 1"),
        ({"train": 9, "val": 0}, r"val: to be cut .* 2 images or more, not 0"),
        ({"train": 3}, r"train: to be cut .* 4 images or more, not 3"),
        ({"train": 4, "test": 9}, r"train: to be cut .* 5 images or more, not 4"),
        ({"train": 5, "test": 9}, r"train: A split holds no images"),
    ],
)
def test_a_part_that_is_too_small_to_be_cut_is_named(tmp_path, sizes, sentence):
    arrays = {}
    for part, size in sizes.items():
        arrays[f"{part}_images"] = np.zeros((size, 4, 4), np.uint8)  # which are all the same
        arrays[f"{part}_labels"] = np.zeros(size, int)
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=r"mine\.npz, " + sentence):
        load_splits(str(tmp_path / "mine.npz"))


def test_a_folder_that_is_too_small_to_be_cut_is_named(tmp_path):
    (tmp_path / "val" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "val" / "cat" / "1.png")
    with pytest.raises(ValueError, match=r"/val: to be cut into search images"):
        load_splits(str(tmp_path))


def test_npz_with_a_part_of_another_name_is_told(tmp_path):
    images, labels = np.zeros((8, 5, 5), np.uint8), np.arange(8)
    parts = {f"{part}_images": images for part in ("val", "dev")}
    parts |= {f"{part}_labels": labels for part in ("val", "dev")}
    np.savez(tmp_path / "own.npz", names=labels, **parts)
    with pytest.warns(UserWarning, match=r"own.npz holds dev_images, dev_labels, too, which"):
        load_splits(str(tmp_path / "own.npz"))


def test_missing_or_damaged_npz_is_a_sentence(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    for name in ("bad.npz", "none.npz"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_splits(str(tmp_path / name))


def test_arrays_of_numpy_make_a_split():
    images, labels = np.zeros((4, 1, 2, 2), np.float32), np.arange(4)
    for array in (images, labels):
        array.flags.writeable = False
    split = Split(images, labels)
    assert split.images.dtype == torch.float32 and split.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"The labels of a Split are a list; give a tensor"):
        Split(split.images, [0, 1, 2, 3])


def test_uint8_images_with_channels_first_are_a_sentence(tmp_path):
    labels = np.zeros(8, int)
    np.savez(tmp_path / "x.npz", val_images=np.zeros((8, 3, 9, 9), np.uint8), val_labels=labels)
    with pytest.raises(ValueError, match=r"\(8, 3, 9, 9\), .*transpose\(0, 2, 3, 1\)"):
        load_splits(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("content", ["array", "text", "objects"])
def test_no_error_of_numpy_about_pickles_is_passed_on(tmp_path, content):
    path = tmp_path / "x.npz"
    objects = np.array([{}, 1], dtype=object)
    if content == "objects":
        np.savez(path, val_images=objects, val_labels=objects)
    elif content == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_text("no archive")
    with pytest.raises(ValueError) as caught:
        load_splits(str(path))
    assert "pickle" not in str(caught.value)
    assert "no .npz file" in str(caught.value) or "Python objects" in str(caught.value)


def test_a_folder_or_file_that_is_no_data_set_is_a_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=rf"{path} is no data set: an .npz file is one, or"):
            load_splits(str(path))


def test_grey_images_have_one_channel(tmp_path):
    write_folder(tmp_path / "grey", random_images(20)[..., 0])
    assert load_splits(str(tmp_path / "grey")).search.images.shape == (5, 1, 32, 32)


def test_whether_a_folder_is_grey_is_said_by_its_first_image(tmp_path):
    for part, seed in (("train", 0), ("val", 1), ("test", 2)):
        write_folder(tmp_path / part, random_images(20, seed=seed))
    Image.fromarray(random_images(1)[0, ..., 0]).save(tmp_path / "test" / "c0" / "0.png")
    splits = load_splits(str(tmp_path))
    assert splits.search.images.shape[1] == splits.report.images.shape[1] == 3


def test_a_part_of_another_size_is_refused_before_it_is_opened(tmp_path):
    write_folder(tmp_path / "val", random_images(20))
    write_folder(tmp_path / "test", random_images(20, size=30))
    with pytest.raises(ValueError, match=r"test.* is 30x30 pixels large, .*val.* is 32x32"):
        load_splits(str(tmp_path))


def test_images_of_different_sizes_are_refused(tmp_path):
    write_folder(tmp_path, random_images(19))
    Image.fromarray(random_images(1, size=30)[0]).save(tmp_path / "c0" / "odd.png")
    with pytest.raises(ValueError, match="Bring all images to the size"):
        _ = load_splits(str(tmp_path)).report, load_splits(str(tmp_path)).train


def test_images_of_more_than_eight_bits_are_refused(tmp_path):
    write_folder(tmp_path, random_images(20)[..., 0].astype("uint16") * 256)
    with pytest.raises(ValueError, match=r"more than 8 bits \(mode I;16\); convert"):
        load_splits(str(tmp_path))


def test_some_images_of_a_folder_are_of_all_its_classes():
    mixed, sorted_ = torch.arange(30) % 3, torch.arange(30) // 10
    assert first_positions(mixed, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert first_positions(sorted_, 6).tolist() == [0, 5, 10, 15, 20, 25]
    assert first_positions(sorted_, 31).tolist() == list(range(30))
    assert first_positions(torch.rand(30), 2).tolist() == [0, 1]


def test_a_part_may_be_called_valid_and_hidden_folders_are_no_classes(tmp_path):
    for part, seed in (("train", 0), ("valid", 1), ("test", 2)):
        write_folder(tmp_path / part, random_images(20, seed=seed))
        (tmp_path / part / ".ipynb_checkpoints").mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / part / ".ipynb_checkpoints" / "0.png")
    splits = load_splits(str(tmp_path))
    assert not splits.search_from_train and len(splits.search) == 20
    assert splits.search.labels.max() == 9
    assert len(load_splits(str(tmp_path / "valid")).search) == 10
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match="holds val and valid, which are names of one part"):
        load_splits(str(tmp_path))


def test_a_class_folder_without_images_is_refused_for_it_would_shift_the_others(tmp_path):
    for part in ("train", "val"):
        write_folder(tmp_path / part, random_images(20))
    (tmp_path / "val" / "c3").rename(tmp_path / "c3")
    (tmp_path / "val" / "c3").mkdir()
    assert load_splits(str(tmp_path)).search.labels.max() == 9  # train has images of that class
    (tmp_path / "train" / "c05").mkdir()
    (tmp_path / "train" / "c05" / "0.gif").touch()
    with pytest.raises(ValueError, match=r"c05 holds no image .*, or to be removed"):
        load_splits(str(tmp_path))


def test_a_part_without_class_folders_is_refused(tmp_path):
    write_folder(tmp_path / "train", random_images(20))
    (tmp_path / "val").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "val" / "0.png")
    with pytest.raises(ValueError, match="val holds images, but no folder per class"):
        load_splits(str(tmp_path))


def test_pictures_beside_a_data_set_do_not_hide_it(tiny_mnist):
    write_folder(tiny_mnist, random_images(20, size=28))
    (tiny_mnist / "c0" / "._0.png").write_bytes(b"of macOS")
    assert load_splits("mnist", tiny_mnist).official
    with pytest.raises(ValueError, match="MNIST holds no image"):
        load_splits("cifar10", tiny_mnist)
    write_folder(tiny_mnist / "mine", random_images(20, size=28))
    assert not load_splits("digits", tiny_mnist / "mine").official  # a user's, for that network


def test_splits_are_made_of_splits():
    search = Split(torch.rand(4, 1), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"search= of Splits is a NoneType; .*labels\)\.$"):
        Splits("mine", search, None)
    with pytest.raises(ValueError, match=r"train= of Splits is a Tensor; give Split.*, or None"):
        Splits("mine", search.images, search)
    with pytest.raises(ValueError, match="returned a NoneType; it has to return Split"):
        _ = Splits("mine", None, search, lambda: None).report


def test_a_report_that_is_no_function_is_refused():
    search = Split(torch.rand(4, 1), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="give a function that returns the split, such as lambda"):
        Splits("mine", None, search, search)


def test_targets_are_told_apart_by_shape_and_type():
    images, targets = torch.rand(4, 1), torch.rand(4)
    hashes = {Split(images, targets.view(shape)).sha256 for shape in ((4,), (4, 1))}
    assert len(hashes | {Split(images, targets.view(torch.int32)).sha256}) == 3


def test_damaged_image_is_named(tmp_path):
    write_folder(tmp_path, random_images(20))
    for path in tmp_path.glob("c3/*"):
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"c3.*cannot be read"):
        _ = load_splits(str(tmp_path)).report, load_splits(str(tmp_path)).train
    (tmp_path / "c0" / "00000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"c0.*cannot be read"):
        load_splits(str(tmp_path))


def test_an_image_of_more_pixels_than_pillow_opens_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, random_images(20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"00000.png cannot be read: .*decompression bomb"):
        load_splits(str(tmp_path))


def test_no_data_set_at_all_is_not_the_current_folder(tmp_path, monkeypatch):
    write_folder(tmp_path, random_images(20))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Nothing says which data to take"):
        load_splits("")


def test_equal_images_are_on_one_side_of_what_is_held_out():
    images = torch.arange(12).repeat_interleave(5).view(-1, 1, 1, 1).repeat(1, 1, 2, 2).float()
    train, search = hold_out_by_content(Split(images, torch.arange(60)))
    assert not {image.mean().item() for image in train.images} & {
        image.mean().item() for image in search.images
    }
    assert len(search) == 15  # at least a fifth


def test_imagenet_crops_photos_and_numbers_classes_among_the_thousand(tmp_path):
    folder = tmp_path / "imagenet" / "val" / "n01443537"  # the second of the 1,000
    folder.mkdir(parents=True)
    for place, size in enumerate([(300, 256), (256, 256), (240, 500), (224, 224)]):
        Image.new("RGB", size, (place, 0, 0)).save(folder / f"{place}.png")
    splits = load_splits("imagenet", tmp_path)
    assert splits.train is None and not splits.search_from_train
    assert splits.search.images.shape == splits.report.images.shape == (2, 3, 224, 224)
    assert splits.search.labels.tolist() == splits.report.labels.tolist() == [1, 1]


@pytest.mark.parametrize(("name", "held_out"), [("val", True), ("test", True), ("mine", False)])
def test_a_folder_of_classes_is_the_part_that_it_is_called(tmp_path, name, held_out):
    write_folder(tmp_path / name, random_images(20))
    splits = load_splits(str(tmp_path / name))
    assert splits.search_from_train is not held_out
    assert (splits.train is None) is held_out


def test_of_imagenet_no_more_photos_are_used_than_fit_into_memory(tmp_path, monkeypatch):
    for part, count in (("train", 9), ("val", 12)):
        folder = tmp_path / part / "n01443537"
        folder.mkdir(parents=True)
        for place in range(count):
            Image.new("RGB", (256, 256), (10 * place, len(part), 0)).save(folder / f"{place}.png")
    image_folder = importlib.import_module("releq_gym.datasets.image_folder")
    monkeypatch.setattr(image_folder, "PHOTOS", {"train": 4, "val": 10})
    splits = load_splits("imagenet", tmp_path)
    assert (len(splits.train), len(splits.search), len(splits.report)) == (4, 5, 5)
    assert len(rows(splits.search) | rows(splits.report)) == 10
    assert splits.search.sha256 == load_splits("imagenet", tmp_path).search.sha256


def test_imagenet_without_files_or_with_foreign_classes_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"There is no ImageNet in .*val/<wnid>/<image>"):
        load_splits("imagenet", tmp_path)
    write_folder(tmp_path / "val", random_images(4))
    with pytest.raises(ValueError, match=r"'c0', which is none of ImageNet's 1,000"):
        load_splits("imagenet", tmp_path)


def test_name_in_place_of_a_path_replaces_the_data_set(tiny_mnist, monkeypatch):
    monkeypatch.setenv("RELEQ_GYM_DATA", str(tiny_mnist))
    assert load_splits("cifar10", "mnist").name == "mnist"


def test_cifar10_is_read_from_a_folder_with_the_npz(tmp_path):
    write_npz(tmp_path / "cifar10.npz", train=50, test=20)
    splits = load_splits("cifar10", tmp_path)
    assert splits.search_from_train
    assert [len(part) for part in (splits.train, splits.search, splits.report)] == [40, 10, 20]
    assert splits.search.sha256 == load_splits("cifar10", tmp_path / "cifar10.npz").search.sha256


def test_cifar10_is_read_from_the_official_batches(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = random_images(60)
    for place, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = images[10 * place : 10 * place + 10].transpose(0, 3, 1, 2).reshape(10, -1)
        content = {"data": batch, "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    splits = load_splits("cifar10", tmp_path)
    assert [len(part) for part in (splits.train, splits.search, splits.report)] == [40, 10, 10]
    expected = torch.from_numpy(images[50:]).permute(0, 3, 1, 2)
    assert torch.equal(splits.report.images, expected)


@pytest.mark.parametrize("dataset", ["cifar10", "svhn", "mnistm"])
def test_missing_files_of_a_data_set_are_a_sentence(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read from .*RELEQ_GYM_DATA"):
        load_splits(dataset, tmp_path)


def test_svhn_is_read_from_the_official_files(tmp_path):
    for part, count in (("train", 50), ("test", 20)):
        images = random_images(count, seed=count).transpose(1, 2, 3, 0)
        labels = (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels})
    splits = load_splits("svhn", tmp_path)
    assert [len(part) for part in (splits.train, splits.search, splits.report)] == [40, 10, 20]
    expected = torch.from_numpy(random_images(20, seed=20)).permute(0, 3, 1, 2)
    assert torch.equal(splits.report.images, expected)
    assert splits.report.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("damage", ["empty", "corrupt", "flat"])
def test_damaged_svhn_is_a_sentence(tmp_path, damage):
    path = tmp_path / "train_32x32.mat"
    images = np.zeros((32, 32, 3, 20), np.uint8)
    flat = {"X": images.reshape(-1)} if damage == "flat" else {}
    labels = np.ones((20, 1), np.uint8)
    scipy.io.savemat(path, {"X": images, "y": labels, **flat}, do_compression=True)
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "corrupt":
        path.write_bytes(content[:150] + bytes(20) + content[170:])
    with pytest.raises(ValueError, match="SVHN cannot be read from"):
        load_splits("svhn", tmp_path)


def test_mnistm_is_the_same_every_time_and_keeps_the_official_split(tiny_mnist):
    write_npz(tiny_mnist / "cifar10.npz", train=30, test=8)
    first, second = (load_splits("mnistm", tiny_mnist) for _ in range(2))
    assert [len(part) for part in (first.train, first.search, first.report)] == [80, 20, 20]
    assert first.train.sha256 == second.train.sha256
    assert first.report.images.shape == (20, 3, 32, 32)
    # Around a digit its photograph is seen unchanged.
    photos = np.load(tiny_mnist / "cifar10.npz")["test_images"]
    margins = {tuple(photo[0].transpose(1, 0).ravel().tolist()) for photo in photos}
    seen = {tuple(image[:, 0].flatten().tolist()) for image in first.report.images}
    assert seen <= margins


def test_blend_is_the_absolute_difference():
    digits = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    photos = torch.full((1, 3, 32, 32), 50, dtype=torch.uint8)
    blended = blend(digits, photos)
    assert blended[..., 2:30, 2:30].unique().tolist() == [150]
    assert blended[..., :2, :].unique().tolist() == [50]


def write_svhn(folder):
    for part in ("train", "test"):
        arrays = {"X": random_images(50).transpose(1, 2, 3, 0), "y": np.ones((50, 1), np.uint8)}
        scipy.io.savemat(folder / f"{part}_32x32.mat", arrays)


def write_both(folder):
    write_mnist(folder)
    write_cifar10(folder)


def write_mnist(folder):
    write_idx(folder, "train", 100)
    write_idx(folder, "t10k", 20)


def write_cifar10(folder):
    write_npz(folder / "cifar10.npz", train=50, test=20)


def write_photos(folder):
    for part in ("train", "val"):
        wnid = folder / "imagenet-1k" / part / "n01443537"
        wnid.mkdir(parents=True)
        for place in range(8):
            Image.new("RGB", (256, 256), (10 * place, 0, 0)).save(wnid / f"{place}.png")


def write_parts(folder):
    for part in ("train", "test"):
        write_folder(folder / part, random_images(20))


@pytest.fixture(scope="module")
def opened():
    """Grows by every file that is opened and every folder that is listed."""
    paths, watching = set(), True

    def watch(event, arguments):
        looks = watching and event in ("open", "os.listdir", "os.scandir")
        if looks and isinstance(arguments[0], str | os.PathLike):
            paths.add(Path(arguments[0]))

    sys.addaudithook(watch)  # which cannot be taken back
    yield paths
    watching = False


@pytest.mark.parametrize(
    ("write", "dataset", "inner"),
    [
        (write_mnist, "mnist", ""),
        (write_cifar10, "cifar10", ""),
        (write_cifar10, "cifar10", "cifar10.npz"),
        (write_both, "mnistm", ""),
        (write_svhn, "svhn", ""),
        (write_photos, "imagenet", ""),
        (write_photos, "imagenet", "imagenet-1k"),
        (write_parts, "cifar10", ""),
        (write_parts, "cifar10", "train"),
    ],
)
def test_files_are_all_that_was_looked_at(write, dataset, inner, tmp_path, opened):
    write(tmp_path)
    opened.clear()
    files = load_splits(dataset, tmp_path / inner).files
    seen = {path for path in opened if path.is_relative_to(tmp_path)} - {tmp_path}
    assert any(path.is_file() for path in seen)
    assert seen <= set(files)


def test_digits_come_without_files_and_own_splits_with_unknown_ones():
    digits = load_splits("digits")
    assert digits.files == ()
    assert Splits("mine", digits.train, digits.search, lambda: digits.report).files is None


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


def test_a_damaged_file_is_a_sentence(tmp_path):
    path = tmp_path / "mine.npz"
    labels = np.arange(40) % 2
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez_compressed(path, train_images=images, train_labels=labels)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_splits(str(path))
        except ValueError as error:
            assert str(path) in str(error)
