"""SeqBert's pretraining step (forward, backward, optimiser) against transformers' BertForPreTraining."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertConfig, BertForPreTraining

from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.modeling_bert_pretraining import SeqBertForPreTraining
from hf_seqmodels.tasks.benchmark.measure import Contender, Step, compare, table
from hf_seqmodels.training.flops import measure_gemm_rate
from hf_seqmodels.training.precision import MasterWeights


@dataclass(frozen=True)
class BertCase:
    """One comparison.

    Args:
        size: a preset of `SeqBertConfig`.
        seq: tokens in a row.
        batch: rows.
        dtype: "float32" or "bfloat16" (autocast for transformers; autocast and master weights for ours).
        padded: rows of uniformly random length from seq/16 to seq, padded; ours runs them unpadded.
        dropout: rate of both dropouts.
        device: "cpu" or "cuda".
    """

    size: str
    seq: int
    batch: int
    dtype: str
    padded: bool
    dropout: float
    device: str

    def config(self) -> SeqBertConfig:
        """Our configuration; transformers' is made from it."""
        return SeqBertConfig.preset(
            self.size,
            max_position_embeddings=max(512, self.seq),
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            unpad_inputs=self.padded,
        )

    def inputs(self) -> dict[str, torch.Tensor]:
        """The batch, the same for all: 15 % of the real tokens are to be predicted."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.seq)
        lengths = torch.full((self.batch,), self.seq)
        if self.padded:
            lengths = torch.randint(self.seq // 16, self.seq + 1, (self.batch,), generator=generator)
            lengths[0] = self.seq
        mask = torch.arange(self.seq) < lengths[:, None]
        input_ids = torch.randint(5, 30000, shape, generator=generator).masked_fill(~mask, 0)
        predicted = (torch.rand(shape, generator=generator) < 0.15) & mask
        batch = {
            "input_ids": input_ids,
            "attention_mask": mask.long(),
            "token_type_ids": torch.zeros_like(input_ids),
            "labels": input_ids.masked_fill(~predicted, -100),
            "next_sentence_label": torch.randint(0, 2, (self.batch,), generator=generator),
        }
        return {name: values.to(self.device) for name, values in batch.items()}


def _transformers_step(case: BertCase, attention: str) -> Step:
    ours = case.config().to_dict()
    shared = {name: ours[name] for name in BertConfig().to_dict() if name in ours and name != "model_type"}
    config = BertConfig(**{**shared, "architectures": None})
    config._attn_implementation = attention
    return _autocast_step(BertForPreTraining(config), case)


def _our_step(case: BertCase) -> Step:
    return _autocast_step(SeqBertForPreTraining(case.config()), case)


def _autocast_step(model: torch.nn.Module, case: BertCase) -> Step:
    model = model.to(case.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = case.inputs()

    def step() -> None:
        with torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _our_master_weights_step(case: BertCase) -> Step:
    model: torch.nn.Module = SeqBertForPreTraining(case.config())
    model = model.to(case.device).train()
    masters = MasterWeights(model)
    optimizer = torch.optim.AdamW(masters.parameters(), lr=1e-4, fused=True)
    batch = case.inputs()

    def step() -> None:
        model(**batch).loss.backward()
        masters.accumulate()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        masters.publish()

    return step


def contenders(case: BertCase) -> list[Contender]:
    """Who takes part, peers first."""
    found = [
        Contender(f"transformers {attention}", functools.partial(_transformers_step, case, attention), peer=True)
        for attention in ("eager", "sdpa")
    ]
    found.append(Contender("ours", functools.partial(_our_step, case), peer=False))
    if case.dtype == "bfloat16":
        found.append(Contender("ours, master weights", functools.partial(_our_master_weights_step, case), peer=False))
    return found


def run(case: BertCase, rounds: int, memory: bool) -> dict[str, Any]:
    """Measures one case.

    Returns:
        What `report` prints: tokens/s, TFLOP and fraction of the machine's GEMM rate, peak memory, and the ratios to
        the best peer.
    """
    tokens = int(case.inputs()["attention_mask"].sum())
    gemm_rate = measure_gemm_rate(getattr(torch, case.dtype), torch.device(case.device))
    rows = compare(contenders(case), rounds, gemm_rate, memory)
    return {"tokens": tokens, "fill": tokens / (case.batch * case.seq), "gemm_rate": gemm_rate, "rows": rows}


def report(case: BertCase, result: dict[str, Any]) -> str:
    """The result as a table (Markdown)."""
    lines = [
        f"SeqBert {case.size}, {case.batch} × {case.seq} tokens ({result['fill']:.0%} real), {case.dtype}, "
        f"dropout {case.dropout}, {case.device}, {torch.get_num_threads()} threads; "
        f"GEMM rate {result['gemm_rate'] / 1e9:.0f} GFLOP/s",
        "",
        *table(result["rows"], "tokens", result["tokens"]),
    ]
    return "\n".join(lines)
