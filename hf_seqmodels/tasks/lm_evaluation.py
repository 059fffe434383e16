"""Evaluation of language models on held-out text: each target once, by sums over all processes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hf_seqmodels.data.sampling import ShardedDataset, evaluation_batches
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.training import Engine


def count_items(batch: dict[str, Any]) -> dict[str, int]:
    """The loss's denominator: targets."""
    targets = batch["shift_labels"] if "shift_labels" in batch else batch["labels"][:, 1:]
    return {"num_items_in_batch": int((targets != IGNORE_INDEX).sum())}


def evaluation_streams(tokens: np.ndarray, num_streams: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All tokens but the last in parallel streams, with their targets.

    Returns:
        Ids and targets, `(streams, length)` int64; behind the end of the text, targets are -100. Fewer streams than
        asked for where the text has fewer tokens.
    """
    targets = len(tokens) - 1
    num_streams = min(num_streams, targets)
    length = -(-targets // num_streams)
    num_streams = -(-targets // length)
    padded = np.full((2, num_streams * length), IGNORE_INDEX, dtype=np.int64)
    padded[0, targets:] = 0
    padded[:, :targets] = tokens[:-1], tokens[1:]
    ids, labels = torch.from_numpy(padded.reshape(2, num_streams, length))
    return ids, labels


def evaluate_contiguous(
    engine: Engine, tokens: np.ndarray, characters: int, num_streams: int, chunk: int
) -> dict[str, float]:
    """The state is carried from chunk to chunk, so their length does not matter. Each stream begins without one.

    Args:
        tokens: `(tokens,)`, of which the first is given and the others are predicted.
        characters: that the predicted tokens stand for.
        num_streams: over all processes; the result depends on it slightly.
        chunk: tokens of each stream at a time.

    Raises:
        ValueError: fewer streams than processes.
    """
    accelerator = engine.accelerator
    if num_streams < accelerator.num_processes:
        raise ValueError(
            f"per_device_eval_batch_size={num_streams}: the text is evaluated in so many streams over all processes; "
            f"at least {accelerator.num_processes} are needed."
        )
    rank, count = accelerator.process_index, accelerator.num_processes
    ids, labels = (part[rank::count].to(accelerator.device) for part in evaluation_streams(tokens, num_streams))
    sums, state = torch.zeros(2, dtype=torch.float64), None
    for first in range(0, ids.shape[1], chunk):
        targets = labels[:, first : first + chunk]
        outputs = engine.model(
            ids[:, first : first + chunk],
            past_key_values=state,
            use_cache=True,
            shift_labels=targets,
            num_items_in_batch=1,
        )
        state = outputs.past_key_values
        sums += torch.tensor([outputs.loss.item(), (targets != IGNORE_INDEX).sum().item()], dtype=torch.float64)
    return _metrics(engine, sums, characters)


def evaluate_documents(
    engine: Engine,
    dataset: ShardedDataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    characters: int,
    batch_size: int,
) -> dict[str, float]:
    """Each document by itself, its end predicted, too.

    Args:
        characters: of the documents, what was cut off left out.
    """
    accelerator = engine.accelerator
    sums = torch.zeros(2, dtype=torch.float64)
    for keys, counts in evaluation_batches(dataset, batch_size, accelerator.num_processes, accelerator.process_index):
        batch = collate([dataset[key] for key in keys])
        items = count_items(batch)["num_items_in_batch"]
        batch = {name: values.to(accelerator.device) for name, values in batch.items()}
        loss = engine.model(**batch, use_cache=False, num_items_in_batch=1).loss.item()
        if counts:
            sums += torch.tensor([loss, items], dtype=torch.float64)
    return _metrics(engine, sums, characters)


def _metrics(engine: Engine, sums: torch.Tensor, characters: int) -> dict[str, float]:
    """`loss` (nats a token), `perplexity` (its exponential), and what does not depend on the tokenizer:
    `nats_per_character` and `bits_per_character` (of a tokenizer with an unknown token, too low)."""
    if engine.accelerator.num_processes > 1:
        sums = engine.accelerator.reduce(sums.to(engine.accelerator.device), "sum").cpu()
    nats, targets = sums.tolist()
    loss = nats / targets
    metrics = {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
    if characters:
        metrics.update(nats_per_character=nats / characters, bits_per_character=nats / characters / math.log(2))
    return metrics
