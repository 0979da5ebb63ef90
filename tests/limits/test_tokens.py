"""Views of several tokens: who shows what, how it is presented, and the limit that repeated measurement gives."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import agree, draw

from simlab.environments.gaussian import limit, maps, token_columns
from simlab.environments.knobs import spec
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.limits import limits, tokens
from simlab.limits.gaussian import moments
from simlab.limits.readouts import canonical_correlations

SMALL = {"d_c": 2, "d_u": 2, "d_v": 1, "d_g": 1, "d_ni": 1, "d_nc": 1}
FOUR = {"n_tok": 4, "r_tok_c": 1.0, "r_tok_u": 0.25, "r_tok_v": 0.5, "r_tok_g": 0.6}


def effective(rel, tokens):
    """Reliability of the mean of so many readings with independent errors: 1/(1 + s^2/m)."""
    return 1 / (1 + (1 / rel - 1) / tokens)


@pytest.mark.parametrize("more", ({}, {"kappa_e": 0.4, "delta_v_e": 0.3, "mu_e": 0.5, "tau_e": 1.3}))
def test_tokens_repeat_measurements_and_so_raise_reliability(more):
    """The limits are those of one token with the effective reliabilities of what each factor's tokens show."""
    given = {**SMALL, "rel_ci": 0.5, "rel_cc": 0.6, "rel_u": 0.4, "rel_v": 0.7, **more}
    tokens = limits(spec(given, **FOUR))
    one = limits(spec({**given, "rel_ci": effective(0.5, 4), "rel_cc": effective(0.6, 4), "rel_v": effective(0.7, 2)}))
    for place in ("internal", "external", "source_bayes_external"):
        for key, value in one[place].items():
            assert tokens[place][key] == pytest.approx(value, abs=1e-9), (place, key)
    assert tokens["canonical_correlations"] == pytest.approx(one["canonical_correlations"])
    plain = limits(spec(given))
    assert tokens["internal"]["full"] > plain["internal"]["full"] + 0.01


@pytest.mark.parametrize("symbol", ("r_tok_c", "r_tok_u", "r_tok_v"))
def test_a_share_of_tokens_moves_the_limit_and_the_nuisances_moves_none(symbol):
    values = [limit(spec(SMALL, n_tok=8, **{symbol: share}), "source", "full") for share in (0.1, 0.5, 1.0)]
    assert values[0] < values[1] - 1e-4 < values[2] - 1e-4
    g = [limit(spec(SMALL, n_tok=8, r_tok_g=share), "source", "full") for share in (0.1, 1.0)]
    assert g[0] == pytest.approx(g[1], abs=1e-9)


@pytest.mark.parametrize("more", ({"eta_s": 0.5, "kappa_s": 0.8, "shortcut": "both", "lambda_s": 0.4, "tau_e": 1.3},
                                  {"w_x": 0.3, "n_sites": 2, "omega_s": 0.4, "mu_site_e": 0.5}))
def test_limits_agree_with_data(more):
    agree(spec(SMALL, d_g=1, n_tok=3, r_tok_c=0.6, r_tok_u=1.0, r_tok_v=0.3, r_tok_g=0.6, **more), n=8_000)


def test_presentation_is_one_channel_a_token_and_inverts_to_the_coordinates():
    s = spec(SMALL, **FOUR, map="mlp", map_seed=4)
    cohort, plain = (sample_cohort(x, "test-data", 50, 1, 0) for x in (s, spec(SMALL, **FOUR, map="identity")))
    image = cohort.streams["image"]
    assert image.values.shape == (50, 1, 4, s.token_width("image")) and image.channels[3] == "image-token-3"
    assert s.p_image == 4 * 6 and s.p_clinical == 4 * 5 and image.observed.shape == (50, 1, 4)
    for g, view in zip(maps(s), ("image", "clinical"), strict=True):
        x = cohort.streams[view].values
        z = g.inverse(x.reshape(50 * 4, -1)).reshape(x.shape)
        np.testing.assert_allclose(z, plain.streams[view].values, atol=1e-4)
    np.testing.assert_array_equal(cohort.risk["outcome"], plain.risk["outcome"])


