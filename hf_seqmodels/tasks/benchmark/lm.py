"""Language models: training against a torch.nn loop, decoding against transformers' GPT-2, growth with length."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.tasks.benchmark.measure import Contender, Step, Timing, compare, table, time_interleaved
from hf_seqmodels.training.flops import measure_gemm_rate, recurrent_flops

TASKS = ("train", "decode", "lengths")
LENGTHS = (1024, 4096, 16384, 65536)

# Sizes of GPT-2 that ours is matched to; its width is that of our embeddings.
_GPT2_LAYERS, _GPT2_HEAD = 6, 64
# Tokens of a decoding step: enough to hide the clock, too few to lengthen the context much.
_DECODED = 16


@dataclass(frozen=True)
class LMCase:
    """One comparison.

    Args:
        task: one of `TASKS`.
        model_type: rnn, lstm or gru.
        vocab: entries of the vocabulary.
        hidden: units of a layer; embeddings are as wide.
        layers: recurrent layers.
        batch: rows.
        length: tokens of a training chunk, or of the context to decode at.
        dtype: "float32" or "bfloat16" (autocast when training, weights when decoding), for all contenders.
        device: "cpu" or "cuda".
    """

    task: str
    model_type: str
    vocab: int
    hidden: int
    layers: int
    batch: int
    length: int
    dtype: str
    device: str

    def config(self, **overrides: Any) -> PreTrainedConfig:
        """Ours, untied as a plain loop is."""
        fields: dict[str, Any] = {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "tie_word_embeddings": False,
            **overrides,
        }
        return AutoConfig.for_model(self.model_type, **fields)

    @property
    def adaptive_cutoffs(self) -> list[int]:
        """Where clusters begin: after a fifteenth and a third of the vocabulary, as in Grave et al. 2017."""
        return [self.vocab // 15, self.vocab // 3]

    @property
    def recurrent_flops(self) -> int:
        """FLOPs of the fused recurrent layers, forward and backward, which PyTorch's counter does not see.

        Of its CPU kernels only the LSTM's are fused.
        """
        if self.device == "cpu" and self.model_type != "lstm":
            return 0
        return 3 * recurrent_flops(self.model_type, self.hidden, self.layers) * self.batch * self.length


class PlainLoopModel(nn.Module):
    """What a user writes without us: embedding, recurrent layers, linear layer, full softmax."""

    def __init__(self, case: LMCase):
        super().__init__()
        recurrent = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[case.model_type]
        self.embedding = nn.Embedding(case.vocab, case.hidden)
        self.recurrent = recurrent(case.hidden, case.hidden, case.layers, batch_first=True)
        self.output = nn.Linear(case.hidden, case.vocab)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Loss of `(batch, seq_len)` ids and targets after `state`, and the state after them."""
        outputs, state = self.recurrent(self.embedding(ids), state)
        logits = self.output(outputs)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), state


def _plain_step(case: LMCase) -> Step:
    model = PlainLoopModel(case).to(case.device).train()
    state: Any = None

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal state
        value, after = model(ids, targets, state)
        state = tuple(part.detach() for part in after) if isinstance(after, tuple) else after.detach()
        return value

    return _training_step(model, case, loss)


def _our_step(case: LMCase, softmax: str) -> Step:
    cutoffs = case.adaptive_cutoffs if softmax == "adaptive" else None
    model = AutoModelForCausalLM.from_config(case.config(softmax=softmax, adaptive_cutoffs=cutoffs))
    model = model.to(case.device).train()
    state: Any = None

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal state
        outputs = model(ids, shift_labels=targets, past_key_values=state)
        state = outputs.past_key_values.detach()
        return outputs.loss

    return _training_step(model, case, loss)


