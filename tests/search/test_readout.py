"""A classifier of its own for every child: what it gains, what it cannot see, and when it stays as it is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.search.helpers import SPACE, problem
from torch import Tensor, nn

from singlepath.data import Batch
from singlepath.search import readout, scoring
from singlepath.search.readout import refitted_losses, refitting_images
from singlepath.search.scoring import Scorer
from singlepath.supernet import build, recalibrate

CLASSES, FEATURES = 5, 40


def classifier(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(FEATURES, CLASSES)


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(features of different scales, labels that a linear classifier of them could know almost always)."""
    g = torch.Generator().manual_seed(seed)
    plain = torch.randn(count, FEATURES, generator=g).abs()
    truth = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(9))
    return plain * torch.logspace(-2, 1, FEATURES), (plain @ (4 * truth).T).softmax(1).multinomial(1, generator=g)[:, 0]


def test_features_that_separate_the_classes_score_well_under_any_shared_classifier() -> None:
    features, labels = images(1200)
    for seed in (0, 1):
        shared = classifier(seed)
        with torch.no_grad():
            before = F.cross_entropy(shared(features), labels)
        after = refitted_losses(features, labels, shared)
        assert after.shape == (1200,) and not after.requires_grad
        assert float(before) > 1.5 and float(after.mean()) < 0.75


def test_a_half_is_read_under_what_the_other_half_says_alone() -> None:
    features, labels = images(1200)
    chance = torch.randint(CLASSES, (1200,), generator=torch.Generator().manual_seed(3))
    assert float(refitted_losses(features, chance, classifier()).mean()) > math.log(CLASSES), "nothing was memorised"
    other = labels.clone()
    other[::2] = (labels[::2] + 1) % CLASSES  # what the odd ones are read under
    a, b = (refitted_losses(features, y, classifier()) for y in (labels, other))
    assert float((b - a)[1::2].mean()) > 1, "the odd ones' classifier was fitted to the wrong labels"


@pytest.mark.parametrize(("count", "most"), [(500, 0.6), (4000, 0.06)])
def test_a_classifier_that_is_right_already_loses_little(count: int, most: float) -> None:
    features, _ = images(count)
    shared = classifier()
    with torch.no_grad():
        logits = shared(features)
        labels = logits.softmax(1).multinomial(1, generator=torch.Generator().manual_seed(5))[:, 0]
        plain = F.cross_entropy(logits, labels)
    assert 0 < float(refitted_losses(features, labels, shared).mean() - plain) < most


def test_a_constant_added_to_a_feature_changes_nothing() -> None:
    """The shared classifier's bias takes it up; the refit must not see it either."""
    features, labels = images(1200)
    shared, moved = classifier(), classifier()
    with torch.no_grad():
        moved.bias.sub_(20 * shared.weight[:, :20].sum(1))
    far = features + 20 * (torch.arange(FEATURES) < 20)
    a, b = refitted_losses(features, labels, shared), refitted_losses(far, labels, moved)
    assert float((a - b).abs().mean()) < 0.01


def test_few_images_are_read_under_the_shared_classifier() -> None:
    shared, enough = classifier(), refitting_images(CLASSES)
    for count in (1, enough - 1, enough):
        features, labels = images(count)
        with torch.no_grad():
            plain = F.cross_entropy(shared(features), labels, reduction="none")
        assert torch.equal(refitted_losses(features, labels, shared), plain) == (count < enough)


@pytest.mark.parametrize(("count", "parts"), [(100, 1), (499, 1), (500, 1), (1100, 2), (2000, 4), (2500, 5), (2559, 5)])
def test_no_part_of_the_images_is_too_small_for_a_refit(count: int, parts: int) -> None:
    net = nn.Module()
    net.classifier = classifier()
    held_out = [Batch(part, part, part) for part in torch.arange(count).split(100)]
    scorer = Scorer(net, held_out, [])  # pyright: ignore[reportArgumentType]
    assert scorer.most_parts() == parts


def test_the_shared_classifier_stays() -> None:
    features, labels = images(600)
    shared = classifier()
    before = [p.detach().clone() for p in shared.parameters()]
    refitted_losses(features, labels, shared)
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(shared.parameters(), before, strict=True))


@pytest.mark.parametrize("memory", [scoring.MEMORY, 1])
@pytest.mark.parametrize("enough", [1, readout.IMAGES])
def test_a_childs_score_is_that_of_the_child_alone(monkeypatch: pytest.MonkeyPatch, memory: int, enough: int) -> None:
    monkeypatch.setattr(scoring, "MEMORY", memory)
    monkeypatch.setattr(readout, "IMAGES", enough)
    asked, net = problem(), build(SPACE, 0).eval()
    scorer = Scorer.of(asked, net)
    networks = [SPACE.largest(), SPACE.architecture([0] * len(SPACE.searchable))]
    scorer.score(networks)
    for a in networks:
        alone = net.extract(a)
        recalibrate(alone, scorer.calibration)
        alone.eval().classifier = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            read = [alone(batch.x) for batch in scorer.held_out]
        labels = torch.cat([b.y for b in scorer.held_out])
        expected = refitted_losses(torch.cat(read), labels, net.classifier)
        assert torch.allclose(scorer.losses[scorer.name(a)], expected, atol=1e-4)
