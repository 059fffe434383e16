"""Encoder–decoders as two ONNX files: one reads the source, the other runs over target tokens from a state."""

import copy
from typing import Any

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from transformers.cache_utils import DynamicCache

from hf_seqmodels.conversion.onnx_parts import (
    BATCH,
    LENGTH,
    PAST,
    TARGET_LENGTH,
    Part,
    Tensors,
    present_states,
    state_inputs,
    token_inputs,
)
from hf_seqmodels.conversion.onnx_recurrence import replace_recurrences
from hf_seqmodels.models.attention_scores import Memory
from hf_seqmodels.models.modeling_seq2seq import RecurrentSeq2SeqModel, RecurrentSeq2SeqPreTrainedModel
from hf_seqmodels.models.modeling_transformer import VanillaTransformerModel, VanillaTransformerPreTrainedModel
from hf_seqmodels.models.seq2seq_decoder import AttentionDecoder, DecoderOutput, DecoderState
from hf_seqmodels.models.transformer_layers import TransformerCache

_EXTRAS = ("attentional", "coverage")


class RecurrentSource(nn.Module):
    """Encoder and bridge of a recurrent model.

    Args:
        model: bare.
    """

    def __init__(self, model: RecurrentSeq2SeqModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> Tensors:
        """Everything that the decoder needs of the source, and its first state."""
        mask = inputs["attention_mask"]
        encoded = self.model.encode(inputs["input_ids"], mask, None, None)
        memory = self.model.remember(encoded, mask)
        assert encoded.last_hidden_state is not None
        outputs = {"encoder_hidden_states": encoded.last_hidden_state}
        decoder = self.model.decoder
        if isinstance(decoder, AttentionDecoder):
            if decoder.attention.key is not None:
                outputs["encoder_keys"] = memory.keys
        elif decoder.output is not None:
            outputs["context"] = memory.states[:, 0]
        return outputs | _present(self.model.begin(encoded, memory, None))


class RecurrentTarget(nn.Module):
    """Decoder of a recurrent model.

    Args:
        model: bare.
        head: from the decoder's states to logits, if there is one.
    """

    def __init__(self, model: RecurrentSeq2SeqModel, head: nn.Module | None):
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, inputs: Tensors) -> Tensors:
        """`logits` (or `last_hidden_state`), `cross_attentions` if there are any, and the state after the tokens."""
        hidden, cell = inputs["past_hidden"], inputs.get("past_cell")
        state = DecoderState(
            [(hidden[:, n, None], None if cell is None else cell[:, n, None]) for n in range(hidden.shape[1])],
            *(inputs.get(f"past_{name}") for name in _EXTRAS),
        )
        decoder, embeds = self.model.decoder, self.model.embed_target(inputs["decoder_input_ids"], None)
        if not isinstance(decoder, AttentionDecoder):
            memory = decoder.memory(embeds, None, inputs.get("context", hidden[:, -1]))
            outputs = decoder(embeds, state, memory)
        else:
            states = inputs["encoder_hidden_states"]
            memory = Memory(states, inputs["attention_mask"] != 0, inputs.get("encoder_keys", states))
            outputs = (
                _scanned(decoder, embeds, state, memory) if decoder.is_stepwise else decoder(embeds, state, memory)
            )
        named = _headed(outputs.last_hidden_state, self.head)
        if outputs.weights is not None:
            named["cross_attentions"] = outputs.weights
        return named | _present(outputs.state)


def _present(state: DecoderState) -> Tensors:
    extras = {f"present_{name}": getattr(state, name) for name in _EXTRAS if getattr(state, name) is not None}
    return present_states(state.states) | extras


def _headed(hidden_states: torch.Tensor, head: nn.Module | None) -> Tensors:
    return {"last_hidden_state": hidden_states} if head is None else {"logits": head(hidden_states)}