def _training_step(model: nn.Module, case: LMCase, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Step:
    """Forward, backward and AdamW on one chunk, the state carried from step to step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    # Frequencies by Zipf's law: an adaptive softmax is as fast as its clusters are rare.
    weights = 1 / torch.arange(1, case.vocab + 1).float()
    tokens = torch.multinomial(weights, case.batch * (case.length + 1), replacement=True, generator=generator)
    tokens = tokens.view(case.batch, -1).to(case.device)
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step() -> None:
        with torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            value = loss(ids, targets)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def train(case: LMCase, rounds: int, memory: bool, clock: Callable[[], float]) -> dict[str, Any]:
    """Training tokens a second, ours with each softmax against the plain loop."""
    field = [Contender("torch.nn loop", functools.partial(_plain_step, case), True, case.recurrent_flops)]
    # Nor does it see the product that adds up the chunked softmax's weight gradient in place.
    in_place = 2 * case.vocab * case.hidden * case.batch * case.length if case.dtype == "float32" else 0
    unseen = {"full": 0, "chunked": in_place, "adaptive": 0}
    for softmax, flops in unseen.items():
        step = functools.partial(_our_step, case, softmax)
        field.append(Contender(f"ours, {softmax}", step, False, case.recurrent_flops + flops))
    gemm_rate = measure_gemm_rate(getattr(torch, case.dtype), torch.device(case.device))
    return {"gemm_rate": gemm_rate, "rows": compare(field, rounds, gemm_rate, memory, clock)}


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def build_matched(case: LMCase) -> tuple[PreTrainedModel, PreTrainedModel]:
    """GPT-2 with embeddings of `case.hidden`, and ours with tied ones as wide and as many parameters."""
    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=case.vocab,
            n_embd=case.hidden,
            n_layer=_GPT2_LAYERS,
            n_head=max(1, case.hidden // _GPT2_HEAD),
            n_positions=case.length + 2 * _DECODED,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    low, high = 1, 64 * case.hidden
    while high - low > 1:
        middle = (low + high) // 2
        with torch.device("meta"):
            candidate = AutoModelForCausalLM.from_config(_matched_config(case, middle))
        low, high = (middle, high) if _parameters(candidate) <= _parameters(peer) else (low, middle)
    ours = AutoModelForCausalLM.from_config(_matched_config(case, low))
    for model in (peer, ours):
        nn.Module.to(model, device=case.device, dtype=getattr(torch, case.dtype)).eval()
    return peer, ours


def _matched_config(case: LMCase, hidden: int) -> PreTrainedConfig:
    return case.config(hidden_size=hidden, embedding_size=case.hidden, tie_word_embeddings=True)


@torch.inference_mode()
def _decoder(model: PreTrainedModel, case: LMCase, length: int) -> tuple[Step, Any]:
    """A step that decodes `_DECODED` tokens after a context of `length`, and the cache after that context."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(0, case.vocab, (case.batch, length), generator=generator).to(case.device)
    outputs = model(context, use_cache=True, logits_to_keep=1)
    cache, first = outputs.past_key_values, outputs.logits[:, -1:].argmax(-1)

    @torch.inference_mode()
    def step() -> None:
        token = first
        for _ in range(_DECODED):
            token = model(token, past_key_values=cache, use_cache=True).logits.argmax(-1)
        if hasattr(cache.layers[0], "keys") and cache.layers[0].keys is not None:
            cache.crop(-_DECODED)

    return step, cache


def _cache_bytes(cache: Any) -> int:
    """Bytes of the tensors in a cache: states, or keys and values."""
    found = (value for layer in cache.layers for value in vars(layer).values() if isinstance(value, torch.Tensor))
    return sum(value.numel() * value.element_size() for value in found)


def decode(case: LMCase, rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Decoded tokens a second after a context of `case.length`, and the bytes of the cache."""
    steps: dict[str, Step] = {}
    rows: list[dict[str, Any]] = []
    for name, model in zip(("transformers GPT-2", f"ours, {case.model_type}"), build_matched(case)):
        steps[name], cache = _decoder(model, case, case.length)
        rows.append({"name": name, "parameters": _parameters(model), "cache_bytes": _cache_bytes(cache)})
    return _with_rates(rows, time_interleaved(steps, rounds, clock=clock), case)


def lengths(case: LMCase, rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Ours after contexts of `LENGTHS` tokens: tokens a second and bytes of the cache, which must not depend on it."""
    model = AutoModelForCausalLM.from_config(case.config()).to(case.device, getattr(torch, case.dtype)).eval()
    steps: dict[str, Step] = {}
    rows: list[dict[str, Any]] = []
    for length in LENGTHS:
        name = f"{length} tokens"
        started = time.perf_counter()
        steps[name], cache = _decoder(model, case, length)
        prefill = (time.perf_counter() - started) / length
        rows.append({"name": name, "prefill_seconds": prefill, "cache_bytes": _cache_bytes(cache)})
    return _with_rates(rows, time_interleaved(steps, rounds, clock=clock), case)


def _with_rates(rows: list[dict[str, Any]], timings: dict[str, Timing], case: LMCase) -> list[dict[str, Any]]:
    """Seconds and spread for each decoded token of a row, and the speed against the first."""
    for row in rows:
        timing = timings[row["name"]]
        row["seconds"], row["spread"] = timing.median / _DECODED, timing.spread / _DECODED
        row["tokens_per_second"] = case.batch / row["seconds"]
        row["speed_ratio"] = rows[0]["seconds"] / row["seconds"]
    return rows


def run(case: LMCase, rounds: int, memory: bool, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Measures one case: what `report` prints."""
    if case.task == "train":
        return train(case, rounds, memory, clock)
    return {"rows": (decode if case.task == "decode" else lengths)(case, rounds, clock)}


def report(case: LMCase, result: dict[str, Any]) -> str:
    """The result as a table (Markdown)."""
    title = (
        f"{case.model_type} language model, {case.task}: vocabulary {case.vocab}, {case.layers} × {case.hidden}, "
        f"batch {case.batch}, length {case.length}, {case.dtype}, {case.device}, {torch.get_num_threads()} threads"
    )
    if case.task == "train":
        title += f"; GEMM rate {result['gemm_rate'] / 1e9:.0f} GFLOP/s"
        return "\n".join([title, "", *table(result["rows"], "tokens", case.batch * case.length)])
    lines = ["| | ms/token (± half IQR) | tokens/s | cache KiB | speed |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        name = f"{row['name']}, {row['parameters'] / 1e6:.1f}M" if "parameters" in row else row["name"]
        lines.append(
            f"| {name} | {row['seconds'] * 1e3:.2f} ± {row['spread'] * 1e3:.2f} | {row['tokens_per_second']:.0f} | "
            f"{row['cache_bytes'] / 1024:.0f} | {row['speed_ratio']:.2f}× |"
        )
    return "\n".join([title, "", *lines])
