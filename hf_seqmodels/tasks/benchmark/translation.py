"""Translation: training and beam search against transformers' MarianMT; the attention model against its own loop.

Where CTranslate2 is installed, the search of its export takes part, too; its FLOPs are none that PyTorch counts.
"""

import functools
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import MarianConfig, MarianMTModel, PreTrainedModel, PreTrainedTokenizerFast

from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig
from hf_seqmodels.models.modeling_seq2seq import AttentionSeq2SeqForConditionalGeneration
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration
from hf_seqmodels.tasks.benchmark.measure import Contender, Step, compare, table
from hf_seqmodels.training.flops import measure_gemm_rate

TASKS = ("train", "decode", "attention")

_PAD, _BOS, _EOS = 0, 1, 2


@dataclass(frozen=True)
class TranslationCase:
    """One comparison.

    Args:
        task: `train` (a step), `decode` (beam search of a batch) or `attention` (a step of the recurrent model).
        vocab: entries of the joint vocabulary.
        width: of the model; heads are width / 64, the feed-forward network is 4 × width.
        layers: of encoder and decoder.
        batch: sentences.
        length: longest source and target; lengths are uniform from a third of it up.
        beams: of the search.
        dropout: rate while training.
        dtype: "float32" or "bfloat16" (autocast when training, weights when decoding), for all contenders.
        device: "cpu" or "cuda".
    """

    task: str
    vocab: int
    width: int
    layers: int
    batch: int
    length: int
    beams: int
    dropout: float
    dtype: str
    device: str

    def fields(self) -> dict[str, Any]:
        """What Marian's configuration and ours have in common, which is all of it."""
        fields: dict[str, Any] = {
            "vocab_size": self.vocab,
            "d_model": self.width,
            "dropout": self.dropout,
            "attention_dropout": self.dropout,
            "activation_function": "relu",
            "scale_embedding": True,
            "max_position_embeddings": 2 * self.length + 2,
            "pad_token_id": _PAD,
            "bos_token_id": _BOS,
            "eos_token_id": _EOS,
            "decoder_start_token_id": _BOS,
            "forced_eos_token_id": None,
        }
        for side in ("encoder", "decoder"):
            fields[f"{side}_layers"] = self.layers
            fields[f"{side}_attention_heads"] = max(1, self.width // 64)
            fields[f"{side}_ffn_dim"] = 4 * self.width
        return fields

    def inputs(self) -> dict[str, torch.Tensor]:
        """A padded batch, the same for all."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.length)
        sides = []
        for _ in range(2):
            lengths = torch.randint(max(1, self.length // 3), self.length + 1, (self.batch,), generator=generator)
            lengths[0] = self.length
            real = torch.arange(self.length) < lengths[:, None]
            sides.append((torch.randint(4, self.vocab, shape, generator=generator), real))
        (source, source_real), (target, target_real) = sides
        batch = {
            "input_ids": source.masked_fill(~source_real, _PAD),
            "attention_mask": source_real.long(),
            "labels": target.masked_fill(~target_real, -100),
        }
        return {name: values.to(self.device) for name, values in batch.items()}


def _marian(case: TranslationCase, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = MarianConfig(**case.fields())
    config._attn_implementation = attention
    return MarianMTModel(config)


def _ours(case: TranslationCase) -> PreTrainedModel:
    """Ours with the weights of the peer, so that both search through the same scores."""
    with tempfile.TemporaryDirectory() as folder:
        _marian(case, "eager").save_pretrained(folder)
        return VanillaTransformerForConditionalGeneration.from_pretrained(folder)


def _attention_model(case: TranslationCase) -> PreTrainedModel:
    torch.manual_seed(0)
    return AttentionSeq2SeqForConditionalGeneration(
        AttentionSeq2SeqConfig(
            vocab_size=case.vocab,
            hidden_size=case.width,
            num_hidden_layers=case.layers,
            hidden_dropout_prob=case.dropout,
            output_dropout_prob=case.dropout,
            decoder_start_token_id=_BOS,
        )
    )


def _training_step(case: TranslationCase, build: Callable[[], PreTrainedModel], **options: Any) -> Step:
    model: torch.nn.Module = build()
    model = model.to(case.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = case.inputs()

    def step() -> None:
        with torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            loss = model(**batch, **options).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _decoding_step(case: TranslationCase, build: Callable[[], PreTrainedModel]) -> Step:
    model: Any = build()
    model = model.to(case.device, getattr(torch, case.dtype)).eval()
    batch = case.inputs()
    del batch["labels"]

    @torch.inference_mode()
    def step() -> None:
        # As many tokens for all, however the search goes.
        model.generate(
            **batch,
            num_beams=case.beams,
            min_new_tokens=case.length,
            max_new_tokens=case.length,
            early_stopping=False,
        )

    return step


def _ctranslate2_step(case: TranslationCase) -> Step:
    """The same search of the same weights by CTranslate2, with as many threads."""
    import ctranslate2  # an extra, as is what imports it

    from hf_seqmodels.conversion.ctranslate2 import to_ctranslate2

    tokens = ["<pad>", "<s>", "</s>", *(str(index) for index in range(_EOS + 1, case.vocab))]
    vocabulary = models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="</s>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(vocabulary), pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="</s>"
    )
    model: Any = _ours(case)
    with tempfile.TemporaryDirectory() as folder:
        converted = to_ctranslate2(model, tokenizer, Path(folder) / "model", quantization=case.dtype)
        translator = ctranslate2.Translator(
            str(converted), device=case.device, inter_threads=1, intra_threads=torch.get_num_threads()
        )
    batch = case.inputs()
    sources = [
        [tokens[index] for index in ids[mask.bool()].tolist()]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"])
    ]

    def step() -> None:
        translator.translate_batch(
            sources, beam_size=case.beams, min_decoding_length=case.length, max_decoding_length=case.length
        )

    return step


def contenders(case: TranslationCase) -> list[Contender]:
    """Who takes part, peers first."""
    if case.task == "attention":
        build = functools.partial(_attention_model, case)
        loop = functools.partial(_training_step, case, build, stepwise=True)
        one_call = functools.partial(_training_step, case, build)
        return [Contender("step by step", loop, True), Contender("one call", one_call, False)]
    run = _training_step if case.task == "train" else _decoding_step
    field = [
        Contender(
            f"transformers MarianMT, {attention}",
            functools.partial(run, case, functools.partial(_marian, case, attention)),
            peer=True,
        )
        for attention in ("eager", "sdpa")
    ]
    if case.task == "decode" and importlib.util.find_spec("ctranslate2") is not None:
        field.append(Contender(f"CTranslate2, {case.dtype}", functools.partial(_ctranslate2_step, case), peer=False))
    return [*field, Contender("ours", functools.partial(run, case, functools.partial(_ours, case)), peer=False)]


def run(
    case: TranslationCase, rounds: int, memory: bool, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Measures one case: what `report` prints."""
    gemm_rate = measure_gemm_rate(getattr(torch, case.dtype), torch.device(case.device))
    rows = compare(contenders(case), rounds, gemm_rate, memory, clock)
    units = case.batch if case.task == "decode" else int((case.inputs()["labels"] != -100).sum())
    return {"gemm_rate": gemm_rate, "units": units, "rows": rows}


def report(case: TranslationCase, result: dict[str, Any]) -> str:
    """The result as a table (Markdown)."""
    unit = f"sentences (beam {case.beams})" if case.task == "decode" else "target tokens"
    title = (
        f"translation, {case.task}: vocabulary {case.vocab}, {case.layers} + {case.layers} × {case.width}, "
        f"{case.batch} sentences of up to {case.length} tokens, {case.dtype}, {case.device}, "
        f"{torch.get_num_threads()} threads; GEMM rate {result['gemm_rate'] / 1e9:.0f} GFLOP/s"
    )
    return "\n".join([title, "", *table(result["rows"], unit, result["units"])])
