"""Fixed points, optima and thresholds of linear networks: what gradient descent on our losses must reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from simlab.limits import linear
from simlab.methods import METHODS, Method
from simlab.objectives.prediction import squared_error
from simlab.training import loop
from simlab.training.pretrain import Encoders, Settings, pretrain

SETTINGS = Settings(encoder="linear", width=1, steps=500, batch=1024, learning_rate=0.02, weight_decay=0.0)


def exact(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
    """n records of p features with mean 0 and covariance exactly the identity."""
    x = rng.standard_normal((n, p))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / n).T)


def descend(depth: int, target: str, rho: list[float], covariance: float | tuple[float, ...] | None, time: float,
            start: float, rate: float = 0.1) -> np.ndarray:
    """Full-batch gradient descent of an L-layer linear encoder and a linear predictor, all layers `start` x identity;
    the encoder's modes by step. `covariance`: of the modes (None: inputs of variance 1, so that it is rho)."""
    z = torch.as_tensor(exact(np.random.default_rng(0), 64, 2 * len(rho)))[None]
    r = torch.tensor(rho, dtype=torch.float64)
    x = z[:, :, : len(rho)] * (1.0 if covariance is None else torch.sqrt(torch.tensor(covariance) / r))
    y = r * x + torch.sqrt(1 - r**2) * z[:, :, len(rho) :]
    layers = [(torch.eye(len(rho), dtype=torch.float64) * start)[None].requires_grad_() for _ in range(depth + 1)]
    path = []
    for _ in range(round(time / rate)):
        product = layers[0]
        for w in layers[1:-1]:
            product = product @ w
        goal = y if target == "input" else (y @ product).detach()
        loss = squared_error(x @ product @ layers[-1], goal).sum() * len(rho) / 2
        for w, g in zip(layers, torch.autograd.grad(loss, layers), strict=True):
            w.data -= rate * g
        path.append(torch.diagonal(product[0].detach()).numpy().copy())
    modes = torch.diagonal(product[0].detach())
    assert float((product[0].detach() - torch.diag(modes)).abs().max()) < 1e-6  # modes stay apart
    return np.array(path)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_linear_fixed_points(depth: int) -> None:
    """w* = rho^L under latent prediction, rho^(L/(L+1)) under reconstruction, to four digits."""
    rho = [0.9, 0.6]
    latent = descend(depth, "latent", rho, None, 900 if depth == 3 else 150, 0.4)[-1]
    pixels = descend(depth, "input", rho, None, 60, 0.4)[-1]
    np.testing.assert_allclose(latent, [linear.jepa_fixed_point(r, depth) for r in rho], atol=1e-4)
    np.testing.assert_allclose(pixels, [linear.reconstruction_fixed_point(r, depth) for r in rho], atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "covariance", "start", "time", "expected"),
    [(1, (0.3, 0.6), 0.02, 500, [1, 0]), (2, 0.5, 0.1, 1100, [0, 1]), (3, 0.5, 0.25, 1500, [0, 1])],
)
def test_latent_prediction_learns_modes_in_the_predicted_order(
    depth: int, covariance: float | tuple[float, ...], start: float, time: float, expected: list[int]
) -> None:
    """Times at which modes (rho .9, .6) reach half their end: in the predicted order, within 10 % of the prediction.
    One layer: rho does not enter, the larger covariance comes first though it is less predictable; deeper, at equal
    covariances, the more predictable one, and by more the deeper (ratio of the times 1.1 and 1.4)."""
    rho = [0.9, 0.6]
    each = np.broadcast_to(covariance, 2)
    path = descend(depth, "latent", rho, covariance, time, start, 0.4)
    reached = np.array([np.argmax(path[:, i] > linear.jepa_fixed_point(r, depth) / 2) * 0.4 for i, r in enumerate(rho)])
    times = np.array([linear.jepa_time(lam, r, depth, start) for lam, r in zip(each, rho, strict=True)])
    assert np.argsort(reached).tolist() == np.argsort(times).tolist() == expected
    np.testing.assert_allclose(reached, times, rtol=0.1)


@pytest.mark.parametrize(("depth", "start", "time"), [(2, 0.02, 160), (3, 0.05, 600)])
def test_reconstruction_learns_modes_of_equal_covariance_together(depth: int, start: float, time: float) -> None:
    """However predictable: when both reach half of the lesser's end (5 %), and near the predicted time (15 %)."""
    path = descend(depth, "input", [0.9, 0.6], 0.5, time, start)
    level = linear.reconstruction_fixed_point(0.6, depth) / 2
    together = [np.argmax(path[:, i] > level) * 0.1 for i in range(2)]
    assert together[0] == pytest.approx(together[1], rel=0.05)
    assert together[0] == pytest.approx(linear.reconstruction_time(0.5, depth, start), rel=0.15)


