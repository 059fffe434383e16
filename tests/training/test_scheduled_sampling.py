"""Scheduled sampling's curves, and that a Trainer follows them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_seqmodels.data.translation import TranslationCollator
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig
from hf_seqmodels.models.modeling_seq2seq import AttentionSeq2SeqForConditionalGeneration
from hf_seqmodels.training.scheduled_sampling import (
    ScheduledSamplingCallback,
    build_sampling_schedule,
    inverse_sigmoid,
)


def test_curves() -> None:
    assert [build_sampling_schedule("constant", 1, 0.7)(step) for step in (1, 999)] == [0.7, 0.7]
    falling = build_sampling_schedule("linear", 100, 0.2)
    assert [falling(step) for step in (0, 50, 100, 200)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    k = 30.0
    for step in (1, 50, 200):
        assert inverse_sigmoid(step, k) == pytest.approx(k / (k + math.exp(step / k)))
    assert inverse_sigmoid(round(k * math.log(k)), k) == pytest.approx(0.5, abs=0.01)
    assert build_sampling_schedule("inverse_sigmoid", 2.0, 0.1)(10**6) == 0.1  # exp would overflow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 1, 0.5), "scheduled_sampling='cosine'"),
        (("linear", 0, 0.5), r"sampling_decay_steps=0 must be above 0"),
        (("inverse_sigmoid", 1, 0.5), r"must be above 1 for inverse_sigmoid"),
        (("linear", 1, 1.5), r"min_teacher_forcing=1.5 must lie in \[0, 1\]"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_sampling_schedule(*arguments)


def test_a_trainer_follows_the_schedule(tmp_path: Path) -> None:
    """Once for each optimiser step, whatever the accumulation."""
    seen: list[float] = []

    class Watched(AttentionSeq2SeqForConditionalGeneration):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(self.teacher_forcing_ratio)
            return super().forward(*args, **kwargs)

    torch.manual_seed(0)
    config = AttentionSeq2SeqConfig(vocab_size=12, hidden_size=8, bos_token_id=1, eos_token_id=2)
    config.decoder_start_token_id = 1
    trainer = Seq2SeqTrainer(
        Watched(config),
        Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=[{"input_ids": [5, 6, 2], "labels": [7, 2]}] * 8,
        data_collator=TranslationCollator(0),
        callbacks=[ScheduledSamplingCallback(build_sampling_schedule("linear", 4, 0.0))],
    )
    trainer.train()
    assert seen == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