def test_every_coordinate_is_in_one_token_and_factors_where_they_belong():
    s = spec(SMALL, **FOUR, shortcut="image", lambda_s=0.3)
    for view, p in (("image", s.p_image), ("clinical", s.p_clinical)):
        assert sorted(token_columns(s, view).ravel()) == list(range(p))
    z = draw(s, "source", 40_000)[1][:, :s.p_image]
    tokens = z[:, token_columns(s, "image")]  # (n, 4, [c c u u g n a])
    between = np.einsum("ntj,nsj->jts", tokens, tokens) / len(z)
    assert (between[0] > 0.9).all()  # c in all tokens
    assert np.abs(between[2] - np.diag(np.diag(between[2]))).max() < 0.05  # u in the last alone: nothing to predict
    assert between[2, 3, 3] == pytest.approx(1.25, abs=0.05) and between[2, 0, 0] == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(tokens[:, 0, 4], tokens[:, 2, 4])  # g in the first three, the same number
    assert np.abs(np.corrcoef(tokens[:, 0, 4], tokens[:, 3, 4])[0, 1]) < 0.03
    assert (tokens[:, :, 6] == tokens[:, :1, 6]).all()  # the shortcut in every token


def test_intra_modal_masking_can_see_u_only_if_two_tokens_show_it():
    """What H11 turns on: whether one half of the image's tokens predicts u in the other half."""
    for share, seen in ((0.25, False), (1.0, True)):
        s = spec(SMALL, n_tok=4, r_tok_c=0.25, r_tok_g=0.25, r_tok_u=share)
        law, columns = moments(s), token_columns(s, "image")
        one, two = columns[:2].ravel(), columns[2:].ravel()
        assert (np.abs(law.cov[np.ix_(one, two)]).max() > 0.1) == seen
        assert len(canonical_correlations(law)) == s.d_c


def test_repeated_numbers_add_no_feature_to_least_squares():
    """30 labels more than features of full rank: defined; and one token is the plain world."""
    s = spec(SMALL, n_tok=4)
    rank = np.linalg.matrix_rank(moments(s).cov)
    assert rank == s.p_image + s.p_clinical - 2 * 3 * s.d_g
    assert limits(s, n_labelled=(int(rank) + 2,))["finite"]["supervised"][0] is not None
    assert limits(s, n_labelled=(int(rank) + 1,))["finite"]["supervised"][0] is None
    assert spec(n_tok=1, r_tok_u=1.0) == spec()


# ------------------------------------------------------------------------------------------- masks inside one visit


def multiple(target, context):
    """Multiple correlation of one column with others, both of mean zero."""
    fit = context @ np.linalg.lstsq(context, target, rcond=None)[0]
    return np.sqrt((fit**2).mean() / (target**2).mean())


@pytest.mark.parametrize("more", ({}, {"kappa_s": 0.6, "r_tok_c": 0.5, "nu": 0.7, "r_tok_g": 0.3, "r_tok_u": 1.0},
                                  {"r_tok_c": 0.25, "eta_s": 0.6, "nu": 0.4, "record_tokens": "coordinates"}))
