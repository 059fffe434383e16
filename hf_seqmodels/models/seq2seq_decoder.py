"""The decoder of the recurrent encoder–decoders: with a fixed-size context, or with attention to the source."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from .attention_scores import Memory, SourceAttention
from .configuration_seq2seq import AttentionSeq2SeqConfig, RecurrentSeq2SeqConfig, Seq2SeqConfig
from .recurrent import RecurrentStack, State
from .recurrent_cache import RecurrentCache


@dataclass(frozen=True)
class DecoderState:
    """Where a decoder stands.

    Args:
        states: of each recurrent layer.
        attentional: `(batch, hidden)`, what the last step gave, for input feeding.
        coverage: `(batch, source_len)`, the attention paid so far.
    """

    states: list[State]
    attentional: torch.Tensor | None = None
    coverage: torch.Tensor | None = None

    @property
    def _extras(self) -> list[torch.Tensor]:
        return [extra for extra in (self.attentional, self.coverage) if extra is not None]

    def store(self, cache: RecurrentCache, tokens: int) -> None:
        """Writes itself into a cache after `tokens` more tokens; what is no recurrent state, behind the layers."""
        extras: list[State] = [(extra.unsqueeze(1), None) for extra in self._extras]
        for layer, (hidden, cell) in zip(cache.layers, [*self.states, *extras], strict=True):
            layer.set_state(hidden, cell, tokens)

    def new_cache(self) -> RecurrentCache:
        """A cache with room for it."""
        return RecurrentCache(len(self.states) + len(self._extras))

    def resumed(self, cache: RecurrentCache) -> "DecoderState":
        """The state in a cache that a state like this one was stored in; this one, if nothing has been.

        Raises:
            ValueError: the cache is another model's.
        """
        own = [*self.states, *((extra.unsqueeze(1), None) for extra in self._extras)]
        held = [(layer.hidden, layer.cell) for layer in cache.layers]
        if len(held) != len(own):
            raise ValueError(f"past_key_values has {len(held)} layers; this decoder's state has {len(own)}.")
        if cache.batch_size == 0:
            return self
        shapes, wanted = ([_shapes(hidden, cell) for hidden, cell in states] for states in (held, own))
        if shapes != wanted:
            raise ValueError(f"past_key_values holds states of shapes {shapes}; {wanted} are expected.")
        states: list[State] = [(hidden, cell) for hidden, cell in held[: len(self.states)] if hidden is not None]
        extras = [hidden[:, 0] for hidden, _ in held[len(self.states) :] if hidden is not None]
        attentional = extras.pop(0) if self.attentional is not None else None
        coverage = extras.pop(0) if self.coverage is not None else None
        return DecoderState(states, attentional, coverage)


def _shapes(*states: torch.Tensor | None) -> list[tuple[int, ...]]:
    return [tuple(state.shape) for state in states if state is not None]


@dataclass(frozen=True)
class DecoderOutput:
    """What a decoder makes of some target tokens.

    Args:
        last_hidden_state: `(batch, target_len, hidden)`, what the output layer sees.
        state: after them.
        weights: `(batch, target_len, source_len)` attention, if there is any.
        repeated: `(batch, target_len)` attention paid again, with coverage (See et al. 2017, equation 12).
        hidden_states: on request, the stack's input and each layer's output.
    """

    last_hidden_state: torch.Tensor
    state: DecoderState
    weights: torch.Tensor | None = None
    repeated: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class FixedContextDecoder(nn.Module):
    """Sees the source through its first state only, or through one context vector at every step (Cho et al. 2014)."""

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        self.feed_context = config.feed_context
        self.embed_tokens = nn.Embedding(config.vocab_size, config.input_size)
        self.stack = RecurrentStack(config.decoder_config())
        width = config.hidden_size
        self.output = nn.Linear(2 * width + config.input_size, width) if config.feed_context else None

    def begin(self, states: list[State], memory: Memory) -> DecoderState:
        """The state before the first token."""
        return DecoderState(states)

    def memory(self, states: torch.Tensor, attention_mask: torch.Tensor | None, context: torch.Tensor) -> Memory:
        """The context `(batch, hidden)`, as a source of one position."""
        return Memory(context.unsqueeze(1), None, context.unsqueeze(1))

    def forward(
        self,
        inputs: torch.Tensor,
        state: DecoderState,
        memory: Memory,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        stepwise: bool = False,
    ) -> DecoderOutput:
        """Runs over target tokens, in one call.

        Args:
            inputs: `(batch, target_len, embedding)`.
            attention_mask: `(batch, target_len)`, 0 on padding.
        """
        if self.output is None:
            outputs = self.stack(inputs, attention_mask, state.states, output_hidden_states)
            hidden = outputs.last_hidden_state
        else:
            context = memory.states.expand(-1, inputs.shape[1], -1)
            fed = torch.cat([inputs, context.to(inputs.dtype)], dim=-1)
            outputs = self.stack(fed, attention_mask, state.states, output_hidden_states)
            hidden = self.output(torch.cat([outputs.last_hidden_state, context.to(inputs.dtype), inputs], dim=-1))
        return DecoderOutput(hidden, replace(state, states=outputs.states), hidden_states=outputs.hidden_states)


class AttentionDecoder(nn.Module):
    """Attends to the source at every step (Luong et al. 2015, section 3).

    Without input feeding and coverage no step depends on another's attention: the recurrent layers run over all
    tokens in one call, and the attention is one batched product.
    """

    def __init__(self, config: AttentionSeq2SeqConfig):
        super().__init__()
        self.input_feeding = config.input_feeding
        self.has_coverage = config.coverage
        self.is_stepwise = config.is_stepwise
        self.embed_tokens = nn.Embedding(config.vocab_size, config.input_size)
        self.stack = RecurrentStack(config.decoder_config())
        self.attention = SourceAttention(config)
        self.combine = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)

    def begin(self, states: list[State], memory: Memory) -> DecoderState:
        """The state before the first token."""
        like = memory.states
        attentional = like.new_zeros(like.shape[0], like.shape[-1]) if self.input_feeding else None
        coverage = like.new_zeros(like.shape[:2]) if self.has_coverage else None
        return DecoderState(states, attentional, coverage)

    def memory(self, states: torch.Tensor, attention_mask: torch.Tensor | None, context: torch.Tensor) -> Memory:
        """The source `(batch, source_len, hidden)`, prepared to be attended to."""
        return self.attention.memory(states, attention_mask)

    def forward(
        self,
        inputs: torch.Tensor,
        state: DecoderState,
        memory: Memory,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        stepwise: bool = False,
    ) -> DecoderOutput:
        """Runs over target tokens.

        Args:
            inputs: `(batch, target_len, embedding)`.
            attention_mask: `(batch, target_len)`, 0 on padding.
            stepwise: go step by step though nothing asks for it; the numbers are the same.
        """
        if not (stepwise or self.is_stepwise):
            return self._attend(inputs, state, memory, attention_mask, output_hidden_states)
        parts: list[DecoderOutput] = []
        for step in range(inputs.shape[1]):
            mask = None if attention_mask is None else attention_mask[:, step : step + 1]
            parts.append(self._attend(inputs[:, step : step + 1], state, memory, mask, output_hidden_states))
            state = parts[-1].state
        layers = zip(*(part.hidden_states for part in parts if part.hidden_states is not None))
        return DecoderOutput(
            torch.cat([part.last_hidden_state for part in parts], dim=1),
            state,
            torch.cat([part.weights for part in parts if part.weights is not None], dim=1),
            torch.cat([part.repeated for part in parts if part.repeated is not None], dim=1)
            if self.has_coverage
            else None,
            tuple(torch.cat(steps, dim=1) for steps in layers) if output_hidden_states else None,
        )

    def _attend(
        self,
        inputs: torch.Tensor,
        state: DecoderState,
        memory: Memory,
        attention_mask: torch.Tensor | None,
        output_hidden_states: bool,
    ) -> DecoderOutput:
        """All tokens at once, or one if a step needs the one before."""
        if state.attentional is not None:
            inputs = torch.cat([inputs, state.attentional.unsqueeze(1).to(inputs.dtype)], dim=-1)
        outputs = self.stack(inputs, attention_mask, state.states, output_hidden_states)
        context, weights = self.attention(outputs.last_hidden_state, memory, state.coverage)
        joined = torch.cat([context, outputs.last_hidden_state.to(context.dtype)], dim=-1)
        attentional = torch.tanh(self.combine(joined))
        repeated = None
        after = replace(state, states=outputs.states)
        if state.attentional is not None:
            after = replace(after, attentional=_kept(attentional[:, -1], state.attentional, attention_mask))
        if state.coverage is not None:
            repeated = torch.minimum(weights[:, 0], state.coverage).sum(-1, keepdim=True)
            covered = state.coverage + weights[:, 0].to(state.coverage.dtype)
            after = replace(after, coverage=_kept(covered, state.coverage, attention_mask))
        return DecoderOutput(attentional, after, weights, repeated, outputs.hidden_states)


def _kept(new: torch.Tensor, old: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """`(batch, …)` after one step; a row whose token is padding stays as it was."""
    return new if attention_mask is None else torch.where(attention_mask != 0, new, old.to(new.dtype))


def build_decoder(config: RecurrentSeq2SeqConfig) -> FixedContextDecoder | AttentionDecoder:
    """The decoder that the configuration asks for.

    Its class does not tell: custom code of the Hub is loaded more than once, and each time makes classes of its own.
    """
    if config.attends_to_source:
        return AttentionDecoder(cast(AttentionSeq2SeqConfig, config))
    return FixedContextDecoder(cast(Seq2SeqConfig, config))


__all__ = ["AttentionDecoder", "DecoderOutput", "DecoderState", "FixedContextDecoder", "build_decoder"]
