"""How much of the loss at a target's end reaches each step of the source: an encoder–decoder's vanishing gradients."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_seqmodels.models.configuration_seq2seq import RecurrentSeq2SeqConfig
from hf_seqmodels.models.recurrent import RecurrentLayer, State
from hf_seqmodels.models.seq2seq_encoder import RecurrentEncoder, RecurrentEncoderOutput

from .evaluating import evaluating
from .gradient_flow import GradientFlow, probed_flow, probed_states, step_norms


def source_gradient_flow(model: PreTrainedModel, input_ids: torch.Tensor, labels: torch.Tensor) -> GradientFlow:
    """Norms of the gradients that the last target token's loss sends to the encoder's states of each source step.

    In Seq2Seq all ways lead through the encoder's last state; attention adds one from each step straight to the loss,
    however far away it is (Bahdanau et al. 2015, section 1; Vaswani et al. 2017, section 4, "maximum path length").
    Recurrent encoders are run step by step, as in `gradient_flow`, so that each step's state has a place in the graph;
    the numbers are those of the fused call. Of a Transformer the states are each encoder layer's outputs, the last
    one's behind the final norm if it has one. Dropout is off, and no gradient of a parameter is touched.

    Args:
        model: Seq2Seq, AttentionSeq2Seq or VanillaTransformer with its head; recurrent encoders must be unidirectional
            and read the source in its order.
        input_ids: `(batch, source_len)` ids, without padding.
        labels: `(batch, target_len)` ids, without padding; only the last one's cross-entropy counts.

    Returns:
        Norms `(encoder layers, source_len)`, averaged over the batch; each row's loss counts for itself. `distances`
        are steps to the source's end. An LSTM encoder's have `cell`, too: |dL / dc_t| by way of c_{t+1} alone, at the
        end by way of the decoder's first cell.

    Raises:
        ValueError: ids of a shape that does not fit; a model that is no encoder–decoder; a bidirectional or reversing
            recurrent encoder.
    """
    if input_ids.dim() != 2 or 0 in input_ids.shape or input_ids.is_floating_point():
        raise ValueError(f"input_ids of shape {tuple(input_ids.shape)} must be (batch, source_len) ids.")
    if labels.dim() != 2 or labels.shape[0] != input_ids.shape[0] or labels.shape[1] == 0:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not fit; ({input_ids.shape[0]}, target_len) is expected."
        )
    if not getattr(model.config, "is_encoder_decoder", False) or not hasattr(model, "get_encoder"):
        raise ValueError(f"{type(model).__name__} is no encoder–decoder with a head; use gradient_flow.")
    config = model.config
    if isinstance(config, RecurrentSeq2SeqConfig):
        for name, why in (
            ("bidirectional", "a step's state depends on no chain of steps alone"),
            ("reverse_source", "its chain of steps ends at the source's beginning"),
        ):
            if getattr(config, name):
                raise ValueError(f"{name}=True: {why}; use False.")
    # Fused kernels of CUDA have no backward in evaluation mode.
    with evaluating(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        if isinstance(config, RecurrentSeq2SeqConfig):
            return _recurrent_flow(model, input_ids, labels)
        return _attention_flow(model, input_ids, labels)


def _last_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs.logits[:, -1].double(), labels[:, -1], reduction="sum")


def _recurrent_flow(model: PreTrainedModel, input_ids: torch.Tensor, labels: torch.Tensor) -> GradientFlow:
    encoder = model.get_encoder()
    assert isinstance(encoder, RecurrentEncoder)
    layers = [module for module in encoder.modules() if isinstance(module, RecurrentLayer)]
    with probed_states(layers) as (hidden_probes, cell_probes):
        outputs = model(encoder_outputs=_stepwise(encoder, input_ids), labels=labels)
        return probed_flow(_last_loss(outputs, labels), hidden_probes, cell_probes, len(layers))


def _attention_flow(model: PreTrainedModel, input_ids: torch.Tensor, labels: torch.Tensor) -> GradientFlow:
    embeds = model.get_encoder().embed_tokens(input_ids).detach().requires_grad_()
    outputs = model(inputs_embeds=embeds, labels=labels, output_hidden_states=True)
    return GradientFlow(step_norms(_last_loss(outputs, labels), outputs.encoder_hidden_states[1:]))


def _stepwise(encoder: RecurrentEncoder, input_ids: torch.Tensor) -> RecurrentEncoderOutput:
    """What the encoder's forward returns, run step by step through its states."""
    # A leaf that needs a gradient, so that there is a graph even if all weights are frozen.
    embeds = encoder.embed_tokens(input_ids).detach().requires_grad_()
    states: list[State] | None = None
    outputs = []
    for step in embeds.split(1, dim=1):
        result = encoder.stack(step, None, states)
        states = result.states
        outputs.append(result.last_hidden_state)
    assert states is not None
    cells = [cell.flatten(1) for _, cell in states if cell is not None]
    return RecurrentEncoderOutput(
        last_hidden_state=torch.cat(outputs, dim=1),
        final_hidden=torch.stack([hidden.flatten(1) for hidden, _ in states], dim=1),
        final_cell=torch.stack(cells, dim=1) if cells else None,
    )
