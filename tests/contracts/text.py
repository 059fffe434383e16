"""Toy texts: how they are drawn, padded and compared."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

NUM_LABELS = 4
IGNORE = -100


@dataclass(frozen=True)
class Text:
    """Rows of token ids; a batch is padded on either side."""

    vocab_size: int = 60
    token_types: bool = True
    inputs: tuple[str, ...] = ("input_ids", "token_type_ids", "attention_mask")
    sides: tuple[str, ...] = ("left", "right")

    def draw(self, length: int, extra_dims: tuple[int, ...] = ()) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The inputs of one row as a batch of one, and what targets are drawn for: its tokens."""
        ids = torch.randint(1, self.vocab_size, (1, *extra_dims, length))
        row = {"input_ids": ids}
        if self.token_types:
            row["token_type_ids"] = torch.randint(0, 2, ids.shape)
        return row, ids

    def alone(self, row: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch of this row, without padding or mask."""
        return {name: values.unsqueeze(0) for name, values in row.items()}

    def collate(self, rows: list[dict[str, torch.Tensor]], side: str = "right") -> dict[str, torch.Tensor]:
        """Pads rows to the longest one, with a mask, `IGNORE` as the label of padding, and token 0 elsewhere."""
        width = max(row["input_ids"].shape[-1] for row in rows)
        batch: dict[str, list[torch.Tensor]] = {}
        for row in rows:
            length = row["input_ids"].shape[-1]
            padding = (0, width - length) if side == "right" else (width - length, 0)
            padded = {"attention_mask": nn.functional.pad(torch.ones_like(row["input_ids"]), padding)}
            for name, values in row.items():
                is_sequence = values.dim() > 0 and values.shape[-1] == length
                filler = IGNORE if name == "labels" else 0
                padded[name] = nn.functional.pad(values, padding, value=filler) if is_sequence else values
            for name, values in padded.items():
                batch.setdefault(name, []).append(values)
        return {name: torch.stack(values) for name, values in batch.items()}

    def without_targets(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inputs alone."""
        return {name: batch[name] for name in self.inputs if name in batch}

    def real_parts(self, kind: str, values: torch.Tensor, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What an output says of each row without padding: "token" is `(batch, seq_len, …)`, "row" `(batch, …)`."""
        if kind == "row" or "attention_mask" not in batch:
            return list(values)
        return [row[mask.bool()] for row, mask in zip(values, batch["attention_mask"])]


def masked_tokens(ids: torch.Tensor) -> torch.Tensor:
    """Labels on about a third of the tokens, on at least one in each row."""
    chosen = torch.rand(ids.shape) < 0.3
    chosen[..., 0] = True
    return ids.masked_fill(~chosen, IGNORE)


def same_tokens(ids: torch.Tensor) -> torch.Tensor:
    """The tokens themselves, which a causal model predicts, but for some that it need not."""
    return ids.masked_fill(torch.rand(ids.shape) < 0.2, IGNORE)


def classes(count: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A class for each row."""
    return lambda ids: torch.randint(0, count, ids.shape[:1])


def token_classes(ids: torch.Tensor) -> torch.Tensor:
    """A class for each token, none for some."""
    return torch.randint(0, NUM_LABELS, ids.shape).masked_fill(torch.rand(ids.shape) < 0.2, IGNORE)


def places(ids: torch.Tensor) -> torch.Tensor:
    """A position in each row."""
    return torch.randint(0, ids.shape[-1], ids.shape[:1])
