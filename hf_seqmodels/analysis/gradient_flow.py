"""How much of a loss at the end of a sequence reaches each earlier step: vanishing gradients, measured."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from hf_seqmodels.models.configuration_rnn import RecurrentConfig
from hf_seqmodels.models.recurrent import RecurrentLayer
from hf_seqmodels.models.recurrent_cache import RecurrentCache

from .evaluating import evaluating

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class GradientFlow:
    """Norms of the gradients of a loss at the last step T, averaged over the batch.

    Args:
        hidden: `(layers, seq_len)` float64: |dL / dh_t| at each step t, by every way from h_t to the loss.
        cell: `(layers, seq_len)` of an LSTM: |dL / dc_t| by way of c_{t+1}, with h_t held; 0 at T, where the loss sees
            the cell only through h_T. `None` for models without cells.
    """

    hidden: np.ndarray
    cell: np.ndarray | None = None

    @property
    def distances(self) -> np.ndarray:
        """`(seq_len,)` T - t: steps from each state to the loss."""
        return np.arange(self.hidden.shape[1])[::-1]

    @property
    def log_slopes(self) -> np.ndarray:
        """`(layers,)` slope of ln |dL / dh_t| against T - t: below 0 it vanishes, above 0 it explodes.

        exp(slope) is the factor of one step, the mean contraction of Pascanu et al. 2013 (section 2.1). It is fitted
        by least squares to the steps with a gradient above 0, and NaN where these are fewer than two.
        """
        return np.array([_log_slope(self.distances, norms) for norms in self.hidden])

    @property
    def cell_log_slopes(self) -> np.ndarray | None:
        """The same of the cells, `None` without cells."""
        return None if self.cell is None else np.array([_log_slope(self.distances, norms) for norms in self.cell])


def gradient_flow(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    *,
    targets: torch.Tensor | None = None,
    loss: Loss | None = None,
) -> GradientFlow:
    """Norms of the gradients that a loss after the last step sends to the states of every step (Hochreiter 1991;
    Pascanu et al. 2013, section 2).

    Recurrent models are run step by step through their cache, which gives each step's state a place in the graph that
    one fused call does not have; the numbers are those of the fused call. Of attention models the states are each
    layer's outputs. Dropout is off, and no gradient of a parameter is touched.

    Args:
        model: RNN, LSTM or GRU with any head, unidirectional; or a model that returns `hidden_states`.
        inputs: `(batch, seq_len)` ids or `(batch, seq_len, width)` embeddings, without padding.
        targets: `(batch,)` ids that follow the last step: the loss is a causal language model's cross-entropy there.
        loss: in its place, a function of the model's output after the last step: one value for each row, or the rows'
            sum. A recurrent model's output then has the last step alone: pooling must be `last`.

    Returns:
        Norms; each row's loss counts for itself, so that they don't depend on the batch's size.

    Raises:
        ValueError: both or neither of `targets` and `loss`; ids of a shape that does not fit; a bidirectional
            recurrent model, or one that pools over all steps; a model without `inputs_embeds` or `hidden_states`.
    """
    if (targets is None) == (loss is None):
        raise ValueError("Exactly one of targets and loss must be given.")
    if targets is not None and targets.shape != inputs.shape[:1]:
        raise ValueError(f"targets of shape {tuple(targets.shape)} do not fit; {tuple(inputs.shape[:1])} is expected.")
    if inputs.dim() != (3 if inputs.is_floating_point() else 2) or 0 in inputs.shape:
        raise ValueError(
            f"inputs of shape {tuple(inputs.shape)} must be (batch, seq_len) ids or (batch, seq_len, width) "
            "embeddings."
        )
    objective = _next_token_loss(targets) if targets is not None else loss
    assert objective is not None
    config = model.config
    if "inputs_embeds" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"{type(model).__name__} takes no inputs_embeds: only models of sequences are measured.")
    if isinstance(config, RecurrentConfig):
        if config.bidirectional:
            raise ValueError("bidirectional=True: the last step depends on no chain of steps alone; use False.")
        if hasattr(model, "pooler") and config.pooling != "last":
            raise ValueError(f"pooling={config.pooling!r} sees more than the last step; use 'last'.")
    # Fused kernels of CUDA have no backward in evaluation mode.
    with evaluating(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        embeddings = inputs if inputs.is_floating_point() else model.get_input_embeddings()(inputs)
        # A leaf that needs a gradient, so that there is a graph even if all weights are frozen.
        embeddings = embeddings.detach().requires_grad_()
        flow = _recurrent_flow if isinstance(config, RecurrentConfig) else _attention_flow
        return flow(model, embeddings, objective)


def _next_token_loss(targets: torch.Tensor) -> Loss:
    return lambda outputs: nn.functional.cross_entropy(
        outputs.logits[:, -1].double(), targets.to(outputs.logits.device), reduction="sum"
    )


def _recurrent_flow(model: PreTrainedModel, embeddings: torch.Tensor, loss: Loss) -> GradientFlow:
    layers = [module for module in model.modules() if isinstance(module, RecurrentLayer)]
    cache = RecurrentCache(len(layers))
    with probed_states(layers) as (hidden_probes, cell_probes):
        for step in embeddings.split(1, dim=1):
            outputs = model(inputs_embeds=step, past_key_values=cache, use_cache=True)
        return probed_flow(loss(outputs), hidden_probes, cell_probes, len(layers))


def probed_flow(
    value: torch.Tensor, hidden_probes: list[torch.Tensor], cell_probes: list[torch.Tensor], num_layers: int
) -> GradientFlow:
    """What of `value` reaches the states that `probed_states` has noted."""
    norms = _gradient_norms(value, hidden_probes + cell_probes)
    # The hooks ran step by step, and in each step layer by layer.
    hidden, cell = (part.reshape(-1, num_layers).T for part in np.split(norms, [len(hidden_probes)]))
    return GradientFlow(hidden, cell if cell.size else None)


@contextmanager
def probed_states(layers: list[RecurrentLayer]) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Adds a zero to every state as it leaves a layer: its gradient is the state's, by all ways together.

    Yields:
        The zeros of hidden states and of cells, in the order in which the layers run inside the block.
    """
    hidden_probes, cell_probes = list[torch.Tensor](), list[torch.Tensor]()

    def add_zeros(module: nn.Module, inputs: Any, result: Any) -> Any:
        outputs, hidden, cell = result
        probe = torch.zeros_like(hidden[:, 0]).requires_grad_()
        hidden_probes.append(probe)
        if cell is not None:
            cell_probes.append(torch.zeros_like(cell).requires_grad_())
            cell = cell + cell_probes[-1]
        return outputs + probe.unsqueeze(1), hidden + probe.unsqueeze(1), cell

    handles = [layer.register_forward_hook(add_zeros) for layer in layers]
    try:
        yield hidden_probes, cell_probes
    finally:
        for handle in handles:
            handle.remove()