def _scanned(decoder: AttentionDecoder, inputs: torch.Tensor, state: DecoderState, memory: Memory) -> DecoderOutput:
    """As the decoder's own loop over steps, which would be unrolled, by ONNX's Scan."""

    def step(before: list[torch.Tensor], token: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        outputs = decoder(token.unsqueeze(1), _unflattened(before, state), memory, stepwise=False)
        assert outputs.weights is not None
        return _flattened(outputs.state), [outputs.last_hidden_state[:, 0].clone(), outputs.weights[:, 0].clone()]

    ends, (hidden_states, weights) = scan(step, _flattened(state), inputs.transpose(0, 1))
    return DecoderOutput(hidden_states.transpose(0, 1), _unflattened(ends, state), weights.transpose(0, 1))


def _flattened(state: DecoderState) -> list[torch.Tensor]:
    tensors = [tensor for layer in state.states for tensor in layer] + [getattr(state, name) for name in _EXTRAS]
    return [tensor.contiguous() for tensor in tensors if tensor is not None]


def _unflattened(tensors: list[torch.Tensor], like: DecoderState) -> DecoderState:
    rest = iter(tensors)
    states: Any = [tuple(None if part is None else next(rest) for part in layer) for layer in like.states]
    return DecoderState(states, *(None if getattr(like, name) is None else next(rest) for name in _EXTRAS))


class SourceKeys(nn.Module):
    """Encoder of a Transformer, and the keys and values of the source for every layer of the decoder.

    Args:
        model: bare.
    """

    def __init__(self, model: VanillaTransformerModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> Tensors:
        """`encoder_hidden_states`, keys and values `(batch, heads, source_length, head_dim)`, and an empty past."""
        states = self.model.encoder(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        outputs = {"encoder_hidden_states": states}
        for number, layer in enumerate(self.model.decoder.layers):
            attention: Any = layer.encoder_attn
            for name, linear in (("key", attention.k_proj), ("value", attention.v_proj)):
                heads = linear(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
                outputs[f"cross_{name}.{number}"] = heads
                outputs[f"present_{name}.{number}"] = heads[:, :, :0]
        return outputs


class TransformerTarget(nn.Module):
    """Decoder of a Transformer, from keys and values.

    Args:
        model: bare.
        head: from the decoder's states to logits, if there is one.
    """

    def __init__(self, model: VanillaTransformerModel, head: nn.Module | None):
        super().__init__()
        self.decoder = model.decoder
        self.head = head

    def forward(self, inputs: Tensors) -> Tensors:
        """`logits` (or `last_hidden_state`), and keys and values of all tokens so far."""
        cache = TransformerCache(DynamicCache(), DynamicCache())
        layers = range(len(self.decoder.layers))
        for number in layers:
            for part, kind in ((cache.self_attention_cache, "past"), (cache.cross_attention_cache, "cross")):
                part.update(inputs[f"{kind}_key.{number}"], inputs[f"{kind}_value.{number}"], number)
            cache.is_updated[number] = True
        mask = inputs["attention_mask"]
        # Of the source only the shape is looked at: its keys and values are there.
        source = self.decoder.embed_tokens.weight.new_zeros(*mask.shape, self.decoder.config.d_model)
        outputs = self.decoder(
            inputs["decoder_input_ids"], None, source, mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
        named = _headed(outputs, self.head)
        own: Any = cache.self_attention_cache.layers
        return named | {
            f"present_{name}.{number}": values
            for number in layers
            for name, values in (("key", own[number].keys), ("value", own[number].values))
        }


class _Logits(nn.Module):
    """The output layers of a translation model, after the decoder."""

    def __init__(self, layers: list[nn.Module], bias: torch.Tensor | None = None):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.bias = None if bias is None else nn.Buffer(bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        logits = self.layers(hidden_states)
        return logits if self.bias is None else logits + self.bias


def recurrent_translation_parts(model: RecurrentSeq2SeqPreTrainedModel) -> dict[str, Part]:
    """Encoder with bridge, and decoder with its head."""
    whole: Any = model
    bare: RecurrentSeq2SeqModel = whole.base_model
    head = None
    if bare is not model:
        head = _Logits([layer for layer in (whole.dense, whole.lm_head) if layer is not None])
    config: Any = model.config
    target = copy.deepcopy(bare)
    replace_recurrences(bare)
    replace_recurrences(target, single_steps=getattr(config, "is_stepwise", False))
    source_inputs, source_axes = token_inputs("input_ids", "attention_mask", axis="source_length")
    examples, axes = token_inputs("decoder_input_ids", length=TARGET_LENGTH, axis="target_length")
    hidden = config.hidden_size
    states, state_axes = state_inputs(config.num_hidden_layers, hidden, hidden, config.cell_type == "lstm")
    examples, axes = examples | states, axes | state_axes
    of_the_source: dict[str, tuple[int, ...]] = {"encoder_hidden_states": (BATCH, LENGTH, hidden)}
    decoder = target.decoder
    if isinstance(decoder, AttentionDecoder):
        examples["attention_mask"], axes["attention_mask"] = source_inputs["attention_mask"], source_axes["input_ids"]
        if decoder.attention.key is not None:
            of_the_source["encoder_keys"] = (BATCH, LENGTH, hidden)
        if decoder.has_coverage:
            of_the_source["past_coverage"] = (BATCH, LENGTH)
        examples |= {name: torch.zeros(shape) for name, shape in of_the_source.items()}
        axes |= {name: {0: "batch", 1: "source_length"} for name in of_the_source}
    per_row = ["past_attentional"] if getattr(decoder, "input_feeding", False) else []
    if getattr(config, "feed_context", False):
        per_row.append("context")
    examples |= {name: torch.zeros(BATCH, hidden) for name in per_row}
    axes |= {name: {0: "batch"} for name in per_row}
    return {
        "encoder_model": Part(RecurrentSource(bare), source_inputs, source_axes),
        "decoder_model": Part(RecurrentTarget(target, head), examples, axes),
    }


def transformer_parts(model: VanillaTransformerPreTrainedModel) -> dict[str, Part]:
    """Encoder with the decoder's keys and values of the source, and decoder with its head."""
    whole: Any = model
    bare: VanillaTransformerModel = whole.base_model
    head = None if bare is model else _Logits([whole.lm_head], whole.final_logits_bias)
    source_inputs, source_axes = token_inputs("input_ids", "attention_mask", axis="source_length")
    examples, axes = token_inputs("decoder_input_ids", length=TARGET_LENGTH, axis="target_length")
    examples["attention_mask"], axes["attention_mask"] = source_inputs["attention_mask"], source_axes["attention_mask"]
    config: Any = model.config
    heads = config.decoder_attention_heads
    for number in range(config.decoder_layers):
        for kind, length, axis in (("cross", LENGTH, "source_length"), ("past", PAST, "past_length")):
            for name in ("key", "value"):
                examples[f"{kind}_{name}.{number}"] = torch.zeros(BATCH, heads, length, config.d_model // heads)
                axes[f"{kind}_{name}.{number}"] = {0: "batch", 2: axis}
    return {
        "encoder_model": Part(SourceKeys(bare), source_inputs, source_axes),
        "decoder_model": Part(TransformerTarget(bare, head), examples, axes),
    }


__all__ = ["recurrent_translation_parts", "transformer_parts"]
