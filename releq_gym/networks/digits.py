"""A four-layer net for scikit-learn's 8x8 digits: small enough to measure every assignment."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.networks.base import Recipe, register_network


@register_network(
    "digits",
    input_shape=(1, 8, 8),
    classes=10,
    dataset="digits",
    mean=(0.305,),
    std=(0.376,),
    max_loss_points=1.5,
    recipes={
        "pretrain": Recipe(
            images=60 * 898,
            learning_rate=2e-2,
            weight_decay=1e-3,
            schedule="cosine",
            warmup=0.05,
            augment="shift",
        ),
        "short": Recipe(images=1_024, learning_rate=1.5e-2),
        "long": Recipe(images=20 * 898, learning_rate=1e-2, schedule="cosine", warmup=0.05),
    },
    source="ours",
)
class DigitsNet(nn.Module):
    """Two 3x3 convolutions, a 2x2 max pool, and two fully connected layers.

    | layer | kind   | weights | MACs   |
    |-------|--------|---------|--------|
    | conv1 | conv   | 72      | 4,608  |
    | conv2 | conv   | 1,152   | 41,472 |
    | fc1   | linear | 4,608   | 4,608  |
    | fc2   | linear | 320     | 320    |
    | total |        | 6,152   | 51,008 |
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 3 * 3, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 1, 8, 8]``."""
        features = nn.functional.relu(self.conv1(images))
        features = nn.functional.max_pool2d(nn.functional.relu(self.conv2(features)), 2)
        return self.fc2(nn.functional.relu(self.fc1(features.flatten(1))))
