"""Real vectors of ViT-B/32: two photographs against the texts of the 80 COCO classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecliptic.scoring import above_background, label_ranks, nonconformity


@pytest.fixture
def artefacts(shared: Path) -> Path:
    folder = shared / "artefacts"
    if not (folder / "real_vitb32" / "two_images.npz").exists():
        pytest.skip("needs shared/artefacts/real_vitb32, which is missing")
    return folder


def test_both_photographs_are_cats(artefacts: Path) -> None:
    names = json.loads((artefacts / "coco_text_vitb32" / "coco_names.json").read_text())
    texts = np.load(artefacts / "coco_text_vitb32" / "coco_clip_a+cname.npy").astype(np.float32)
    stored = np.load(artefacts / "real_vitb32" / "two_images.npz")
    key = next(k for k in stored.files if stored[k].shape[-1] == texts.shape[-1])
    images = F.normalize(torch.from_numpy(stored[key].astype(np.float32)).view(2, -1), dim=-1)
    cosines = images @ F.normalize(torch.from_numpy(texts), dim=-1).T  # (2, 80)
    names = list(names.values()) if isinstance(names, dict) else names
    cat = names.index("cat")
    assert cosines.argmax(dim=1).tolist() == [cat, cat]
    assert cosines[:, cat].tolist() == pytest.approx([0.256, 0.250], abs=2e-3)
    assert float(cosines.mean()) == pytest.approx(0.199, abs=2e-3)
    assert label_ranks(cosines, torch.tensor([cat, cat])).tolist() == [1, 1]
    p = (100 * cosines).softmax(dim=1)
    assert nonconformity(p, "aps")[:, cat].tolist() == pytest.approx(p[:, cat].tolist())
    others = torch.arange(80) != cat
    raised = above_background(cosines[:, [cat]], cosines[:, others])
    assert float(raised.min()) > 0.04, "three spreads of the classes above their mean"
