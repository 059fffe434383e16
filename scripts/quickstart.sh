#!/usr/bin/env bash
# From nothing to a pretrained BERT in about five minutes on two cores: makes .venv, installs the package, pretrains a
# small SeqBert (MLM + NSP) through accelerate on text that comes with Python, fine-tunes it, and shows both.
#
#   bash scripts/quickstart.sh            results go to runs/quickstart
#   bash scripts/quickstart.sh my/folder  or there; run again after an interruption, it goes on where it stopped
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
ensure_environment
out="${1:-runs/quickstart}"
bin="$(dirname "$VENV_PYTHON")"

echo "== 1/3 pretraining SeqBert on CPython's language reference"
"$bin/accelerate" launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    --num_cpu_threads_per_process "$("$VENV_PYTHON" -c 'import os; print(os.cpu_count())')" \
    scripts/pretrain_bert.py --recipe scripts/recipes/bert_quickstart.yaml \
    --output_dir "$out/bert" --resume_from_checkpoint auto

echo "== 2/3 the pretrained model at work"
"$VENV_PYTHON" scripts/show_bert.py --model "$out/bert"

echo "== 3/3 fine-tuning it: which kind of thing does a docstring describe?"
"$VENV_PYTHON" scripts/finetune_text.py --recipe scripts/recipes/finetune_quickstart.yaml \
    --model_name_or_path "$out/bert" --output_dir "$out/docstrings"

echo
echo "Pretrained model:  $out/bert        AutoModelForPreTraining.from_pretrained(\"$out/bert\")"
echo "Fine-tuned model:  $out/docstrings  pipeline(\"text-classification\", model=\"$out/docstrings\")"
