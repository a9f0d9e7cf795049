"""The small detector of the examples, on generated data, under a policy."""

from __future__ import annotations

from pathlib import Path

import torch

import fxbio
from fxbio.models import load_reference
from fxbio.train.data import DataConfig, EvalSampler, make_loader, open_data
from fxbio.train.tasks import TaskConfig, make_task

MODEL = Path(__file__).parent.parent / "examples" / "models" / "small_retinanet.py"


def test_it_is_transformed_trained_and_evaluated(tmp_path: Path) -> None:
    source = open_data(DataConfig(name="shapes-coco", path=tmp_path / "data"))
    task = make_task(TaskConfig(), source)
    model = load_reference(str(MODEL), {}, None, seed=0).model
    assert 450_000 < sum(p.numel() for p in model.parameters()) < 550_000
    policy = fxbio.Policy.from_yaml(
        'version: 1\ndefault: bp\nrules: [{where: {module: "backbone.**", op: conv}, rule: usf}]'
    )
    model = fxbio.transform(model, policy, task.example_inputs(source))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = task.collate([source.train[k] for k in range(4)])
    losses = []
    for _ in range(8):
        loss = task.loss(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    evaluator = task.new_evaluator(source, partial=True)
    loader = make_loader(
        source.val,
        batch_size=2,
        sampler=EvalSampler(2),
        workers=0,
        collate=task.collate_eval,
        seed=0,
    )
    model.eval()
    with torch.no_grad():
        for images in loader:
            evaluator.update(task.predict(model, images), images)
    assert evaluator.merge()["samples"] == 2
