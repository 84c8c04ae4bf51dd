import copy
import dataclasses

import pytest
import torch
from torch import nn
from toys import unseen_digits

from releq_gym.datasets import load_splits
from releq_gym.datasets.normalise import PIXELS, Normalise
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import NETWORKS, Recipe, resolve_network
from releq_gym.quantized import load_weights, quantize_network
from releq_gym.quantizers.base import make_quantizer
from releq_gym.registry import UnknownNameError
from releq_gym.training import fit, weights
from releq_gym.training.accuracy import batch_size, sum_scores
from releq_gym.training.batch_norm import fold_batch_norm, insert_batch_norm
from releq_gym.training.device import resolve_device
from releq_gym.training.fit import pretrain
from releq_gym.training.loop import Run, learning_rate, repeatable, shuffled
from releq_gym.training.retrain import finish, reestimate_batch_norm, retrain
from releq_gym.training.weights import add_record, find_weights, read_record

LAYERS = ("conv1", "conv2", "fc1", "fc2")
QUICK = Recipe(images=192, learning_rate=1e-2)


@pytest.mark.parametrize(
    ("input_shape", "device", "size"),
    [
        ((1, 8, 8), "cpu", 1_000),
        ((3, 32, 32), "cpu", 85),
        ((3, 224, 224), "cpu", 16),
        ((3, 224, 224), "cuda", 222),
        ((3, 32, 32), "cuda", 1_000),
    ],
)
def test_batches_of_large_images_are_small(input_shape, device, size):
    assert batch_size(torch.Size(input_shape), torch.device(device)) == size


def test_sum_scores_sends_no_more_than_a_batch_through():
    sizes = []
    module = nn.Sequential(nn.Flatten(), nn.Linear(224 * 224, 10))
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    images = torch.zeros(40, 1, 224, 224)
    sum_scores(module, images, torch.zeros(40, dtype=torch.int64), PIXELS)
    assert sizes == [16, 16, 8]


@pytest.fixture(scope="module")
def digits():
    return unseen_digits()


@pytest.fixture
def module():
    network = resolve_network("digits")
    built = network.build()
    load_weights(built, find_weights("digits"))
    return built


def run_retrain(
    module, digits, bitwidths=(4, 4, 4, 4), recipe=QUICK, seed=0, quantizer="wrpn", **more
):
    return retrain(
        module,
        LAYERS,
        bitwidths,
        make_quantizer(quantizer),
        recipe,
        digits.train.images,
        digits.train.labels,
        seed,
        **more,
    )


def state_of(retrained):
    return torch.cat([tensor.flatten() for tensor in retrained.module.state_dict().values()])


@pytest.mark.parametrize("augment", ["none", "shift"])
def test_retraining_is_a_function_of_its_seed(module, digits, augment):
    recipe = dataclasses.replace(QUICK, augment=augment)
    first = state_of(run_retrain(module, digits, recipe=recipe, seed=1))
    assert torch.equal(first, state_of(run_retrain(module, digits, recipe=recipe, seed=1)))
    assert not torch.equal(first, state_of(run_retrain(module, digits, recipe=recipe, seed=2)))


