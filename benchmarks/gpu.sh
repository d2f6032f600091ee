#!/bin/bash
# What a GPU brings: benchmarks/gpu.sh [MINUTES] [OPTIONS of the training]
#
# Runs the tests marked gpu, times PhysMol beside fairchem's models, and trains the recommended
# config on all of QM9 for MINUTES (10). Called again, it goes on with that training, which ends
# after 75 minutes (--optim.max_seconds); then, and after each call, it judges the best weights.
# All it writes is in runs/gpu and data/qm9.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
minutes=${1:-10}
shift || true
$python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("error: PyTorch sees no GPU")'

$python -m pytest -m gpu
mkdir -p runs/gpu
$python benchmarks/speed.py --device cuda --json runs/gpu/speed.json

test -d data/qm9/test || $python -m ocp_physmol data qm9 --output data/qm9
timeout --signal=INT "${minutes}m" $python main.py --mode train \
    --config-yml configs/qm9/recommended.yml --run-dir runs/gpu --timestamp-id run \
    --dataset.{train.src=data/qm9/train,val.src=data/qm9/val,test=None} \
    --optim.batch_size=128 --optim.eval_batch_size=512 --optim.max_seconds=4500 \
    --optim.checkpoint_every=500 "$@" || test $? = 124
$python -m ocp_physmol recover --gpu --data data/qm9/test --batch-size 512 --output runs/gpu/recovery \
    --checkpoint runs/gpu/checkpoints/run/best_checkpoint.pt
