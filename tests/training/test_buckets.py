"""Translation through the engine: micro-batches of similar length, and a resumed run like one that went through."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from hf_seqmodels.data.dates import date_pairs
from hf_seqmodels.data.translation import TranslationCollator, TranslationDataset
from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration
from hf_seqmodels.training import Engine, EngineArguments, Phase, open_run_folder
from tests.training.toy import remains

BUDGET = 400
STEPS = 6
WINDOW = 50


def _count(batch: dict[str, Any]) -> dict[str, int]:
    return {"num_items_in_batch": int((batch["labels"] != -100).sum())}


def _train(folder: Path, workers: int = 0) -> list[int]:
    """Trains to the end; the padded size of each micro-batch."""
    torch.set_num_threads(1)
    pairs = date_pairs(100, seed=0)
    tokenizer = train_characters([*pairs["source"], *pairs["target"]])
    args = EngineArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        gradient_accumulation_steps=2,
        save_steps=3,
        save_total_limit=None,
        dataloader_num_workers=workers,
        resume_from_checkpoint="auto",
        disable_tqdm=True,
    )
    resume_from = open_run_folder(args)
    torch.manual_seed(0)
    config = VanillaTransformerConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = VanillaTransformerForConditionalGeneration(config)
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, batch: sizes.append(batch["input_ids"].numel() + batch["labels"].numel()), with_kwargs=True
    )
    phase = Phase(
        "dates",
        STEPS,
        TranslationDataset(pairs, tokenizer, 64, 16),
        TranslationCollator(tokenizer.pad_token_id),
        batch_size=1,
        token_budget=BUDGET,
        bucket_window=WINDOW,
    )
    Engine(model, args, [phase], count_items=_count, resume_from=resume_from).train()
    return sizes


def test_resumed_in_the_middle_of_a_window(tmp_path: Path) -> None:
    sizes = _train(tmp_path / "whole")
    assert len(sizes) == 2 * STEPS and max(sizes) <= BUDGET
    (checkpoint,) = (tmp_path / "whole").glob("checkpoint-*3")
    cursor = json.loads((checkpoint / "training_state.json").read_text())["cursor"]
    assert cursor["position"] % WINDOW != 0
    shutil.copytree(checkpoint, tmp_path / "broken" / checkpoint.name)
    assert _train(tmp_path / "broken", workers=2) == sizes[STEPS:]
    assert remains(tmp_path / "broken") == remains(tmp_path / "whole")