def _attention_flow(model: PreTrainedModel, embeddings: torch.Tensor, loss: Loss) -> GradientFlow:
    outputs = model(inputs_embeds=embeddings, output_hidden_states=True)
    if not getattr(outputs, "hidden_states", None):
        raise ValueError(f"{type(model).__name__} returns no hidden_states to measure gradients at.")
    return GradientFlow(step_norms(loss(outputs), outputs.hidden_states[1:]))


def step_norms(value: torch.Tensor, states: Sequence[torch.Tensor]) -> np.ndarray:
    """`(states, seq_len)` of states `(batch, seq_len, width)`: one norm a step, averaged over the batch."""
    gradients = _gradients(value, list(states))
    return np.stack([gradient.double().norm(dim=-1).mean(0).cpu().numpy() for gradient in gradients])


def _gradients(value: torch.Tensor, states: list[torch.Tensor]) -> list[torch.Tensor]:
    gradients = torch.autograd.grad(value.sum(), states, allow_unused=True)
    return [torch.zeros_like(state) if found is None else found for state, found in zip(states, gradients)]


def _gradient_norms(value: torch.Tensor, states: list[torch.Tensor]) -> np.ndarray:
    """One norm for each state `(batch, …)`, averaged over the batch; float64, so that squares don't underflow."""
    norms = [gradient.double().flatten(1).norm(dim=1).mean() for gradient in _gradients(value, states)]
    return torch.stack(norms).cpu().numpy()


def _log_slope(distances: np.ndarray, norms: np.ndarray) -> float:
    reached = norms > 0
    if reached.sum() < 2:
        return float("nan")
    return float(np.polyfit(distances[reached], np.log(norms[reached]), 1)[0])
