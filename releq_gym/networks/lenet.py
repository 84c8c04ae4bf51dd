"""LeNet for MNIST."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.networks.base import Recipe, register_network


@register_network(
    "lenet",
    input_shape=(1, 28, 28),
    classes=10,
    dataset="mnist",
    mean=(0.1307,),
    std=(0.3081,),
    recipes={
        "pretrain": Recipe(
            images=12 * 55_000,
            learning_rate=2e-2,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.02,
            augment="shift",
        ),
        "short": Recipe(images=6_400, learning_rate=1e-2),
        "long": Recipe(
            images=3 * 55_000, learning_rate=1e-2, schedule="cosine", warmup=0.05, augment="shift"
        ),
    },
    source="LeCun et al., 1998, in the form of Caffe's lenet.prototxt",
)
class LeNet(nn.Module):
    """Two 5x5 convolutions, each followed by a 2x2 max pool, and two fully connected layers.

    | layer | kind   | weights | MACs      |
    |-------|--------|---------|-----------|
    | conv1 | conv   | 500     | 288,000   |
    | conv2 | conv   | 25,000  | 1,600,000 |
    | fc1   | linear | 400,000 | 400,000   |
    | fc2   | linear | 5,000   | 5,000     |
    | total |        | 430,500 | 2,293,000 |
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 1, 28, 28]``."""
        features = nn.functional.max_pool2d(self.conv1(images), 2)
        features = nn.functional.max_pool2d(self.conv2(features), 2)
        return self.fc2(nn.functional.relu(self.fc1(features.flatten(1))))
