"""Style transfer on images of 16 px with a network of two layers."""

import pytest
import torch
from torch import nn

from novum.core.errors import InputError
from novum.datamodules import StyleImageDataModule
from novum.lightning_modules import StyleTransfer
from novum.lightning_modules.style_transfer.style_losses import (
    Content,
    GramStyle,
    Region,
    Statistics,
    TotalVariation,
    WassersteinStyle,
    blend,
    places,
    statistics,
)
from novum.lightning_modules.style_transfer.style_scales import enlarge_state, with_colours_of
from tests.tiny import states_equal, tiny_trainer


class TinyBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shallow, self.deep = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, padding=1)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.requires_grad_(False)

    def activations(self, images, layers):
        x = torch.relu(self.shallow(images))
        return {"shallow": x, "deep": torch.relu(self.deep(x))}


def module(**settings) -> StyleTransfer:
    defaults = dict(min_scale=8, steps=3, initial_steps=4)
    return StyleTransfer(TinyBackbone(), ["deep"], ["shallow", "deep"], **{**defaults, **settings})


def data(**settings) -> StyleImageDataModule:
    defaults = dict(contents=["china.jpg"], styles=["flower.jpg"], size=16)
    return StyleImageDataModule(**{**defaults, **settings})


def fit(tmp_path, model, images, **settings):
    trainer = tiny_trainer(tmp_path, max_steps=-1, **settings)
    trainer.fit(model, images)
    return trainer


def objective_of(model: StyleTransfer) -> float:
    with torch.no_grad():
        return float(sum(term.sum() for term in model.terms(model.average).values()))


def test_goes_through_its_scales_and_comes_down(tmp_path):
    model, images = module(steps=20, initial_steps=30), data()
    trainer = fit(tmp_path, model, images)
    assert model.scales((11, 16)) == [(5, 8), (8, 11), (11, 16)]
    assert trainer.global_step == model.total_steps == 70
    assert model.image.shape == (1, 3, 11, 16)
    with torch.no_grad():
        start = float(sum(t.sum() for t in model.terms(model.contents).values()))
    assert objective_of(model) < 0.7 * start
    assert model.sample(1).shape == (1, 3, 11, 16)


def test_the_same_bit_for_bit(tmp_path):
    results = []
    for _ in range(2):
        model = module(init="uniform", seed=3)
        fit(tmp_path, model, data())
        results.append(model.average)
    assert torch.equal(*results)


@pytest.mark.parametrize("init", ["content", "gray", "uniform", "normal", "style_mean"])
def test_each_start(tmp_path, init):
    model = module(init=init, steps=1, initial_steps=1, min_scale=16)
    fit(tmp_path, model, data())
    assert model.average.isfinite().all()


def test_lbfgs_reaches_less_than_its_start(tmp_path):
    model = module(
        optimizer=lambda p: torch.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"), steps=6
    )
    fit(tmp_path, model, data())
    with torch.no_grad():
        start = float(sum(t.sum() for t in model.terms(model.contents).values()))
    assert objective_of(model) < start