def test_retraining_does_not_depend_on_what_was_retrained_before(module, digits):
    fresh = state_of(run_retrain(module, digits, (3, 4, 5, 6)))
    before = copy.deepcopy(module.state_dict())
    run_retrain(module, digits, (8, 2, 2, 8))
    assert torch.equal(fresh, state_of(run_retrain(module, digits, (3, 4, 5, 6))))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_retraining_leaves_the_global_generator_alone(digits):
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    arguments = (module, ["2"], [8], make_quantizer("uniform"), QUICK)
    data = digits.train.images, digits.train.labels
    state = torch.random.get_rng_state()
    first = retrain(*arguments, *data, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(1)
    assert torch.equal(state_of(first), state_of(retrain(*arguments, *data, seed=0)))


def test_huge_learning_rate_diverges(module, digits):
    recipe = dataclasses.replace(QUICK, learning_rate=1e30)
    assert run_retrain(module, digits, recipe=recipe).diverged
    assert not run_retrain(module, digits).diverged


def test_loss_that_was_infinite_once_is_reported(module, digits, monkeypatch):
    losses = iter([1.0, float("inf"), *[1.0] * 100])
    monkeypatch.setattr(Run, "_step", lambda *arguments: torch.tensor(next(losses)))
    recipe = dataclasses.replace(QUICK, images=64 * 100)
    run = Run(module, recipe, digits.train.images, digits.train.labels, 0, PIXELS)
    assert not run.advance(0, run.steps)
    assert run.advance(50, run.steps)


def test_recipe_without_images_only_quantizes(module, digits):
    retrained = run_retrain(module, digits, recipe=Recipe())
    assert torch.equal(retrained.module.fc1.parametrizations.weight.original, module.fc1.weight)


def test_learned_step_is_trained_and_a_fitted_one_is_not(module, digits):
    def step(quantizer, recipe):
        retrained = run_retrain(module, digits, recipe=recipe, quantizer=quantizer)
        return retrained.module.fc1.parametrizations.weight[0].state["step"]

    assert step("lsq", QUICK) != step("lsq", Recipe())
    assert step("uniform", QUICK) == step("uniform", Recipe())


def test_weight_decay_shrinks_weights_only(module, digits):
    plain = run_retrain(module, digits, quantizer="lsq").module
    recipe = dataclasses.replace(QUICK, weight_decay=0.5)
    decayed = run_retrain(module, digits, recipe=recipe, quantizer="lsq").module
    for layer in LAYERS:
        before, after = plain.get_submodule(layer), decayed.get_submodule(layer)
        weight = before.parametrizations.weight.original.norm()
        assert after.parametrizations.weight.original.norm() < weight


def test_weight_decay_spares_learned_steps(module, digits):
    quantizer = make_quantizer("lsq", per_channel=True)
    quantized = quantize_network(module, LAYERS, (4, 4, 4, 4), quantizer)
    data = digits.train.images, digits.train.labels
    run = Run(quantized, dataclasses.replace(QUICK, weight_decay=0.1), *data, 0, PIXELS)
    decayed, spared = (group["params"] for group in run.optimizer.param_groups)
    assert {tensor.shape for tensor in decayed} == {
        layer.weight.shape for layer in module.children()
    }
    assert len(spared) == 8  # a bias and a step per layer


def test_full_distillation_ignores_the_labels(module, digits):
    recipe = dataclasses.replace(QUICK, distillation=1.0)
    wrong = dataclasses.replace(digits.train, labels=digits.train.labels.roll(1))
    other = dataclasses.replace(digits, train=wrong)
    first, second = (run_retrain(module, data, recipe=recipe) for data in (digits, other))
    assert torch.equal(state_of(first), state_of(second))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_teacher_computes_in_the_precision_of_the_recipe(module, digits, precision):
    recipe = dataclasses.replace(QUICK, images=64, distillation=0.5, precision=precision)
    seen = set()
    teacher = copy.deepcopy(module)
    hook = teacher.register_forward_hook(lambda part, images, outputs: seen.add(outputs.dtype))
    run_retrain(module, digits, recipe=recipe, teacher=teacher)
    hook.remove()
    assert seen == {getattr(torch, precision)}


def test_batch_norm_is_measured_anew():
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Flatten())
    images = torch.rand(2_000, 1, 4, 4)
    expected = module[0](images).detach()
    reestimate_batch_norm(module, images, PIXELS)
    assert module[1].running_mean == pytest.approx(expected.mean().item(), abs=1e-5)
    assert module[1].running_var == pytest.approx(expected.var().item(), rel=1e-3)
    assert module[1].momentum == 0.1 and not module[1].training


