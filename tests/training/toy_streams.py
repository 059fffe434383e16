"""A small language model on streams of random tokens, its state carried from step to step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hf_seqmodels.data.contiguous import ContiguousText, collate_chunks
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.training import Engine, Phase, open_run_folder
from tests.training.toy import VOCABULARY, ToyRun

TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, 8 * 26 + 4).astype(np.int32)


@dataclass
class ToyStreams(ToyRun):
    """Streams of 26 tokens at 8 rows a step: about four chunks of at most 7, so that 8 steps meet three epochs.

    Args:
        processes: that will run it; for the number of streams.
        double: in float64.
    """

    batch: int = 4
    processes: int = 1
    model_type: str = "lstm"
    double: bool = False
    random_bptt: bool = False
    gradient_checkpointing: bool = False

    def build_model(self) -> Any:
        torch.manual_seed(self.seed)
        config = AutoConfig.for_model(
            self.model_type,
            vocab_size=VOCABULARY,
            hidden_size=16,
            embedding_size=8,
            num_hidden_layers=2,
            hidden_dropout_prob=self.dropout,
            recurrent_dropout_prob=self.dropout,
            activation_regularization=1.0,
        )
        model = AutoModelForCausalLM.from_config(config)
        return model.double() if self.double else model

    def dataset(self, bptt: int = 7) -> ContiguousText:
        return ContiguousText(TOKENS, self.batch * self.accumulation * self.processes, bptt, 0, self.random_bptt)

    def engine(self) -> Engine:
        torch.set_num_threads(1)
        args = self.arguments()
        args.gradient_checkpointing = self.gradient_checkpointing
        resume_from = open_run_folder(args)
        model = self.build_model()
        self._arm(model)
        first = self.steps // 2 + 1
        shapes = [(first, 7), (self.steps - first, 5)] if self.phases else [(self.steps, 7)]
        phases = [
            Phase(f"bptt {bptt}", steps, self.dataset(bptt), collate_chunks, self.batch, carries=RecurrentCache)
            for steps, bptt in shapes
        ]
        return Engine(
            model, args, phases, count_items=self.count_items, evaluate=self.evaluate, resume_from=resume_from
        )

    def count_items(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        return {"num_items_in_batch": batch["shift_labels"].numel()}

    def evaluate(self, engine: Engine) -> dict[str, float]:
        torch.rand(3)  # as the other toy: an evaluation that draws random numbers must not change training
        ids = torch.from_numpy(TOKENS[:20].astype(np.int64))[None]
        return {"loss": engine.model(ids, labels=ids).loss.item()}


def last_checkpoint(folder: str | Path) -> Path:
    """The newest checkpoint of a run."""
    return sorted(Path(folder).glob("checkpoint-*"))[-1]