def test_pairs_at_once_are_the_same_as_one_by_one(tmp_path):
    pairs = [("china.jpg", "flower.jpg"), ("flower.jpg", "china.jpg")]
    together = module()
    fit(tmp_path, together, data(contents=[c for c, _ in pairs], styles=[s for _, s in pairs]))
    for i, (content, style) in enumerate(pairs):
        alone = module()
        fit(tmp_path, alone, data(contents=[content], styles=[style]))
        torch.testing.assert_close(together.average[i], alone.average[0], atol=2e-3, rtol=0)


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    whole = module()
    fit(tmp_path, whole, data())
    first = module()
    trainer = tiny_trainer(tmp_path, max_steps=6)
    trainer.fit(first, data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = module()
    tiny_trainer(tmp_path, max_steps=-1).fit(resumed, data(), ckpt_path=tmp_path / "half.ckpt")
    own = ("image", "average")
    assert states_equal(*({k: m.state_dict()[k] for k in own} for m in (whole, resumed)))


def test_original_colours():
    torch.manual_seed(0)
    content = torch.rand(1, 3, 4, 4) * 0.2 + 0.4
    images = (content + 0.1 * torch.rand(1, 1, 4, 4)).clamp(0, 1)  # brighter, the same hues
    torch.testing.assert_close(with_colours_of(content, images), images)


# -- losses ------------------------------------------------------------------------------------


def whole() -> Region:
    return Region(torch.ones(1, 1, 6, 6))


@pytest.mark.parametrize("loss", [WassersteinStyle, GramStyle])
def test_a_style_does_not_mind_where_things_are(loss):
    torch.manual_seed(0)
    x = torch.rand(1, 5, 6, 6)
    target = statistics(x, whole().shares(x))
    order = torch.randperm(36)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    assert loss(target, whole())(shuffled).item() < 1e-4
    assert loss(target, whole())(x * 1.5).item() > 1e-2


def test_gram_is_the_published_matrix():
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 5, 6, 6)
    gram = [places(z)[0].T @ places(z)[0] / 36 for z in (x, y)]
    loss = GramStyle(statistics(y, whole().shares(y)), whole(), relative=False)
    torch.testing.assert_close(loss(x)[0], (gram[0] - gram[1]).square().mean())
    layer = (36 * (gram[0] - gram[1])).square().sum() / (4 * 5**2 * 36**2)  # E_l of Gatys et al.
    torch.testing.assert_close(loss(x)[0], 4 * layer)


def test_a_region_sees_its_own_part_alone():
    torch.manual_seed(0)
    x = torch.rand(1, 5, 6, 6)
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., :3] = 1
    target = statistics(x, Region(mask).shares(x))
    elsewhere = torch.cat([x[..., :3], torch.rand(1, 5, 6, 3)], 3)
    for loss in (WassersteinStyle, GramStyle):
        assert loss(target, Region(mask))(elsewhere).item() < 1e-3


def test_content_and_variation():
    x = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(Content(x)(x * 2), torch.ones(2))
    half_the_sum = 0.5 * x.square().sum((1, 2, 3))  # of Gatys et al.
    torch.testing.assert_close(Content(x, relative=False)(x * 2), 2 / x[0].numel() * half_the_sum)
    assert TotalVariation()(torch.full((1, 3, 5, 5), 0.3)).item() == 0
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    # 12 of 16 pixels have a right neighbour 1 away; of the 25 diagonals either way 15 differ by 1
    expected = 2 / 3 * 12 / 16 + 2 * 15 / 25 / 6
    torch.testing.assert_close(TotalVariation()(ramp), torch.tensor([expected]))


def test_a_blend_is_the_weighted_mean():
    a, b = (Statistics(torch.full((1, 2), v), torch.full((1, 2, 2), v)) for v in (1.0, 3.0))
    mixed = blend([a, b], [0.75, 0.25])
    assert mixed.mean.tolist() == [[1.5, 1.5]] and mixed.covariance.unique().item() == 1.5


def test_moments_of_adam_grow_with_the_image():
    p = nn.Parameter(torch.zeros(1, 3, 4, 4))
    optimizer = torch.optim.Adam([p])
    p.grad = torch.ones_like(p)
    optimizer.step()
    enlarge_state(optimizer, (6, 5))
    state = optimizer.state[p]
    assert state["exp_avg"].shape == state["exp_avg_sq"].shape == (1, 3, 6, 5)
    assert (state["exp_avg_sq"] > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"style_weights": [1.0]}, "1.0. for 2 style_layers"),
        ({"style_weights": [0.0, 0.0]}, "not all 0"),
        ({"scale_factor": 1.0}, "scale_factor is 1.0"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        module(**settings)


def test_a_scale_that_does_not_fit_is_refused_before_the_first_step(tmp_path, free_memory):
    whole = data()
    free_memory(10**9)
    fit(tmp_path, module(), whole)
    free_memory(10_000)
    with pytest.raises(
        InputError, match=r"1 x 16 x 11 px takes about .* GB.*--data.size (\d+)"
    ) as e:
        fit(tmp_path, module(), whole)
    size = int(str(e.value).rsplit(" ", 1)[1])
    assert 0 < size < 16
    free_memory(10**9)
    smaller = data(size=size)
    free_memory(10_000)
    fit(tmp_path, module(min_scale=4), smaller)  # what it says fits
