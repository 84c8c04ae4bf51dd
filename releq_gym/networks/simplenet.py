"""SimpleNet for CIFAR-10: LeNet-5 with three input channels."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.datasets.normalise import CIFAR10_MEAN, CIFAR10_STD
from releq_gym.networks.base import Recipe, register_network


@register_network(
    "simplenet",
    input_shape=(3, 32, 32),
    classes=10,
    dataset="cifar10",
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    recipes={
        "pretrain": Recipe(
            images=200 * 45_000,
            batch_size=128,
            learning_rate=3e-2,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.05,
            augment="flip_shift",
            precision="bfloat16",
        ),
        "short": Recipe(images=6_400, learning_rate=5e-4),
        "long": Recipe(
            images=10 * 45_000,
            batch_size=128,
            learning_rate=5e-3,
            schedule="cosine",
            warmup=0.05,
            augment="flip_shift",
        ),
    },
    source="the ReLeQ authors' released code; LeCun et al., 1998",
)
class SimpleNet(nn.Module):
    """Two 5x5 convolutions, each followed by a 2x2 max pool, and three fully connected layers.

    | layer | kind   | weights | MACs    |
    |-------|--------|---------|---------|
    | conv1 | conv   | 450     | 352,800 |
    | conv2 | conv   | 2,400   | 240,000 |
    | fc1   | linear | 48,000  | 48,000  |
    | fc2   | linear | 10,080  | 10,080  |
    | fc3   | linear | 840     | 840     |
    | total |        | 61,770  | 651,720 |
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 3, 32, 32]``."""
        features = nn.functional.max_pool2d(nn.functional.relu(self.conv1(images)), 2)
        features = nn.functional.max_pool2d(nn.functional.relu(self.conv2(features)), 2)
        features = nn.functional.relu(self.fc1(features.flatten(1)))
        return self.fc3(nn.functional.relu(self.fc2(features)))
