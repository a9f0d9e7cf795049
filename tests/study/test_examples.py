from __future__ import annotations

from pathlib import Path

import pytest

from fxbio.graph.capture import capture
from fxbio.models import load_reference
from fxbio.policy.policy import Policy
from fxbio.policy.resolve import resolve
from fxbio.study.cells import make_cells
from fxbio.study.read_study import load_study

STUDIES = Path(__file__).parents[2] / "examples" / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_policy_of_every_study_fits_its_model(path: Path) -> None:
    study = load_study(path)
    loaded = load_reference(study.recipe.model.reference, study.recipe.model.args, None, seed=0)
    graph = capture(loaded.model, loaded.default_inputs)
    cells = make_cells(study, loaded.model, graph)
    assert len({cell.run for cell in cells}) > 10
    for cell in cells:
        resolve(Policy.from_yaml(cell.policy), graph)
