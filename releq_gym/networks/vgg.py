"""VGG-11 and VGG-16 for CIFAR-10."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.datasets.normalise import CIFAR10_MEAN, CIFAR10_STD
from releq_gym.networks.base import Recipe, register_network


class VGG(nn.Module):
    """Stages of 3x3 convolutions, a 2x2 max pool after each, and a classifier.

    Args:
        stages: Output channels of the convolutions of each stage.
        hidden: Widths of the fully connected layers before the last.
        batch_norm: Whether one follows every convolution.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...],
        hidden: tuple[int, ...] = (),
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.features, self.classifier = nn.Sequential(), nn.Sequential()
        width = 3
        for stage, widths in enumerate(stages, 1):
            for place, outputs in enumerate(widths, 1):
                name = f"{stage}_{place}"
                conv = nn.Conv2d(width, outputs, 3, padding=1, bias=not batch_norm)
                # The uniform initialisation of torch.nn lets the signal die out in so many layers.
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                self.features.add_module(f"conv{name}", conv)
                if batch_norm:
                    self.features.add_module(f"norm{name}", nn.BatchNorm2d(outputs))
                self.features.add_module(f"relu{name}", nn.ReLU())
                width = outputs
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
        for outputs in hidden:
            self.classifier.extend([nn.Linear(width, outputs), nn.ReLU()])
            width = outputs
        self.classifier.append(nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 3, 32, 32]``."""
        return self.classifier(self.features(images).flatten(1))


@register_network(
    "vgg11",
    input_shape=(3, 32, 32),
    classes=10,
    dataset="cifar10",
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    recipes={
        "pretrain": Recipe(
            images=20 * 45_000,
            batch_size=128,
            learning_rate=0.1,
            weight_decay=5e-4,
            label_smoothing=0.1,
            schedule="cosine",
            warmup=0.1,
            augment="flip_shift",
            precision="bfloat16",
            fold_batch_norm=True,
        ),
        "short": Recipe(images=6_400, batch_size=128, learning_rate=1e-3),
        "long": Recipe(
            images=5 * 45_000,
            batch_size=128,
            learning_rate=2e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.1,
            augment="flip_shift",
        ),
    },
    source="Simonyan and Zisserman, 2015, configuration A, with one layer as the classifier",
)
class VGG11(VGG):
    """VGG-A for small images: eight 3x3 convolutions and one fully connected layer.

    It has no batch norm. Its full-precision training uses one after every convolution and folds
    it into that in the end.

    | layer            | kind   | weights   | MACs        |
    |------------------|--------|-----------|-------------|
    | features.conv1_1 | conv   | 1,728     | 1,769,472   |
    | features.conv2_1 | conv   | 73,728    | 18,874,368  |
    | features.conv3_1 | conv   | 294,912   | 18,874,368  |
    | features.conv3_2 | conv   | 589,824   | 37,748,736  |
    | features.conv4_1 | conv   | 1,179,648 | 18,874,368  |
    | features.conv4_2 | conv   | 2,359,296 | 37,748,736  |
    | features.conv5_1 | conv   | 2,359,296 | 9,437,184   |
    | features.conv5_2 | conv   | 2,359,296 | 9,437,184   |
    | classifier.0     | linear | 5,120     | 5,120       |
    | total            |        | 9,222,848 | 152,769,536 |
    """

    def __init__(self) -> None:
        super().__init__(((64,), (128,), (256, 256), (512, 512), (512, 512)))


@register_network(
    "vgg16",
    input_shape=(3, 32, 32),
    classes=10,
    dataset="cifar10",
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    recipes={
        "pretrain": Recipe(
            images=28 * 45_000,
            batch_size=128,
            learning_rate=0.1,
            weight_decay=5e-4,
            label_smoothing=0.1,
            schedule="cosine",
            warmup=0.1,
            augment="flip_shift",
            precision="bfloat16",
        ),
        "short": Recipe(images=6_400, batch_size=128, learning_rate=5e-3),
        "long": Recipe(
            images=5 * 45_000,
            batch_size=128,
            learning_rate=1e-2,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.1,
            augment="flip_shift",
        ),
    },
    source="Simonyan and Zisserman, 2015, configuration D, with batch norm and smaller layers at "
    "the end",
)
class VGG16(VGG):
    """VGG-D for small images: thirteen 3x3 convolutions with batch norm, then 512, 512 and 10.

    There is no dropout: it holds a training of few epochs back.

    | layer            | kind   | weights    | MACs        |
    |------------------|--------|------------|-------------|
    | features.conv1_1 | conv   | 1,728      | 1,769,472   |
    | features.conv1_2 | conv   | 36,864     | 37,748,736  |
    | features.conv2_1 | conv   | 73,728     | 18,874,368  |
    | features.conv2_2 | conv   | 147,456    | 37,748,736  |
    | features.conv3_1 | conv   | 294,912    | 18,874,368  |
    | features.conv3_2 | conv   | 589,824    | 37,748,736  |
    | features.conv3_3 | conv   | 589,824    | 37,748,736  |
    | features.conv4_1 | conv   | 1,179,648  | 18,874,368  |
    | features.conv4_2 | conv   | 2,359,296  | 37,748,736  |
    | features.conv4_3 | conv   | 2,359,296  | 37,748,736  |
    | features.conv5_1 | conv   | 2,359,296  | 9,437,184   |
    | features.conv5_2 | conv   | 2,359,296  | 9,437,184   |
    | features.conv5_3 | conv   | 2,359,296  | 9,437,184   |
    | classifier.0     | linear | 262,144    | 262,144     |
    | classifier.2     | linear | 262,144    | 262,144     |
    | classifier.4     | linear | 5,120      | 5,120       |
    | total            |        | 15,239,872 | 313,725,952 |
    """

    def __init__(self) -> None:
        super().__init__(
            ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
            hidden=(512, 512),
            batch_norm=True,
        )