def test_what_a_mask_predicts_is_what_sampled_tokens_say(more):
    """Each family of each view: the part of a masked token that shows it, from what the mask leaves; 50,000 records."""
    s = spec({**SMALL, **FOUR, "d_u": 1, "d_ni": 0, "d_nc": 0, "rel_ci": 0.5, **more})
    _, z = draw(s, "source", 50_000)
    views = {"image": z[:, :s.p_image], "clinical": z[:, s.p_image:]}
    for mask in tokens.MASKS:
        found = tokens.correlations(s, mask)
        for view, other in (("image", "clinical"), ("clinical", "image")):
            c, own, g = np.cumsum((0, *s.widths(view)))[:3]
            for family, column in (("c", c), ("own", own), ("g", g)):
                blocks = token_columns(replace(s, record_tokens="blocks"), view)
                inside = np.setdiff1d(np.arange(views[view].shape[1]), blocks[(blocks == column).any(axis=1)])
                if s.by_coordinate(view):
                    inside = np.setdiff1d(np.arange(views[view].shape[1]), [column])
                if mask == "modality" and family == "c":
                    step = s.d_c  # one coordinate of c in all tokens, against the same in the other view
                    one, two = (x[:, :s.carriers("c") * step:step].mean(1) for x in (views[view], views[other]))
                    seen = abs(np.corrcoef(one, two)[0, 1])
                else:
                    context = {"modality": views[other], "token": views[view][:, inside],
                               "both": np.hstack([views[view][:, inside], views[other]])}[mask]
                    seen = multiple(views[view][:, column], context)
                p = z.shape[1]
                assert seen == pytest.approx(found[view][family], abs=(3 + np.sqrt(p)) / np.sqrt(len(z))), (
                    mask, view, family)


def test_only_what_tokens_repeat_survives_a_token_mask():
    """H11 inside a visit: u survives a token mask iff two tokens show it, and never a modality mask; the limit of what
    is kept says so, and data do: least squares on all readings of what is kept."""
    for share, survives in ((0.25, False), (0.5, True)):
        s = spec(SMALL, n_tok=4, r_tok_c=0.25, r_tok_u=share, r_tok_v=share, r_tok_g=0.25, w_c=0.0)
        k = s.d_u
        found = {mask: tokens.kept(s, mask, k) for mask in tokens.MASKS}
        assert found["modality"].auc[0] == 0.5 and found["modality"].correlations["image"]["own"] == 0
        assert (found["token"].auc[0] > 0.7) == survives == (found["token"].shares["image"]["own"] == 1.0)
        if survives:
            assert found["token"].auc[0] == pytest.approx(limits(s)["internal"]["full"], abs=1e-9)


def test_coordinates_of_a_signature_predict_nothing_of_each_other():
    """The second reading of independent causes: masking coordinates inside the record learns nothing even where all
    causes are shared, and each coordinate is presented as a token of its own; the limits of views stay."""
    s = spec(w_c=1.0, record_tokens="coordinates")
    inside, across = tokens.kept(s, "token", 4), tokens.kept(s, "both", 4)
    assert set(inside.correlations["clinical"].values()) == {0.0} and inside.auc[0] == 0.5
    assert across.correlations["clinical"]["c"] == pytest.approx(0.8) and across.auc == pytest.approx(
        [limits(s)["internal"]["full"]] * 2)
    plain = limits(spec(w_c=1.0))
    assert limits(s)["internal"] == plain["internal"] and plain["masks"] == {}
    assert limits(s)["masks"]["token"]["auc"] == list(inside.auc)
    cohort = sample_cohort(replace(s, map="linear"), "test-data", 40, 1, 0)
    assert cohort.streams["clinical"].values.shape == (40, 1, 30, 1) and cohort.streams["image"].values.ndim == 3
    blocks = sample_cohort(spec(w_c=1.0, map="identity"), "test-data", 40, 1, 0).streams["clinical"].values[:, 0]
    np.testing.assert_allclose(np.abs(cohort.streams["clinical"].values[:, 0, :, 0]), np.abs(blocks), rtol=1e-6)


@pytest.mark.parametrize(("given", "said"), [
    ({"w_x": 0.2}, "w_x = 0"), ({"shortcut": "image", "lambda_s": 0.3}, "shortcut"), ({"eta_s": 0.3}, "eta_s"),
    ({"n_sites": 2, "site_shown": "image"}, "hospital")])
def test_masks_without_a_closed_form_are_refused_and_noted(given, said):
    s = spec(SMALL, n_tok=2, **given)
    with pytest.raises(OutOfDomain, match=said):
        tokens.kept(s, "token", 2)
    with pytest.raises(UnknownName, match="modality"):
        tokens.kept(spec(n_tok=2), "modalty", 2)
    with pytest.raises(OutOfDomain, match="k = 0"):
        tokens.kept(spec(n_tok=2), "token", 0)
