"""On dates the right alignment is known: an attention model that has learned them looks where a digit comes from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_seqmodels.analysis import attention_map, share_within
from hf_seqmodels.data.dates import TARGET_PLACES, date_pairs, target_origins

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_map_points_at_the_right_part_of_the_source(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train_translation.py", "--recipe", "scripts/recipes/dates_attention.yaml"]
    subprocess.run([*command, "--output_dir", str(tmp_path), "--disable_tqdm"], cwd=ROOT, check=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    shares: dict[str, list[float]] = {name: [] for name in TARGET_PLACES}
    by_chance: dict[str, list[float]] = {name: [] for name in TARGET_PLACES}
    for pair in date_pairs(60, 7, split="test"):
        found = attention_map(model, tokenizer, pair["source"], max_new_tokens=14)
        np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-6)
        if found.text != pair["target"]:
            continue
        for name in TARGET_PLACES:
            shares[name].append(share_within(found.weights, found.source_spans, target_origins(pair, name)))
            start, end = pair[f"{name}_span"]
            by_chance[name].append((end - start) / len(found.source))
    assert len(shares["year"]) >= 57
    # measured: 1.00, 0.91 and 1.00 (by chance 0.24, 0.25 and 0.10)
    for name, least in (("year", 0.95), ("month", 0.75), ("day", 0.9)):
        assert np.mean(shares[name]) > least > 2 * np.mean(by_chance[name]), name