@pytest.fixture(scope="module")
def normed(digits):
    """A small network with batch norm that knows most digits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(128, 10)),
        )
    recipe = Recipe(images=4_000, learning_rate=5e-2)
    run = Run(module, recipe, digits.train.images, digits.train.labels, 0, PIXELS)
    assert run.advance(0, run.steps)
    return module.eval()


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(images=128, learning_rate=1e-5)], ids=["ptq", "short"]
)
def test_any_recipe_can_measure_batch_norm_anew(normed, digits, recipe):
    def accuracy(reestimate, seed=0):
        live = LiveEvaluator(
            *(normed,),
            data=digits,
            quantizer="uniform",
            recipe=dataclasses.replace(recipe, reestimate_batch_norm=reestimate),
            memo=False,
        )
        return live.measure((1, 1, 8), seed).accuracy

    kept, anew = accuracy(0), accuracy(500)
    assert anew > kept + 0.1
    if not recipe.images:
        assert accuracy(500, seed=1) == anew  # nothing random is left


def test_batch_norm_is_measured_on_what_the_recipe_augments(normed, digits):
    def running(augment):
        recipe = Recipe(reestimate_batch_norm=500, augment=augment)
        module = copy.deepcopy(normed)
        assert finish(module, recipe, digits.train.images, PIXELS, finite=True)
        return module[1].running_mean

    assert torch.equal(running("shift"), running("shift"))
    # Vacated pixels are 0, so that shifted digits are seen less often.
    assert not torch.allclose(running("shift"), running("none"), rtol=1e-3)


def test_batch_norm_is_measured_in_even_batches_that_fit_into_memory(normed, monkeypatch):
    monkeypatch.setattr("releq_gym.training.accuracy.NUMBERS", {"cpu": 20 * 64})
    module, sizes = copy.deepcopy(normed), []
    module[0].register_forward_hook(lambda layer, inputs, output: sizes.append(len(output)))
    reestimate_batch_norm(module, torch.rand(50, 1, 8, 8), PIXELS)
    assert sizes == [17, 17, 16]


def test_resumed_run_ends_where_an_uninterrupted_one_does(module, digits):
    recipe = Recipe(images=640, learning_rate=1e-2, schedule="cosine", augment="shift")

    def begin():
        data = digits.train.images, digits.train.labels
        return Run(copy.deepcopy(module), recipe, *data, seed=3, normalise=PIXELS)

    whole, first, second = begin(), begin(), begin()
    whole.advance(0, 5), whole.advance(5, 10)
    first.advance(0, 5)
    second.module.load_state_dict(first.module.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.advance(5, 10)
    for left, right in zip(whole.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(left, right)


def regression(count=256):
    """Rows of three features and two targets that a small net can learn."""
    features = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return features, torch.stack([features.sum(1), features[:, 0].relu()], 1)


@pytest.mark.parametrize("quantizer", ["wrpn", "lsq", "lsq_midrise"])
def test_own_loss_trains_rows_of_features_to_targets_of_any_shape(quantizer):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))
    features, targets = regression()

    def error(recipe):
        arguments = (["0", "2"], [4, 4], make_quantizer(quantizer), recipe, features, targets, 0)
        retrained = retrain(module, *arguments, loss=nn.functional.mse_loss)
        assert not retrained.diverged
        return nn.functional.mse_loss(retrained.module(features), targets).item()

    assert error(Recipe(images=100 * 64, learning_rate=5e-2)) < 0.3 * error(Recipe())


def test_signals_of_one_dimension_are_trained_on():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(2, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 12, 2))
    labels = torch.arange(200) % 2
    signals = torch.randn(200, 2, 16) * 0.3 + labels.view(-1, 1, 1).float()
    recipe = Recipe(images=50 * 64, learning_rate=2e-2)
    retrained = retrain(
        module, ["0", "3"], [3, 3], make_quantizer("uniform"), recipe, signals, labels, seed=0
    )
    assert sum_scores(retrained.module, signals, labels, PIXELS) > 190


def test_own_loss_sees_outputs_and_targets(module, digits):
    seen = []

    def loss(outputs, targets):
        seen.append((outputs.dtype, outputs.shape, targets.shape))
        return outputs.square().mean()

    recipe = dataclasses.replace(QUICK, images=64, precision="bfloat16")
    train = digits.train
    Run(module, recipe, train.images, train.labels, 0, PIXELS, loss=loss).advance(0, 1)
    assert seen == [(torch.float32, (64, 10), (64,))]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"distillation": 0.5}, "distillation=0.5 belongs to the cross-entropy"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 belongs to the cross-entropy"),
        ({"augment": "shift"}, r"augment='shift' is for images.*\(3,\).*augment='none'"),
        ({}, r"loss has to be a scalar.*\(64, 2\); take the mean"),
    ],
)
def test_what_does_not_go_with_a_loss_of_ones_own_is_a_sentence(fields, sentence):
    def loss(outputs, targets):
        return (outputs - targets).abs()

    recipe = dataclasses.replace(QUICK, **fields)
    arguments = (["0"], [4], make_quantizer("wrpn"), recipe, *regression(), 0)
    with pytest.raises(ValueError, match=sentence):
        retrain(nn.Sequential(nn.Linear(3, 2)), *arguments, loss=loss)


def test_a_loss_without_a_gradient_is_a_sentence():
    arguments = (["0"], [4], make_quantizer("wrpn"), QUICK, *regression(), 0)

    def loss(outputs, targets):
        return (outputs.detach() - targets).square().mean()

    with pytest.raises(ValueError, match=r"no gradient by the outputs.*without detach\(\)"):
        retrain(nn.Sequential(nn.Linear(3, 2)), *arguments, loss=loss)


def test_a_loss_that_is_no_tensor_is_a_sentence():
    arguments = (["0"], [4], make_quantizer("wrpn"), QUICK, *regression(), 0)
    with pytest.raises(ValueError, match=r"has to be a scalar tensor, but .* is 1\.0"):
        retrain(nn.Sequential(nn.Linear(3, 2)), *arguments, loss=lambda outputs, targets: 1.0)


def test_every_input_needs_a_target():
    features, targets = regression()
    with pytest.raises(ValueError, match="256 images and 255 labels do not belong together"):
        Run(nn.Linear(3, 2), QUICK, features, targets[1:], 0, PIXELS)


def test_order_shows_every_image_once_per_pass():
    order = shuffled(10, 25, seed=0)
    assert sorted(order[:10].tolist()) == sorted(order[10:20].tolist()) == list(range(10))
    assert len(order) == 25 and not torch.equal(order[:10], order[10:20])


@pytest.mark.parametrize(
    ("recipe", "step", "expected"),
    [
        (Recipe(learning_rate=0.4), 7, 0.4),
        (Recipe(learning_rate=0.4, schedule="cosine"), 0, 0.4),
        (Recipe(learning_rate=0.4, schedule="cosine"), 50, 0.2),
        (Recipe(learning_rate=0.4, schedule="cosine", warmup=0.03), 0, 0.1),
        (Recipe(learning_rate=0.4, schedule="cosine", warmup=0.03), 3, 0.4),
    ],
)
def test_learning_rate_of_a_step(recipe, step, expected):
    assert learning_rate(recipe, step, steps=100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("optimizer", "sdg", "sgd"), ("schedule", "cosin", "cosine"), ("augment", "shfit", "shift")],
)
def test_misspelt_recipe_names_the_nearest(module, digits, field, value, nearest):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{nearest}'"):
        run_retrain(module, digits, recipe=dataclasses.replace(QUICK, **{field: value}))


def test_sum_scores_agrees_with_a_loop(module, digits):
    network = resolve_network("digits")
    normalise = Normalise(network.mean, network.std)
    images, labels = digits.search.images, digits.search.labels
    one_by_one = sum(
        int(module(normalise(image[None])).argmax()) == label
        for image, label in zip(images, labels.tolist(), strict=True)
    )
    assert sum_scores(module, images, labels, normalise) == one_by_one


def test_a_device_may_be_one_of_pytorch():
    assert resolve_device(torch.device("cpu")) == resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("gpu", "Known: auto"),
        ("cuda", "no CUDA"),
        (torch.device("cuda"), "no CUDA"),
        (0, "Known: auto"),
        ("cpu:x", "none that PyTorch knows"),
    ],
)
def test_unusable_device_is_a_sentence(monkeypatch, device, sentence):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=sentence):
        resolve_device(device)


@pytest.fixture
def quick_net():
    """The digits net with two epochs of training."""
    network = resolve_network("digits")
    recipe = dataclasses.replace(network.recipes["pretrain"], images=2 * 898)
    return dataclasses.replace(network, recipes={"pretrain": recipe})


def test_pretraining_writes_weights_and_their_record(quick_net, tmp_path):
    result = pretrain(quick_net, path=tmp_path / "digits.safetensors", progress=False)
    record = read_record(result.path)
    live = LiveEvaluator("digits", weights=result.path, memo=False)
    assert record["search_accuracy"] == result.search_accuracy == live.full_precision_accuracy
    assert record["recipe"] == dataclasses.asdict(quick_net.recipes["pretrain"])
    assert record["train_sha256"] == load_splits("digits").train.sha256
    module = quick_net.build()
    load_weights(module, result.path)
    assert torch.equal(module.fc1.weight, module.fc1.weight.half().float())


def test_fields_of_a_pretraining_can_be_set(quick_net, tmp_path, monkeypatch):
    path = tmp_path / "digits.safetensors"
    fields = {"images": 898, "precision": "float32"}
    result = pretrain(quick_net, path=path, progress=False, recipe_kwargs=fields)
    assert read_record(result.path)["recipe"]["images"] == 898
    with pytest.raises(UnknownNameError, match="Did you mean 'images'"):
        pretrain(quick_net, path=path, overwrite=True, recipe_kwargs={"image": 898})
    monkeypatch.setattr("releq_gym.training.device.runs_bfloat16", lambda device: False)
    fields["precision"] = "bfloat16"
    with pytest.warns(UserWarning, match="--recipe-kwargs precision=float32"):
        pretrain(quick_net, path=path, overwrite=True, progress=False, recipe_kwargs=fields)


def test_interrupted_pretraining_goes_on_and_ends_the_same(quick_net, tmp_path, monkeypatch):
    whole = pretrain(quick_net, path=tmp_path / "whole.safetensors", progress=False)
    advance, epochs = Run.advance, []

    def interrupted(self, start, stop):
        if len(epochs) == 1:
            raise KeyboardInterrupt
        epochs.append(start)
        return advance(self, start, stop)

    path = tmp_path / "resumed.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "advance", interrupted)
        pretrain(quick_net, path=path, folder=tmp_path, progress=False)
    assert not path.exists() and len(list(tmp_path.glob("*.pt"))) == 1
    resumed = []
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", lambda *a: resumed.append(a[1]) or advance(*a))
        pretrain(quick_net, path=path, folder=tmp_path, progress=False)
    assert len(resumed) == 1 and resumed[0] > 0
    assert path.read_bytes() == whole.path.read_bytes()
    assert not list(tmp_path.glob("*.pt"))


def test_pretraining_of_another_network_begins_anew(quick_net, tmp_path, monkeypatch):
    advance = Run.advance
    others = [
        dataclasses.replace(quick_net, mean=(0.9,)),
        dataclasses.replace(quick_net, build=lambda: nn.Sequential(quick_net.build())),
    ]
    for number, network in enumerate((quick_net, *others)):
        begun = []

        def interrupted(self, start, stop, begun=begun):
            if begun:
                raise KeyboardInterrupt
            begun.append(start)
            return advance(self, start, stop)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Run, "advance", interrupted)
            pretrain(network, path=tmp_path / f"{number}", folder=tmp_path, progress=False)
        assert begun == [0]


def test_a_gpu_keeps_to_the_users_choice_of_tf32(monkeypatch):
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        with repeatable():
            assert torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.parametrize(
    "field",
    [{"batch_size": 0}, {"images": -5}, {"distillation": 5.0}, {"learning_rate": float("nan")},
     {"images": "64"}, {"warmup": 2.0}, {"batch_size": 32.5}, {"images": float("inf")},
     {"learning_rate": float("inf")}, {"reestimate_batch_norm": 10.5}],
)  # fmt: skip
def test_numbers_of_a_recipe_have_ranges(field):
    (name,) = field
    with pytest.raises(ValueError, match=f"A recipe's {name}=.* has to be a (whole )?number, [01]"):
        Recipe(**field)


def test_one_image_is_too_few_for_the_statistics_of_batch_norm():
    with pytest.raises(ValueError, match="one image has no variance"):
        Recipe(reestimate_batch_norm=1)


def test_batch_norm_of_what_are_no_images_is_not_measured_on_shifted_ones():
    recipe = Recipe(reestimate_batch_norm=8, augment="shift")
    with pytest.raises(ValueError, match="augment='shift' is for images"):
        finish(nn.Linear(4, 2), recipe, torch.rand(8, 4), PIXELS, True)


def test_pretraining_depends_on_the_seed(quick_net):
    first, again, other = (fit.build_seeded(quick_net, seed) for seed in (0, 0, 1))
    assert torch.equal(first.fc1.weight, again.fc1.weight)
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


def test_diverged_pretraining_is_a_sentence(quick_net, tmp_path):
    recipe = dataclasses.replace(quick_net.recipes["pretrain"], learning_rate=1e30)
    network = dataclasses.replace(quick_net, recipes={"pretrain": recipe})
    with pytest.raises(ValueError, match=r"diverged.*lower the learning_rate"):
        pretrain(network, path=tmp_path / "x.safetensors", progress=False)


def test_pretraining_of_a_net_that_is_not_registered_asks_for_a_file(quick_net):
    with pytest.raises(ValueError, match=r"say which file to write \(--output\)"):
        pretrain(dataclasses.replace(quick_net, name="mine:factory"), progress=False)


def test_a_file_that_cannot_be_written_is_noticed_before_pretraining(quick_net, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        pretrain(quick_net, path=tmp_path / "file" / "x.safetensors", progress=False)


def test_pretraining_without_a_data_set_is_a_sentence(quick_net, tmp_path):
    network = dataclasses.replace(quick_net, dataset="")
    with pytest.raises(ValueError, match="Nothing says which data to take"):
        pretrain(network, path=tmp_path / "x.safetensors", progress=False)


def test_net_without_pretraining_is_a_sentence(quick_net):
    with pytest.raises(ValueError, match=r"states no recipe 'pretrain'.*register it with"):
        pretrain(dataclasses.replace(quick_net, recipes={}))


def test_missing_weights_say_how_to_train_them():
    with pytest.raises(ValueError, match="releq pretrain nonet"):
        find_weights("nonet")


def test_installed_package_keeps_new_weights_beside_it(tmp_path, monkeypatch):
    assert weights.default_weights_path("digits").parent.name == "weights"
    monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path / "releq_gym")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "user")
    own = tmp_path / "user" / "weights" / "digits.safetensors"
    assert weights.default_weights_path("digits") == own


def test_record_does_not_change_the_weights(tmp_path, module):
    path = tmp_path / "digits.safetensors"
    path.write_bytes(find_weights("digits").read_bytes())
    add_record(path, {"seed": 7})
    assert read_record(path) == {"seed": 7}
    fresh = resolve_network("digits").build()
    load_weights(fresh, path)
    assert torch.equal(fresh.fc1.weight, module.fc1.weight)


@pytest.mark.parametrize("net", ["digits", "lenet"])
def test_shipped_weights_are_those_of_the_recipe(net):
    record = read_record(find_weights(net))
    assert Recipe(**record["recipe"]) == NETWORKS[net].recipes["pretrain"]


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(module, digits):
    seen = set()
    module.conv2.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    recipe = dataclasses.replace(QUICK, precision="bfloat16")
    train = digits.train
    run = Run(module, recipe, train.images, train.labels, 0, PIXELS)
    assert run.advance(0, run.steps)
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_unknown_precision_is_refused_before_the_first_step(module, digits):
    recipe = dataclasses.replace(QUICK, precision="bfloat61")
    with pytest.raises(UnknownNameError, match="Did you mean 'bfloat16'"):
        Run(module, recipe, digits.train.images, digits.train.labels, 0, PIXELS)


def test_batch_norm_inserted_for_training_is_folded_without_a_trace(module, digits):
    names = list(module.state_dict())
    insert_batch_norm(module)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) == 2
    train = digits.train
    run = Run(module, QUICK, train.images, train.labels, 0, PIXELS)
    assert run.advance(0, run.steps)
    module.eval()
    before = module(digits.search.images)
    fold_batch_norm(module)
    assert list(module.state_dict()) == names
    torch.testing.assert_close(module(digits.search.images), before, rtol=1e-4, atol=1e-4)


def test_no_batch_norm_is_folded_into_a_convolution_that_is_shared():
    module, conv = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)), nn.Conv2d(2, 2, 3)
    module[1].weight = module[0].weight
    nested = nn.Sequential(nn.Sequential(conv), nn.Sequential(conv))
    for shared, name in ((module, "1"), (nn.Sequential(conv, conv), "1"), (nested, "1.0")):
        with pytest.raises(ValueError, match=f"'{name}' is shared, so that no batch norm can be"):
            insert_batch_norm(shared)


def test_weights_that_would_not_be_read_are_not_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "default_weights_path", lambda name: tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"weights in .*digits.safetensors, which would be read"):
        fit.pretrain("digits")
    before = tmp_path / "before.safetensors", tmp_path / "own.safetensors", tmp_path / "behind"
    before[2].touch()  # is not read before the one that is written
    monkeypatch.setattr(fit, "weights_candidates", lambda name: before)
    fit.pretrain("digits", recipe_kwargs={"images": 64})
    assert before[1].is_file()
    before[0].touch()
    with pytest.raises(ValueError, match=r"weights in .*before.safetensors, which would be read"):
        fit.pretrain("digits", overwrite=True)
