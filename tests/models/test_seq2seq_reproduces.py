"""An overfitted toy corpus is reproduced by generate(), after a round trip through a folder: one story of tokens."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

import hf_seqmodels

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
RECURRENT = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 1}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "seq2seq": ("Seq2Seq", RECURRENT),
    "attention": ("AttentionSeq2Seq", RECURRENT),
    "input feeding": ("AttentionSeq2Seq", {**RECURRENT, "input_feeding": True, "cell_type": "gru"}),
    "transformer": (
        "VanillaTransformer",
        {
            "vocab_size": 20,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "dropout": 0.0,
        },
    ),
}
# Targets of several lengths, two of which begin alike; sources and targets end in </s>.
PAIRS = [
    ([4, 5, 6, 2], [10, 11, 2]),
    ([4, 5, 2], [10, 11, 12, 13, 14, 2]),
    ([7, 8, 9, 4, 2], [15, 15, 16, 2]),
    ([6, 2], [17, 2]),
    ([9, 9, 9, 2], [18, 18, 18, 18, 2]),
]


def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("name", MODELS)
def test_generate_says_what_was_learnt(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    kind, fields = MODELS[name]
    config = getattr(hf_seqmodels, f"{kind}Config")(**fields, **SPECIAL)
    model = getattr(hf_seqmodels, f"{kind}ForConditionalGeneration")(config)
    source = padded([source for source, _ in PAIRS], 0)
    mask = (source != 0).long()
    labels = padded([target for _, target in PAIRS], -100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2 if kind != "VanillaTransformer" else 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model(source, mask, labels=labels).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    saved = GenerationConfig.from_pretrained(tmp_path)
    for name_, value in SPECIAL.items():
        assert (
            getattr(again.config, name_) == getattr(again.generation_config, name_) == getattr(saved, name_) == value
        )
    for beams in (1, 5):
        sequences = again.generate(input_ids=source, attention_mask=mask, num_beams=beams, max_new_tokens=9)
        assert (sequences[:, 0] == 1).all()
        said = [row[1 : row.index(2) + 1] for row in sequences.tolist()]
        assert said == [target for _, target in PAIRS]
        # transformers' beam search fills up with </s> where the padding token's id is 0
        assert all(set(row[len(target) + 1 :]) <= {0, 2} for row, (_, target) in zip(sequences.tolist(), PAIRS))
