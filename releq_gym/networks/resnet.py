"""ResNet-20 for CIFAR-10."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.datasets.normalise import CIFAR10_MEAN, CIFAR10_STD
from releq_gym.networks.base import Recipe, register_network


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 convolution if shapes change.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """``[batch, inputs, h, w]`` to ``[batch, outputs, h / stride, w / stride]``."""
        inner = nn.functional.relu(self.norm1(self.conv1(features)))
        return nn.functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


@register_network(
    "resnet20",
    input_shape=(3, 32, 32),
    classes=10,
    dataset="cifar10",
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    recipes={
        "pretrain": Recipe(
            images=80 * 45_000,
            batch_size=128,
            learning_rate=0.1,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.05,
            augment="flip_shift",
            precision="bfloat16",
        ),
        "short": Recipe(images=6_400, batch_size=128, learning_rate=2e-3),
        "long": Recipe(
            images=20 * 45_000,
            batch_size=128,
            learning_rate=2e-2,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.05,
            augment="flip_shift",
        ),
    },
    source="He et al., 2016, with 1x1 convolutions as the shortcuts that change shapes",
)
class ResNet20(nn.Module):
    """A 3x3 convolution, nine `BasicBlock` of 16, 32 and 64 channels, and a classifier.

    | layer               | kind   | weights | MACs       |
    |---------------------|--------|---------|------------|
    | conv                | conv   | 432     | 442,368    |
    | stage1.0.conv1      | conv   | 2,304   | 2,359,296  |
    | stage1.0.conv2      | conv   | 2,304   | 2,359,296  |
    | stage1.1.conv1      | conv   | 2,304   | 2,359,296  |
    | stage1.1.conv2      | conv   | 2,304   | 2,359,296  |
    | stage1.2.conv1      | conv   | 2,304   | 2,359,296  |
    | stage1.2.conv2      | conv   | 2,304   | 2,359,296  |
    | stage2.0.conv1      | conv   | 4,608   | 1,179,648  |
    | stage2.0.conv2      | conv   | 9,216   | 2,359,296  |
    | stage2.0.shortcut.0 | conv   | 512     | 131,072    |
    | stage2.1.conv1      | conv   | 9,216   | 2,359,296  |
    | stage2.1.conv2      | conv   | 9,216   | 2,359,296  |
    | stage2.2.conv1      | conv   | 9,216   | 2,359,296  |
    | stage2.2.conv2      | conv   | 9,216   | 2,359,296  |
    | stage3.0.conv1      | conv   | 18,432  | 1,179,648  |
    | stage3.0.conv2      | conv   | 36,864  | 2,359,296  |
    | stage3.0.shortcut.0 | conv   | 2,048   | 131,072    |
    | stage3.1.conv1      | conv   | 36,864  | 2,359,296  |
    | stage3.1.conv2      | conv   | 36,864  | 2,359,296  |
    | stage3.2.conv1      | conv   | 36,864  | 2,359,296  |
    | stage3.2.conv2      | conv   | 36,864  | 2,359,296  |
    | fc                  | linear | 640     | 640        |
    | total               |        | 270,896 | 40,813,184 |
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.stage1 = nn.Sequential(*(BasicBlock(16, 16, 1) for _ in range(3)))
        self.stage2 = nn.Sequential(
            BasicBlock(16, 32, 2), BasicBlock(32, 32, 1), BasicBlock(32, 32, 1)
        )
        self.stage3 = nn.Sequential(
            BasicBlock(32, 64, 2), BasicBlock(64, 64, 1), BasicBlock(64, 64, 1)
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 3, 32, 32]``."""
        features = nn.functional.relu(self.norm(self.conv(images)))
        features = self.stage3(self.stage2(self.stage1(features)))
        return self.fc(features.mean(dim=(2, 3)))
