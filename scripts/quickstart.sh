#!/usr/bin/env bash
# From nothing to a trained ViT, a translator and a pretrained BERT in some minutes on two cores: makes .venv, installs
# the package, trains a small SeqViT on digits, an attention model that translates dates, and a small SeqBert (MLM + NSP),
# all through accelerate and on data that comes with Python and the libraries, fine-tunes the SeqBert, and shows all.
#
#   bash scripts/quickstart.sh            results go to runs/quickstart
#   bash scripts/quickstart.sh my/folder  or there; run again after an interruption, it goes on where it stopped
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
ensure_environment
out="${1:-runs/quickstart}"
bin="$(dirname "$VENV_PYTHON")"

launch() {
    "$bin/accelerate" launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
        --num_cpu_threads_per_process "$("$VENV_PYTHON" -c 'import os; print(os.cpu_count())')" "$@"
}

echo "== 1/7 training SeqViT on scikit-learn's digits"
launch scripts/pretrain_vit.py --recipe scripts/recipes/vit_digits.yaml \
    --output_dir "$out/vit" --resume_from_checkpoint auto

echo "== 2/7 the trained SeqViT at work"
"$VENV_PYTHON" scripts/show_vit.py --model "$out/vit"

echo "== 3/7 training AttentionSeq2Seq to translate dates of many languages"
launch scripts/train_translation.py --recipe scripts/recipes/dates_attention.yaml \
    --output_dir "$out/dates" --resume_from_checkpoint auto

echo "== 4/7 the trained translator at work"
"$VENV_PYTHON" scripts/show_translation.py --model "$out/dates"

echo "== 5/7 pretraining SeqBert on CPython's language reference"
launch scripts/pretrain_bert.py --recipe scripts/recipes/bert_quickstart.yaml \
    --output_dir "$out/bert" --resume_from_checkpoint auto

echo "== 6/7 the pretrained SeqBert at work"
"$VENV_PYTHON" scripts/show_bert.py --model "$out/bert"

echo "== 7/7 fine-tuning it: which kind of thing does a docstring describe?"
"$VENV_PYTHON" scripts/finetune_text.py --recipe scripts/recipes/finetune_quickstart.yaml \
    --model_name_or_path "$out/bert" --output_dir "$out/docstrings"

echo
echo "Image classifier:  $out/vit         pipeline(\"image-classification\", model=\"$out/vit\")"
echo "Translator:        $out/dates       AutoModelForSeq2SeqLM.from_pretrained(\"$out/dates\")"
echo "Pretrained model:  $out/bert        AutoModelForPreTraining.from_pretrained(\"$out/bert\")"
echo "Fine-tuned model:  $out/docstrings  pipeline(\"text-classification\", model=\"$out/docstrings\")"
