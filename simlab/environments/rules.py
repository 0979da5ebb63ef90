"""Knobs that contradict each other are refused here, each with the condition that fails. Imports no array module."""

from __future__ import annotations

from typing import Any

from simlab.errors import OutOfDomain


def check_together(s: Any) -> None:
    """Refuse a specification whose knobs cannot hold together. Raises OutOfDomain, which states the condition."""
    for broken, condition in (*_shortcut(s), *_sites(s), *_slopes(s), *_reweighting(s), *_latent(s)):
        if broken:
            raise OutOfDomain(condition)


def _shortcut(s: Any) -> list[tuple[bool, str]]:
    unseen = [(s.shortcut == "none" and getattr(s, symbol) != 0,
               f"{symbol} = {getattr(s, symbol):g} needs a view that shows the shortcut: shortcut = image, clinical or "
               "both, not none.") for symbol in ("lambda_s", "lambda_e")]
    return [*unseen, (s.shortcut != "none" and s.w_x > 0,
                      "a shortcut shows the liability itself, and with w_x > 0 that is not Gaussian: take "
                      "w_x = 0 or shortcut = none.")]


def _sites(s: Any) -> list[tuple[bool, str]]:
    inside, outside = s.noise_variance("source"), s.noise_variance("external")
    shown = s.site_shown != "none"
    return [
        (s.omega_s > 0 and s.d_g == 0, f"omega_s = {s.omega_s:g} needs a nuisance to load on: d_g >= 1."),
        (s.n_sites == 1 and s.rho_s != 0, f"rho_s = {s.rho_s:g} needs hospitals that differ: n_sites >= 2."),
        (s.n_sites == s.n_sites_e == 1 and s.mu_site_e == 0 and (s.omega_s > 0 or s.rho_s_e != 0 or shown),
         "omega_s, rho_s_e and site_shown need hospitals that differ: n_sites or n_sites_e >= 2, or mu_site_e not 0."),
        (s.mu_site_e != 0 and s.omega_s == 0 and s.rho_s_e == 0 and not shown,
         f"mu_site_e = {s.mu_site_e:g} moves nothing without omega_s > 0, rho_s_e not 0 or a view that shows it."),
        (inside < -1e-12, f"the site takes more than the liability's noise leaves: rho_s^2 = {s.rho_s**2:.4g} > 1 - h2 "
                          f"= {1 - s.h2:.4g}."),
        (outside < -1e-12, f"the target's site takes more than the liability's noise leaves: rho_s_e^2 = "
                           f"{s.rho_s_e**2:.4g} > {outside + s.rho_s_e**2:.4g}."),
    ]


def _slopes(s: Any) -> list[tuple[bool, str]]:
    return [(s.theta_e != 0 and min(s.d_c, s.d_u, s.d_v) < 2,
             f"theta_e = {s.theta_e:g} turns beta within c, u and v: d_c, d_u and d_v must be 2 or more.")]


def _reweighting(s: Any) -> list[tuple[bool, str]]:
    """Classes are resampled by moving a Gaussian liability (docs/environments.md)."""
    resampled = s.prevalence_e is not None and s.prevalence_kind == "reweight"
    mixed = s.n_sites_e > 1 and s.rho_s_e != 0
    why = "w_x > 0" if s.w_x > 0 else "rho_s_e not 0 over several sites"
    return [(resampled and (s.w_x > 0 or mixed),
             f"prevalence_kind = reweight resamples the classes of a Gaussian liability, and with {why} it is not "
             "Gaussian; take prevalence_kind = threshold.")]


def _latent(s: Any) -> list[tuple[bool, str]]:
    """The exact risk for causes that are not normal takes their coordinates one by one (docs/theory.md, 11)."""
    other = s.alpha_lat != 2
    sites = (s.n_sites > 1 or s.n_sites_e > 1 or s.mu_site_e != 0) and (
        s.omega_s > 0 or s.rho_s != 0 or s.rho_s_e != 0 or s.site_shown != "none")
    exact = max(s.rel_ci, s.rel_cc, s.rel_u, s.rel_v) > 0.999
    resampled = s.prevalence_e is not None and s.prevalence_kind == "reweight"
    return [(other and broken, f"alpha_lat = {s.alpha_lat:g} (causes not normal) has an exact risk only {need}.")
            for broken, need in (
                (s.w_x > 0, "with w_x = 0"), (s.n_tok > 1, "with n_tok = 1"),
                (s.shortcut != "none", "with shortcut = none"),
                (sites, "without omega_s, rho_s, rho_s_e and site_shown"),
                (exact, "with measurement error: reliabilities up to 0.999"),
                (s.h2 > 0.98, "with noise in the liability: h2 up to 0.98"),
                (s.tau_e != 1, "with tau_e = 1, which leaves their coordinates independent"),
                (resampled, "without resampled classes: prevalence_kind = threshold"))]
