"""Toy images: how they are drawn, padded and compared."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.contracts.text import IGNORE

NUM_COLOURS = 16
# Padding is not black: whatever lies there must not matter.
_RUBBISH = 9.0


@dataclass(frozen=True)
class Images:
    """Rows of pixels, rectangular patches and all; a batch is padded to the right and below."""

    num_channels: int = 2
    patch_size: tuple[int, int] = (2, 4)
    inputs: tuple[str, ...] = ("pixel_values", "attention_mask", "bool_masked_pos", "interpolate_pos_encoding")
    sides: tuple[str, ...] = ("right",)

    def draw(self, length: int, extra_dims: tuple[int, ...] = ()) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """An image of `length` patches in the squarest grid of so many, as a batch of one; and a zero per patch."""
        rows = max(side for side in range(1, math.isqrt(length) + 1) if length % side == 0)
        height, width = self.patch_size
        pixels = torch.randn(1, *extra_dims, self.num_channels, rows * height, length // rows * width)
        return {"pixel_values": pixels}, torch.zeros(1, length, dtype=torch.long)

    def grid(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Patches `(rows, columns)` of `(…, height, width)`."""
        return pixels.shape[-2] // self.patch_size[0], pixels.shape[-1] // self.patch_size[1]

    def alone(self, row: dict[str, torch.Tensor]) -> dict[str, Any]:
        """A batch of this row, without padding or mask."""
        batch: dict[str, Any] = {name: values.unsqueeze(0) for name, values in row.items()}
        return batch | {"interpolate_pos_encoding": True}

    def collate(self, rows: list[dict[str, torch.Tensor]], side: str = "right") -> dict[str, Any]:
        """Pads images to the largest grid, with a mask; padding has no label and is not masked."""
        grids = [self.grid(row["pixel_values"]) for row in rows]
        whole = tuple(max(sides) for sides in zip(*grids))
        batch: dict[str, Any] = {}
        for row, grid in zip(rows, grids):
            below, right = (full - own for full, own in zip(whole, grid))
            cells = nn.functional.pad(torch.ones(grid, dtype=torch.long), (0, right, 0, below))
            padded = {"attention_mask": cells.flatten()}
            for name, values in row.items():
                if name == "pixel_values":
                    padding = (0, right * self.patch_size[1], 0, below * self.patch_size[0])
                    padded[name] = nn.functional.pad(values, padding, value=_RUBBISH)
                elif values.dim() == 1 and not values.is_floating_point():
                    filler = IGNORE if name == "labels" else 0
                    cells = nn.functional.pad(values.view(grid), (0, right, 0, below), value=filler)
                    padded[name] = cells.flatten()
                else:
                    padded[name] = values
            for name, values in padded.items():
                batch.setdefault(name, []).append(values)
        return {name: torch.stack(values) for name, values in batch.items()} | {"interpolate_pos_encoding": True}

    def without_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The inputs alone."""
        return {name: batch[name] for name in self.inputs if name in batch}

    def real_parts(self, kind: str, values: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
        """What an output says of each image, without its padding.

        Args:
            kind: "token" is `(batch, prefix and patches, …)`, "image" `(batch, channels, height, width)`, "maps" a
                tuple of `(batch, channels, rows, columns)`, "row" `(batch, …)`.
        """
        if kind == "maps":
            values = torch.stack(values, dim=1)
        if kind == "row" or "attention_mask" not in batch:
            return list(values)
        masks = batch["attention_mask"].bool()
        if kind == "token":
            return [
                row[nn.functional.pad(mask, (len(row) - len(mask), 0), value=True)] for row, mask in zip(values, masks)
            ]
        scale = self.patch_size if kind == "image" else (1, 1)
        cells = masks.unflatten(1, self.grid(batch["pixel_values"]))
        return [
            row[..., : int(own[:, 0].sum()) * scale[0], : int(own[0].sum()) * scale[1]]
            for row, own in zip(values, cells)
        ]


def some_patches(patches: torch.Tensor) -> torch.Tensor:
    """Hides the first patch and about a third of the others; of several, the last one stays."""
    hidden = torch.rand(patches.shape) < 0.3
    hidden[..., -1] = False
    hidden[..., 0] = True
    return hidden


def colours(patches: torch.Tensor) -> torch.Tensor:
    """A colour for half of the patches, for one at least."""
    without = torch.rand(patches.shape) < 0.5
    without[..., 0] = False
    return torch.randint(0, NUM_COLOURS, patches.shape).masked_fill(without, IGNORE)
