"""Toy pairs of texts: how they are drawn, padded and compared."""

from dataclasses import dataclass

import torch
from torch import nn

from hf_seqmodels.models.target_shift import shift_right

IGNORE = -100
PAD, START = 0, 1


@dataclass(frozen=True)
class TextToText:
    """Rows of source and target tokens of unequal lengths; sources are padded on either side, targets on the right.

    A row has labels, of which models make their decoder's inputs, or else these inputs.
    """

    vocab_size: int = 60
    sides: tuple[str, ...] = ("left", "right")

    def draw(self, length: int, extra_dims: tuple[int, ...] = ()) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The source of one row as a batch of one, and its target of another length."""
        source, target = (torch.randint(2, self.vocab_size, (1, size)) for size in (length, 1 + length * 5 % 8))
        return {"input_ids": source, "decoder_input_ids": shift_right(target, START, PAD)}, target

    def alone(self, row: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch of this row, without padding or mask."""
        return {name: values.unsqueeze(0) for name, values in self._told(row).items()}

    def collate(self, rows: list[dict[str, torch.Tensor]], side: str = "right") -> dict[str, torch.Tensor]:
        """Pads sources and targets to the longest of each, with masks, and `IGNORE` as the label of padding."""
        batch: dict[str, list[torch.Tensor]] = {}
        for row in map(self._told, rows):
            for name, values in row.items():
                width = max(len(other[name]) for other in rows)
                missing = width - len(values)
                padding = (missing, 0) if side == "left" and name == "input_ids" else (0, missing)
                filler = IGNORE if name == "labels" else PAD
                batch.setdefault(name, []).append(nn.functional.pad(values, padding, value=filler))
                if name != "labels":
                    mask = "attention_mask" if name == "input_ids" else "decoder_attention_mask"
                    batch.setdefault(mask, []).append(nn.functional.pad(torch.ones_like(values), padding))
        return {name: torch.stack(values) for name, values in batch.items()}

    def without_targets(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Sources, and what the decoder is given in place of labels."""
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        if "labels" in batch:
            inputs["decoder_input_ids"] = shift_right(batch["labels"], START, PAD)
            if "attention_mask" in batch:
                inputs["decoder_attention_mask"] = self._real_targets(batch).long()
        return inputs

    def real_parts(self, kind: str, values: torch.Tensor, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What an output says of each row without padding; of its "source" or its "target"."""
        if "attention_mask" not in batch:
            return list(values)
        real = batch["attention_mask"].bool() if kind == "source" else self._real_targets(batch)
        return [row[mask] for row, mask in zip(values, real, strict=True)]

    def _told(self, row: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: values for name, values in row.items() if name != "decoder_input_ids" or "labels" not in row}

    def _real_targets(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """`(batch, target_len)`; the last real target of a row always has a label."""
        if "labels" in batch:
            return (batch["labels"] != IGNORE).flip(1).cumsum(1).flip(1) > 0
        return batch["decoder_attention_mask"].bool()


def some_targets(ids: torch.Tensor) -> torch.Tensor:
    """The target itself, but for some tokens that need not be said; the last one must."""
    left_out = torch.rand(ids.shape) < 0.2
    left_out[..., -1] = False
    return ids.masked_fill(left_out, IGNORE)
