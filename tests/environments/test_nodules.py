"""The nodules world: shapes, scanner and fields against closed forms and scipy; the renderer inverted; the bracket."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import sph_harm_y

from simlab.environments import nodule_scan as scan
from simlab.environments import nodule_shape as shape
from simlab.environments import nodules
from simlab.environments.nodule_knobs import DRIVEN, FIELD, HARMONICS, MOST, NODULE_KNOBS, spec
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.limits.nodules import decode, forward, jacobian, lower
from simlab.limits.simulated import bayes

CLEAN = {"texture": 0, "vessels": 0, "noise": 0}


def one(**given: float) -> dict[str, np.ndarray]:
    """Parameters of a plain ball, some set."""
    plain = shape.parameters(np.zeros((1, len(DRIVEN))))
    return {**plain, **{name.replace("_", "-"): np.array([value]) for name, value in given.items()}}


# ------------------------------------------------------------------------------------------------------------- shape


def test_harmonics_are_those_of_scipy():
    rng = np.random.default_rng(0)
    v = rng.standard_normal((200, 3))
    x, y, z = (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    orders = [(l, m) for l in range(2, 7) for m in range(-l, l + 1)]
    assert len(orders) == HARMONICS
    turns = shape.powers(x, y, 6)
    for k, (l, m) in enumerate(orders):
        phase = sph_harm_y(l, abs(m), np.arccos(z), np.arctan2(y, x)) * (-1) ** m
        want = phase.real if m == 0 else np.sqrt(2) * (phase.imag if m < 0 else phase.real)
        assert shape.real_harmonic(k, z, turns) == pytest.approx(want, abs=1e-10)


def test_coordinates_drive_their_numbers_upwards_and_back():
    z = np.random.default_rng(1).standard_normal((50, 20)) * 1.5
    assert shape.coordinates(shape.parameters(z), 20) == pytest.approx(z, abs=1e-9)
    steps = shape.parameters(np.linspace(-4, 4, 9)[:, None].repeat(20, axis=1))
    assert all(np.all(np.diff(values) > 0) for values in steps.values())
    mm = np.exp(shape.parameters(np.array([[-1e6], [0.0], [1e6]]))["log-diameter"])
    assert mm == pytest.approx([4, np.sqrt(120), 30], rel=1e-6)


def test_a_nodule_has_its_diameter_place_and_attenuation():
    ball = one(log_diameter=np.log(20.0), margin=np.log(0.3), solid_fraction=0.25, background_HU=-800.0, centre_x=4.0)
    ball["calcification"] = np.array([-0.4])
    hu = shape.render(ball, 0, 64, np.float64)
    inside = hu > -650  # half way from lung to ground glass
    assert inside.sum() * (FIELD / 64) ** 3 == pytest.approx(np.pi / 6 * 20**3, rel=0.02)
    assert (np.nonzero(inside)[2] + 0.5).mean() * FIELD / 64 - FIELD / 2 == pytest.approx(4, abs=0.1)
    assert hu[0, 0, 0] == pytest.approx(-800, abs=1e-6)
    shell = hu[32, 32, int((4 + 9 + FIELD / 2) / (FIELD / 64))]  # beyond the core (radius 6.3), inside the nodule
    assert shell == pytest.approx(-500 + 520 / (1 + np.exp(9 - 6.3)), abs=30)
    x = int((4 - 0.4 * 10 + FIELD / 2) / (FIELD / 64))
    assert hu[32, 32, x] == hu[32, 32].max() > 400  # the calcified spot


# ----------------------------------------------------------------------------------------------------------- scanner


def test_the_scanner_keeps_the_mean_and_spreads_a_point_as_said():
    rng = np.random.default_rng(0)
    flat = np.full((32, 32, 32), -700.0)
    assert scan.scanned(flat, 3.0, 5.0, 1.0) == pytest.approx(flat)
    assert scan.scanned(flat, 3.0, 5.0, 1.2) == pytest.approx(1.2 * 300 - 1000 + 0 * flat)
    point = np.full((33, 33, 33), -1000.0)
    point[16, 16, 16] = 0
    seen = scan.scanned(point, 6.0, 0.0, 1.0) + 1000
    at = scan.grid(33)
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        line = seen.sum(axis=other)
        sd = np.sqrt((line * at**2).sum() / line.sum())
        assert sd * np.sqrt(8 * np.log(2)) == pytest.approx(6.0, rel=0.01)
    slab = scan.scanned(point, 0.0, 3 * FIELD / 33, 1.0) + 1000
    assert slab[14:19, 16, 16] == pytest.approx(np.array([0, 1, 1, 1, 0]) * 1000 / 3)
    x = rng.standard_normal((16, 16, 16))
    assert scan.scanned(x, 0.0, 0.0, 1.0) == pytest.approx(x)


def test_fields_have_variance_one_and_their_power_law():
    rng = np.random.default_rng(0)
    power, variance = 0, []
    for _ in range(30):
        f = scan.field(rng.standard_normal((32, 32, 32), np.float32), 3.0)
        variance.append((f**2).mean())
        power = power + np.abs(np.fft.fftn(f)) ** 2
    assert np.mean(variance) == pytest.approx(1, abs=4 * np.std(variance) / np.sqrt(30))
    k = np.sqrt(sum(a**2 for a in np.meshgrid(*[np.fft.fftfreq(32) * 32] * 3)))
    low, high = ((k > a) & (k < a + 1) for a in (3, 10))
    slope = np.log(power[low].mean() / power[high].mean()) / np.log(k[low].mean() / k[high].mean())
    assert slope == pytest.approx(-3, abs=0.15)
    white = rng.standard_normal((8, 8, 8)).astype(np.float32)
    assert scan.field(white, 0.0) is white


def test_a_vessel_is_a_tube():
    tube = scan.vessels(np.array([[0.5, 0.5, 0.5, 1.0, 0.0, 0.0]]), 33)  # through the middle, along z, radius 1 mm
    assert tube[:, 16, 16] == pytest.approx(np.full(33, scan.VESSEL))
    assert tube[3, 16, 17] == pytest.approx(scan.VESSEL * np.exp(-0.5 * (FIELD / 33) ** 2), rel=1e-4)


# -------------------------------------------------------------------------------------------------- gate and bracket


def gate(draws: int, side: int, seed: int) -> None:
    """The Jacobian has full rank at every draw, and the scan gives its coordinates back to 1e-6; a search may stop
    short (one draw in a hundred), but then at another scan, never at other coordinates with the same one."""
    s = spec(side=side, **CLEAN)
    rng = np.random.default_rng(seed)
    missed = 0
    for _ in range(draws):
        z = rng.standard_normal(s.p_image) / np.sqrt(s.rel_ci)
        volume, slopes = jacobian(z, s, "source", np.float64)
        values = np.linalg.svd(slopes.reshape(len(z), -1), compute_uv=False)
        assert values[-1] > 1e-6 * values[0] and values[-1] > 0.1  # HU a unit of the least visible direction
        found = decode(volume, s, "source", np.float64, prior=1e12)
        if np.abs(found - z).max() > 1e-6:
            missed += 1
            assert np.abs(forward(found, s, "source", np.float64) - volume).max() > 0.1  # HU; rounding is 1e-10
    assert missed <= draws // 100


def test_the_renderer_can_be_inverted():
    gate(20, 16, seed=0)


@pytest.mark.proof
def test_the_renderer_can_be_inverted_on_five_hundred_draws():
    gate(500, 16, seed=1)


@pytest.mark.proof
def test_the_renderer_can_be_inverted_at_the_default_size():
    gate(25, 32, seed=2)


@pytest.mark.proof
def test_the_decoder_achieves_no_more_than_the_noise_free_limit():
    s = spec(side=24, times="regular", n_visits=2)
    got, best, se = lower(s, "source", records=60)
    assert got <= best + 4 * se
    clean, best, _ = lower(spec(side=16, n_visits=1, **CLEAN), "source", records=40)
    assert clean == pytest.approx(best, abs=0.005)  # float16 scans: half a HU


def test_a_decoded_scan_of_the_default_world_is_near_its_coordinates():
    s = spec(side=24)
    z = np.array([1.0, 0.5, -1.0, 0.3, 0.5, 0.2, -0.5, 0.8, 0.4, 0.6, -0.7, 0.1])
    rng = np.random.default_rng(0)
    texture = s.texture * scan.field(rng.standard_normal((24, 24, 24), np.float32), s.q_texture)
    volume = forward(z, s, "source") + texture + s.noise * rng.standard_normal((24, 24, 24), np.float32)
    assert np.abs(decode(volume, s, "source") - z).max() < 0.5  # .2 seen


def test_limits_are_the_longitudinal_worlds():
    s = spec(w_c=0.5, times="regular")
    assert nodules.limit(s, "source", "full") == bayes(s, "source", "full").value
    noisy, clean = nodules.limits(s), nodules.limits(spec(w_c=0.5, times="regular", **CLEAN))
    assert noisy["upper_bound"] and not clean["upper_bound"] and noisy["internal"] == clean["internal"]
    assert any("bracket" in note for note in noisy["notes"]) and not any("bracket" in n for n in clean["notes"])


# ------------------------------------------------------------------------------------------------------------- world


def test_the_world_is_whole_and_its_first_records_are_those_of_a_longer_draw():
    s = spec(side=16)
    few, more = (sample_cohort(s, "test-data", n, 0, 0, world="nodules") for n in (4, 7))
    image = few.streams["image"]
    assert image.values.shape == (4, 3, 16, 16, 16) and image.values.dtype == np.float16 and image.units == ("HU",)
    assert np.array_equal(image.values, more.streams["image"].values[:4])
    exists = np.arange(3) < few.length[:, None]
    assert np.array_equal(image.observed[..., 0], exists) and not image.values[~exists].any()
    assert few.factors["z_image"].shape == (4, 3, s.p_image)
    assert not sample_cohort(s, "pretraining-data", 2, 0, 0, world="nodules").tasks
    twin = sample_cohort(spec(layout="coordinates"), "test-data", 4, 0, 0, world="nodules")
    assert np.array_equal(twin.risk["outcome"], few.risk["outcome"])
    assert np.array_equal(twin.streams["image"].values, few.factors["z_image"])
    clean = sample_cohort(spec(side=16, **CLEAN), "test-data", 1, 0, 0, world="nodules")
    shown = forward(clean.factors["z_image"][0, 0], spec(side=16, **CLEAN), "source")
    assert np.array_equal(clean.streams["image"].values[0, 0], shown.astype(np.float16))
    assert clean.provenance["risk_given"][0] == "image" != few.provenance["risk_given"][0]


def test_the_scanner_moves_images_and_no_answer():
    kinds = {"psf_e": 4.0, "slab_e": 6.0, "gain_ct_e": 1.1, "noise_e": 80.0, "q_noise_e": 2.0}
    plain = sample_cohort(spec(side=16), "external-data", 3, 0, 0, "external", world="nodules")
    for symbol, value in kinds.items():
        other = sample_cohort(spec(side=16, **{symbol: value}), "external-data", 3, 0, 0, "external", world="nodules")
        assert np.array_equal(other.risk["outcome"], plain.risk["outcome"]), symbol
        assert not np.array_equal(other.streams["image"].values, plain.streams["image"].values), symbol
    quiet, loud = (sample_cohort(spec(side=24, noise=sd), "test-data", 4, 0, 0, world="nodules") for sd in (0, 40))
    there = quiet.streams["image"].observed[..., 0]
    gap = loud.streams["image"].floats()[there] - quiet.streams["image"].floats()[there]
    assert gap.std() == pytest.approx(40, rel=0.02)


def test_gaps_times_and_shifted_causes_hold_here_too():
    """Scans and records go missing by the liability, the sick come more often, the target's causes are shifted and
    wider: the risk stays calibrated on labels (its mean, and the label AUC against the posterior-weighted one)."""
    knobs = {"p_miss": 0.4, "missing_in": "both", "gamma_3": 0.7, "gamma_obs": 0.5, "mu_e": 0.5, "tau_e": 1.3}
    s = spec(layout="coordinates", **knobs)
    cohort = sample_cohort(s, "external-data", 3000, 0, 0, "external", world="nodules")
    seen = cohort.streams["image"].observed[..., 0]
    exists = np.arange(3) < cohort.length[:, None]
    assert 0.3 < 1 - seen[exists].mean() < 0.8 and "gaps" in cohort.provenance["risk_given"]
    p, y = cohort.risk["outcome"], cohort.labels["outcome"]
    assert abs((y - p).mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(p)
    area = label_auc(p, y)
    assert abs(area.value - weighted_auc(p, p).value) < 4 * area.se
    twin = sample_cohort(spec(side=16, **knobs), "external-data", 4, 0, 0, "external", world="nodules").streams["image"]
    assert np.array_equal(twin.observed[..., 0], seen[:4]) and not twin.values[~seen[:4]].any()
    assert twin.values[seen[:4]].any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("side", [48, 64])
def test_larger_volumes_show_the_same_nodules(side):
    """The same records at another number of voxels: clean scans agree where both have been averaged to 3 mm."""
    small, large = (sample_cohort(spec(side=n, visits=1, point_spread=3, slice_thickness=3, **CLEAN), "test-data", 2, 0,
                                  0, world="nodules").streams["image"].values[:, 0].astype(float) for n in (32, side))
    assert large.shape == (2, side, side, side)
    coarse = [x.reshape(2, 16, n // 16, 16, n // 16, 16, n // 16).mean(axis=(2, 4, 6))
              for x, n in ((small, 32), (large, side))]
    assert np.abs(coarse[0] - coarse[1]).mean() < 5 and np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.995


def test_bad_knobs_are_refused():
    for bad in ({"side": 8}, {"psf": 99}, {"gain_ct": 0}, {"noise": -1}, {"layout": "slices"}, {"n_vessels": 1.5}):
        with pytest.raises(OutOfDomain, match=next(iter(bad))):
            spec(**bad)
    with pytest.raises(OutOfDomain, match=f"55 coordinates.*{MOST}"):
        spec(d_c=20, d_u=20, d_ni=13)
    with pytest.raises(OutOfDomain, match="layout = coordinates"):
        spec(map="linear")
    with pytest.raises(OutOfDomain, match="a volume of 0 HU is one of water"):
        spec(p_miss=0.1, gaps="zero_filled")
    with pytest.raises(UnknownName, match="lab_share"):
        spec(lab_share=0.1)
    assert spec(map="linear", layout="coordinates").map == "linear"
    assert find_world("nodules").spec(voxel_noise=9).noise_e == 9
    assert all(k.default is None or k.default in k.domain for k in NODULE_KNOBS)