def test_weight_decay_collapses_a_self_predicting_network_at_its_threshold() -> None:
    """The training loop on a scalar encoder and predictor, view noise .5, stop-gradient target: alive below
    1/(4 (1 + noise)), dead above; four decays as one fleet. Adam moves both alike, so the network stays balanced."""
    noise, shares = 0.5, (0.5, 0.95, 1.05, 1.5)
    decay = torch.tensor(shares) / (4 * (1 + noise))
    z = torch.as_tensor(exact(np.random.default_rng(1), 64, 3), dtype=torch.float32)[None].expand(4, -1, -1)
    one, two = (z[:, :, :1] + noise**0.5 * z[:, :, i : i + 1] for i in (1, 2))
    parameters = {name: torch.ones(4, 1, 1) for name in ("encoder", "predictor")}

    def loss(now: dict[str, torch.Tensor], batch: object, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        w, p = now["encoder"], now["predictor"]
        error = squared_error(one @ w @ p, (two @ w).detach())
        return error / 2 + decay / 2 * (w.square() + p.square()).sum(dim=(1, 2)), {}

    loop.train(loop.Job(parameters, loss, lambda step: None, 2000, loop.Optimiser(0.02, weight_decay=0.0)))
    w, p = (parameters[name].flatten().numpy() for name in ("encoder", "predictor"))
    ends = [linear.decayed_fixed_point(float(d), noise) for d in decay]
    np.testing.assert_allclose(p, ends, atol=5e-3)
    assert ((w > 0.1) == (np.array(shares) < 1)).all()


def trained(method: Method, views: dict[str, np.ndarray], width: int, **other: float) -> list[Encoders]:
    """A fleet on (members, records, features) views; `other` settings than those above."""
    data = {role: x.astype(np.float32) for role, x in views.items()}
    seeds = [(m, 50 + m) for m in range(len(data["image"]))]
    return pretrain(data, method, replace(SETTINGS, width=width, **other), seeds)


def embedded(made: Encoders, views: dict[str, np.ndarray], member: int) -> tuple[np.ndarray, np.ndarray]:
    shown = made.represent({role: x[member] for role, x in views.items()})
    return shown["image"], shown["clinical"]


def moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return x.T @ x / len(x), y.T @ y / len(y), x.T @ y / len(x)


def two_views(rng: np.random.Generator, signal: np.ndarray, noise: np.ndarray, n: int = 8000) -> tuple[np.ndarray, ...]:
    clean = rng.standard_normal((n, len(signal))) * np.sqrt(signal)
    return clean, *(clean + rng.standard_normal(clean.shape) * np.sqrt(noise) for _ in range(2))


@pytest.mark.parametrize("name", ["vicreg-frozen", "barlow-frozen", "lejepa-frozen"])
def test_trained_joint_embeddings_reach_the_closed_form(name: str, rng: np.random.Generator) -> None:
    """2 sum (1 - r_i) of what two of five directions keep, after whitening: within 1 % of the best."""
    _, a, b = two_views(rng, np.array([1.0, 0.8, 2.0, 0.5, 3.0]), np.array([0.1, 0.2, 2.0, 0.5, 6.0]))
    views = {"image": a[None], "clinical": b[None]}
    z = embedded(trained(METHODS[name], views, 2)[0], views, 0)
    best = linear.joint_embedding_loss(*moments(a, b), 2)
    assert best <= linear.joint_embedding_loss(*moments(*z), 2) * (1 + 1e-9)
    assert linear.joint_embedding_loss(*moments(*z), 2) == pytest.approx(best, rel=0.01)


def test_trained_reconstruction_reaches_the_closed_form(rng: np.random.Generator) -> None:
    """tr G - sum d_i^2 for the mean view reconstructed from one view through two numbers: within 1 %."""
    clean, a, _ = two_views(rng, np.array([1.0, 0.8, 2.0, 0.5, 3.0]), np.array([0.1, 0.2, 2.0, 0.5, 6.0]))
    views = {"image": a[None], "clinical": clean[None]}
    z, _ = embedded(trained(METHODS["mae-frozen"], views, 2)[0], views, 0)
    view, goal, cross = moments(a, clean)
    best = linear.reconstruction_loss(view, goal, cross.T, 2)
    inner, _, across = moments(z, clean)
    assert linear.reconstruction_loss(inner, goal, across.T, 2) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize(("name", "place"), [("vicreg-frozen", 0), ("mae-frozen", 1)])
def test_the_preference_for_a_nuisance_flips_at_its_boundary(name: str, place: int, rng: np.random.Generator) -> None:
    """Signal 1 with view noise .2, nuisance 4: joint embedding passes it over from view noise .8, reconstruction from
    15.2; one number is kept. At .6 and 1.6 times the boundary."""
    boundary = linear.nuisance_boundary(4.0)[place]
    assert boundary == pytest.approx((0.8, 15.2)[place])
    drawn = [two_views(rng, np.array([1.0, 4.0]), np.array([0.2, f * boundary])) for f in (0.6, 1.6)]
    goal = 2 if place == 0 else 0  # joint embedding: two views; reconstruction: the clean mean
    views = {"image": np.stack([d[1] for d in drawn]), "clinical": np.stack([d[goal] for d in drawn])}
    for m, made in enumerate(trained(METHODS[name], views, 1)):
        z, _ = embedded(made, views, m)
        signal, nuisance = (abs(np.corrcoef(z[:, 0], drawn[m][0][:, j])[0, 1]) for j in (0, 1))
        assert (nuisance > signal) == (m == 0), (signal, nuisance)


def explained(z: np.ndarray, factor: np.ndarray) -> float:
    """R2 of a factor from z by least squares."""
    x = np.column_stack([z, np.ones(len(z))])
    residual = factor - x @ np.linalg.lstsq(x, factor)[0]
    return 1 - residual.var() / factor.var()


@pytest.mark.parametrize("name", ["vicreg-frozen", "barlow-frozen", "lejepa-frozen", "mae-frozen", "PCA"])
def test_cross_modal_pretraining_keeps_what_is_shared_alone(name: str, rng: np.random.Generator) -> None:
    """facts 4.10: x = [s + sigma e, a u], sigma = .5, 1: shared factors R2 .80, .50 = 1/(1 + sigma^2) and private 0
    (within .02; .03 of 0) at any a; principal components the reverse. a = 3, but 1 for VICReg, which from a random
    start needs far more steps to leave loud private directions (docs/methods/vicreg.md)."""
    n, sigma, a = 8000, np.array([0.5, 1.0]), 1.0 if name == "vicreg-frozen" else 3.0
    s = rng.standard_normal((n, 2))
    private = {role: rng.standard_normal((n, 3)) for role in ("image", "clinical")}
    views = {
        role: np.concatenate([s + sigma * rng.standard_normal((n, 2)), a * u], axis=1)[None]
        for role, u in private.items()
    }
    if name == "PCA":
        z = views["image"][0] @ np.linalg.eigh(np.cov(views["image"][0], rowvar=False))[1][:, -2:]
    else:
        z, _ = embedded(trained(METHODS[name], views, 2)[0], views, 0)
    shared = [explained(z, s[:, j]) for j in range(2)]
    private_found = [explained(z, private["image"][:, j]) for j in range(3)]
    if name == "PCA":
        assert max(shared) < 0.02 and sum(private_found) == pytest.approx(2, abs=0.05)
    else:
        np.testing.assert_allclose(shared, [0.8, 0.5], atol=0.02)
        assert max(private_found) < 0.03


@pytest.mark.parametrize(("streams", "shared"), [("x", (0.8, 0.5)), ("x and y", (8 / 9, 2 / 3))])
def test_what_the_features_themselves_hold(streams: str, shared: tuple[float, float], rng: np.random.Generator) -> None:
    """The table's other rows (facts 4.10): one view 1/(1 + sigma^2) and its private factors whole, both views
    2/(2 + sigma^2). 40,000 records: a standard error below .003."""
    n, sigma = 40_000, np.array([0.5, 1.0])
    s, u = rng.standard_normal((n, 2)), rng.standard_normal((n, 3))
    x, y = (
        np.concatenate([s + sigma * rng.standard_normal((n, 2)), 3 * private], axis=1)
        for private in (u, rng.standard_normal((n, 3)))
    )
    z = x if streams == "x" else np.concatenate([x, y], axis=1)
    np.testing.assert_allclose([explained(z, s[:, j]) for j in range(2)], shared, atol=0.01)
    assert min(explained(z, u[:, j]) for j in range(3)) > 1 - 1e-9


def test_vicreg_on_the_class_graph_is_lda(rng: np.random.Generator) -> None:
    """Pairs drawn within a class, four for each record: the two directions kept are those of linear discriminant
    analysis. 1.4 and 1.0 degrees apart here, .9 and .6 with eight pairs and twice the batch."""
    y = rng.integers(0, 3, 6000)
    corners = 2.5 * np.array([[1.0, 0.0], [-0.5, 0.87], [-0.5, -0.87]]) @ np.linalg.qr(rng.standard_normal((6, 2)))[0].T
    x = (rng.standard_normal((6000, 6)) + corners[y]) * np.linspace(0.5, 2, 6)
    partner = np.empty((4, 6000), dtype=int)
    for pairs in partner:
        for c in range(3):
            rows = np.flatnonzero(y == c)
            pairs[rows] = rng.permutation(rows)
    views = {"image": np.tile(x, (4, 1))[None], "clinical": x[partner.ravel()][None]}
    made = trained(METHODS["vicreg-frozen"], views, 2, steps=1000)[0]
    weights = made.parameters["image.0.weight"][0].double().numpy()
    expected = LinearDiscriminantAnalysis(solver="eigen").fit(x, y).scalings_[:, :2]
    assert np.degrees(subspace_angles(weights, expected)).max() < 2.5


@pytest.mark.parametrize("name", ["vicreg-frozen", "barlow-frozen", "lejepa-frozen"])
def test_a_shared_nuisance_takes_over_at_the_signals_correlation(name: str, rng: np.random.Generator) -> None:
    """Kamai 2026: four signals of canonical correlation .5, four nuisances of correlation nu, width 4. Below nu = .5
    the signals are kept, above it the nuisances: R2 of the kept kind > .9 of its best at nu = .3 and .7."""
    n, views, best = 8000, {"image": [], "clinical": []}, []
    for nu in (0.3, 0.7):
        s, shared = rng.standard_normal((2, n, 4))
        for role in views:
            g = np.sqrt(nu) * shared + np.sqrt(1 - nu) * rng.standard_normal((n, 4))
            views[role].append(np.concatenate([s + rng.standard_normal((n, 4)), g], axis=1))
        best.append((s, shared, nu))
    stacked = {role: np.stack(x) for role, x in views.items()}
    for m, made in enumerate(trained(METHODS[name], stacked, 4, steps=800)):
        z, _ = embedded(made, stacked, m)
        s, shared, nu = best[m]
        kept = np.mean([explained(z, s[:, j]) for j in range(4)]) / 0.5
        nuisance = np.mean([explained(z, shared[:, j]) for j in range(4)]) / nu
        assert (kept > 0.9 and nuisance < 0.1) if nu < 0.5 else (nuisance > 0.9 and kept < 0.1), (nu, kept, nuisance)


@pytest.mark.parametrize(("name", "rho", "n"), [("clip-frozen", 0.8, 128), ("clip-learned-frozen", 0.95, 16)])
def test_held_out_pairs_bound_what_contrast_estimates(name: str, rho: float, n: int, rng: np.random.Generator) -> None:
    """log N - InfoNCE of a trained encoder on pairs it never saw stays below min(MI, log N), and is near it: three
    shared factors of known information (1.53 nats below log 128; 3.49, above log 16 = 2.77). Pairs torn apart: below 0,
    where nothing is shared."""
    from simlab.objectives.contrastive import clip

    records = 6000
    s, e = rng.standard_normal((2, 2 * records, 3))
    pair = {"image": s, "clinical": rho * s + np.sqrt(1 - rho**2) * e}
    views = {r: np.concatenate([x, rng.standard_normal((2 * records, 2))], 1)[None] for r, x in pair.items()}
    made = trained(METHODS[name], {r: x[:, :records] for r, x in views.items()}, 4, batch=n)[0]
    z = made.represent({r: x[0, records:] for r, x in views.items()})
    batches = records // n
    a, b = (torch.as_tensor(z[r][: batches * n]).reshape(batches, n, 4) for r in ("image", "clinical"))
    scale = torch.full((batches, 1), -np.log(made.curve[-1].get("temperature", 0.1)), dtype=torch.float64)
    found, torn = (np.log(n) - clip(a, other, scale).numpy() for other in (b, b.roll(1, dims=1)))
    se = found.std() / np.sqrt(batches)
    bound = min(-1.5 * np.log(1 - rho**2), np.log(n))
    assert 0.65 * bound < found.mean() < bound + 3 * se
    assert torn.mean() < 0
