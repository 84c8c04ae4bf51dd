"""AlexNet for ImageNet, as torchvision has it."""

from __future__ import annotations

from torch import Tensor, nn

from releq_gym.networks.base import Recipe, register_network


def _download() -> dict[str, Tensor]:
    from torchvision.models import AlexNet_Weights

    return dict(AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True))


@register_network(
    "alexnet",
    input_shape=(3, 224, 224),
    classes=1000,
    dataset="imagenet",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    recipes={
        "short": Recipe(images=6_400, batch_size=128, learning_rate=1e-3),
        "long": Recipe(
            images=20_000,
            batch_size=128,
            learning_rate=1e-3,
            schedule="cosine",
            augment="flip_shift",
        ),
    },
    download=_download,
    source="Krizhevsky, 2014, from torchvision; weights AlexNet_Weights.IMAGENET1K_V1",
)
def alexnet() -> nn.Module:
    """Five convolutions, three 3x3 max pools, and three fully connected layers with dropout.

    | layer        | kind   | weights    | MACs        |
    |--------------|--------|------------|-------------|
    | features.0   | conv   | 23,232     | 70,276,800  |
    | features.3   | conv   | 307,200    | 223,948,800 |
    | features.6   | conv   | 663,552    | 112,140,288 |
    | features.8   | conv   | 884,736    | 149,520,384 |
    | features.10  | conv   | 589,824    | 99,680,256  |
    | classifier.1 | linear | 37,748,736 | 37,748,736  |
    | classifier.4 | linear | 16,777,216 | 16,777,216  |
    | classifier.6 | linear | 4,096,000  | 4,096,000   |
    | total        |        | 61,090,496 | 714,188,480 |
    """
    from torchvision.models import alexnet as build

    return build()
