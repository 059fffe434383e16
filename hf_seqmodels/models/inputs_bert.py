"""The inputs of one SeqBert forward, checked and brought into one form: a padded batch or a packed row."""

from dataclasses import dataclass, replace

import torch

from .configuration_bert import SeqBertConfig
from .input_checks import check_given, check_ids, check_rows, check_shape
from .packing import Segments, Unpadding


@dataclass(frozen=True)
class EncoderInputs:
    """Inputs of the encoder, `(batch, seq_len)` each; `(1, num_tokens)` for a packed row.

    Args:
        input_ids: token ids, or `None` with `inputs_embeds` `(batch, seq_len, hidden)`.
        attention_mask: `(batch, seq_len)` padding mask or a 4-D mask; `None` for a packed row or without padding.
        segments: of a packed row.
        unpadding: how the packed row came from a padded batch, if it did.
    """

    input_ids: torch.Tensor | None
    inputs_embeds: torch.Tensor | None
    attention_mask: torch.Tensor | None
    token_type_ids: torch.Tensor | None
    position_ids: torch.Tensor
    segments: Segments | None = None
    unpadding: Unpadding | None = None

    @classmethod
    def from_arguments(
        cls,
        config: SeqBertConfig,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        cu_seq_lens: torch.Tensor | None,
    ) -> "EncoderInputs":
        """Checks the arguments of `SeqBertModel.forward` and fills in the positions.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        given = check_given(input_ids, inputs_embeds, config.hidden_size)
        batch_size, seq_len = given.shape[:2]
        check_shape("token_type_ids", token_type_ids, (batch_size, seq_len))
        if position_ids is not None and position_ids.shape[0] != 1:
            check_shape("position_ids", position_ids, (batch_size, seq_len))
        segments = None
        if cu_seq_lens is not None:
            if batch_size != 1 or attention_mask is not None:
                raise ValueError(
                    f"cu_seq_lens divides one packed row: batch must be 1 (is {batch_size}) and attention_mask None."
                )
            segments = Segments.from_cu_seq_lens(cu_seq_lens, seq_len)
        if position_ids is None:
            position_ids = _default_positions(given, attention_mask, segments)
        longest = max(segments.lengths) if segments is not None else seq_len
        if longest > config.max_position_embeddings:
            raise ValueError(
                f"A sequence of {longest} tokens is longer than max_position_embeddings="
                f"{config.max_position_embeddings}; truncate it or split it."
            )
        check_ids("input_ids", input_ids, "vocab_size", config.vocab_size)
        check_ids("token_type_ids", token_type_ids, "type_vocab_size", config.type_vocab_size)
        check_ids("position_ids", position_ids, "max_position_embeddings", config.max_position_embeddings)
        _check_mask(attention_mask, batch_size, seq_len)
        return cls(input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, segments)

    @property
    def states(self) -> torch.Tensor:
        """Ids or embeddings, whichever were given."""
        states = self.input_ids if self.input_ids is not None else self.inputs_embeds
        assert states is not None
        return states

    @property
    def can_unpad(self) -> bool:
        """Whether there is a padding mask to act on."""
        return self.attention_mask is not None and self.attention_mask.dim() == 2

    @property
    def first_positions(self) -> torch.Tensor:
        """`(num_sequences,)` place of each sequence's first real token in the flattened input."""
        if self.segments is not None:
            return self.segments.starts
        batch_size, seq_len = self.states.shape[:2]
        first = torch.arange(batch_size, device=self.states.device) * seq_len
        if self.can_unpad:
            assert self.attention_mask is not None
            first = first + (self.attention_mask != 0).int().argmax(-1)
        return first

    def unpadded(self) -> "EncoderInputs":
        """The same batch as one packed row."""
        assert self.attention_mask is not None
        unpadding = Unpadding.from_mask(self.attention_mask)
        ids, embeds, types = (
            unpadding.pack(values) if values is not None else None
            for values in (self.input_ids, self.inputs_embeds, self.token_type_ids)
        )
        position_ids = unpadding.pack(self.position_ids.expand(unpadding.shape))
        return replace(
            self,
            input_ids=ids,
            inputs_embeds=embeds,
            token_type_ids=types,
            position_ids=position_ids,
            attention_mask=None,
            segments=unpadding.segments,
            unpadding=unpadding,
        )


def _default_positions(
    given: torch.Tensor, attention_mask: torch.Tensor | None, segments: Segments | None
) -> torch.Tensor:
    """Positions count from each sequence's first real token, so that left padding is as invisible as right.

    They go on through padding on the right, as BERT's do: a batch that begins with real tokens has BERT's positions.
    """
    if segments is not None:
        return segments.positions
    positions = torch.arange(given.shape[1], device=given.device).unsqueeze(0)
    if attention_mask is not None and attention_mask.dim() == 2:
        first = (attention_mask != 0).int().argmax(-1, keepdim=True)
        positions = (positions - first.to(positions.device)).clamp(min=0)
    return positions


def _check_mask(attention_mask: torch.Tensor | None, batch_size: int, seq_len: int) -> None:
    if attention_mask is None or attention_mask.dim() == 4:
        return
    check_shape("attention_mask", attention_mask, (batch_size, seq_len))
    check_rows(attention_mask)


__all__ = ["EncoderInputs"]
