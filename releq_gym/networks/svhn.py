"""A ten-layer net for house numbers."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from releq_gym.networks.base import Recipe, register_network


@register_network(
    "svhn10",
    input_shape=(3, 32, 32),
    classes=10,
    dataset="mnistm",
    mean=(0.475, 0.471, 0.446),
    std=(0.252, 0.249, 0.266),
    recipes={
        "pretrain": Recipe(
            images=6 * 55_000,
            batch_size=128,
            learning_rate=5e-2,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.1,
            augment="shift",
            precision="bfloat16",
        ),
        "short": Recipe(images=6_400, batch_size=128, learning_rate=5e-3),
        "long": Recipe(
            images=2 * 55_000,
            batch_size=128,
            learning_rate=1e-2,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.05,
            augment="shift",
        ),
    },
    source="ours, with the ten layers and about the size of the net that is published undescribed",
)
class SVHN10(nn.Module):
    """Nine 3x3 convolutions, each with batch norm, three 2x2 max pools, and a classifier.

    It is trained on `mnistm` (digits on photographs), not on SVHN; ``data="svhn"`` names that.

    | layer   | kind   | weights   | MACs       |
    |---------|--------|-----------|------------|
    | convs.0 | conv   | 864       | 884,736    |
    | convs.1 | conv   | 9,216     | 9,437,184  |
    | convs.2 | conv   | 18,432    | 4,718,592  |
    | convs.3 | conv   | 36,864    | 9,437,184  |
    | convs.4 | conv   | 73,728    | 4,718,592  |
    | convs.5 | conv   | 147,456   | 9,437,184  |
    | convs.6 | conv   | 294,912   | 4,718,592  |
    | convs.7 | conv   | 589,824   | 9,437,184  |
    | convs.8 | conv   | 589,824   | 9,437,184  |
    | fc      | linear | 2,560     | 2,560      |
    | total   |        | 1,763,680 | 62,228,992 |
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 128, 128, 256, 256, 256)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.fc = nn.Linear(widths[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of normalised images ``[batch, 3, 32, 32]``."""
        features = images
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            features = nn.functional.relu(norm(conv(features)))
            if place in (1, 3, 5):
                features = nn.functional.max_pool2d(features, 2)
        return self.fc(features.mean(dim=(2, 3)))
