"""Two images and their labels made into one: mixup, CutMix, and soft labels."""

import torch

CUTMIX_UNIFORMS = 2


def box_mask(top: torch.Tensor, left: torch.Tensor, sizes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Rectangles as masks.

    Args:
        top, left: `(batch,)` first row and column; may lie outside.
        sizes: `(batch, 2)` rows and columns.

    Returns:
        `(batch, 1, height, width)` boolean, true inside.
    """
    rows = torch.arange(height).view(1, -1) - top.view(-1, 1)
    columns = torch.arange(width).view(1, -1) - left.view(-1, 1)
    inside_rows = (rows >= 0) & (rows < sizes[:, :1])
    inside_columns = (columns >= 0) & (columns < sizes[:, 1:])
    return (inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1)


def mixup(images: torch.Tensor, partners: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`weights · images + (1 - weights) · partners` (Zhang et al. 2017, "mixup: Beyond empirical risk minimization").

    Args:
        images, partners: `(batch, channels, height, width)` float.
        weights: `(batch,)` of the images themselves, in [0, 1].
    """
    weights = weights.view(-1, 1, 1, 1)
    return images * weights + partners * (1 - weights)


def cutmix(
    images: torch.Tensor, partners: torch.Tensor, weights: torch.Tensor, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts a box of the partner into each image (Yun et al. 2019, "CutMix", section 3.1).

    The box has the image's aspect ratio and 1 - weight of its area, its centre lies anywhere, and what sticks out is
    cut off.

    Args:
        images, partners: `(batch, channels, height, width)`.
        weights: `(batch,)` wanted shares of the images themselves, in [0, 1].
        uniforms: `(batch, 2)` in [0, 1): row and column of the centre.

    Returns:
        Mixed images, and `(batch,)` float32 weights: the shares that are left in fact.
    """
    height, width = images.shape[2:]
    size = torch.tensor([height, width], dtype=torch.float64)
    sizes = (size * (1 - weights.double()).sqrt().unsqueeze(1)).floor().long()
    corner = (uniforms.double() * size).floor().long() - sizes // 2
    inside = box_mask(corner[:, 0], corner[:, 1], sizes, height, width)
    area = inside.flatten(1).sum(1, dtype=torch.int64)
    return torch.where(inside, partners, images), (1 - area.double() / (height * width)).float()


def soft_labels(labels: torch.Tensor, num_labels: int, smoothing: float = 0.0) -> torch.Tensor:
    """Class ids as distributions: 1 - smoothing on the class, and `smoothing` spread evenly over all (Szegedy et al.
    2016, "Rethinking the Inception architecture", section 7).

    Args:
        labels: `(batch,)` int64 in 0..num_labels - 1.
        num_labels: number of classes.
        smoothing: share to spread, in [0, 1).

    Returns:
        `(batch, num_labels)` float32.
    """
    soft = torch.full((len(labels), num_labels), smoothing / num_labels)
    return soft.scatter_add_(1, labels.unsqueeze(1), torch.full((len(labels), 1), 1 - smoothing))


def mixed_labels(labels: torch.Tensor, partner_labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`(batch, num_labels)` labels and their partners', each with its weight `(batch,)`, in sum 1 again."""
    weights = weights.unsqueeze(1)
    return labels * weights + partner_labels * (1 - weights)
