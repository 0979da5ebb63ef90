"""The table of knobs of the Gaussian-liability world. Imports no array module.

`simlab.environments.knobs.spec` resolves and checks a choice of them; docs/environments.md has the equations.
"""

from __future__ import annotations

from simlab.environments.knob import Choice, Interval, Knob

_UNIT = Interval(0, 1)
_RELIABILITY = Interval(0, 1, low_open=True)
_SLOPE = Interval(-1, 1)

GAUSSIAN_KNOBS: tuple[Knob, ...] = (
    # Dimensions
    Knob("dim_shared", "d_c", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of shared causes c, seen by both views"),
    Knob("dim_image", "d_u", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of causes u that only the image shows"),
    Knob("dim_clinical", "d_v", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of causes v that only the clinical record shows"),
    Knob("dim_nuisance", "d_g", 2, Interval(0, 512, whole=True), (0, 16), "linear", "source",
         "nuisance factors g in each view, irrelevant to the label, correlated nu between the views"),
    Knob("dim_noise_image", "d_ni", 20, Interval(0, 4096, whole=True), (0, 256), "linear", "source",
         "pure noise features of the image"),
    Knob("dim_noise_clinical", "d_nc", 20, Interval(0, 4096, whole=True), (0, 256), "linear", "source",
         "pure noise features of the clinical record"),
    # How well each view shows its causes, and what else the views share
    Knob("reliability_shared_image", "rel_ci", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability 1/(1+sigma^2) of the shared causes in the image"),
    Knob("reliability_shared_clinical", "rel_cc", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the shared causes in the clinical record"),
    Knob("reliability_image", "rel_u", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the image-only causes"),
    Knob("reliability_clinical", "rel_v", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the clinical-only causes"),
    Knob("coupling", "kappa_s", 1.0, Interval(-1, 1), (0, 1), "linear", "source",
         "how closely the clinical copy of the shared causes follows them: c_C = kappa c + sqrt(1-kappa^2) c'"),
    Knob("nuisance_correlation", "nu", 0.0, Interval(-1, 1, low_open=True, high_open=True), (0, 0.99), "linear",
         "source", "correlation of the nuisance between the views"),
    Knob("nuisance_amplitude", "alpha_g", 1.0, Interval(0, 1000, low_open=True), (0.1, 10), "log", "source",
         "standard deviation of the nuisance features as measured"),
    Knob("noise_amplitude", "alpha_n", 1.0, Interval(0, 1000, low_open=True), (0.1, 10), "log", "source",
         "standard deviation of the pure noise features as measured"),
    Knob("observation_map", "map", "linear", Choice(("identity", "linear", "mlp")), None, "choice", "source",
         "how measured coordinates become features: as they are, a random linear map, an invertible MLP"),
    Knob("condition_number", "condition", 1.0, Interval(1, 1000), (1, 1000), "log", "source",
         "condition number of the linear map (1: orthogonal), or of the layers of the MLP map together"),
    Knob("map_seed", "map_seed", None, Interval(0, 2**63 - 1, whole=True), None, "linear", "source",
         "which random map (default: drawn afresh for each seed)"),
    Knob("n_unlabelled", "n_unlab", 20_000, Interval(2, 10_000_000, whole=True), (500, 500_000), "log", "source",
         "unlabelled records for pretraining"),
    # The label
    Knob("signal_fraction", "h2", 0.7, Interval(0, 1, high_open=True), (0.1, 0.95), "linear", "labels",
         "share of the liability's variance that the causes explain"),
    Knob("prevalence", "prevalence", 0.3, Interval(0, 1, low_open=True, high_open=True), (0.03, 0.5), "linear",
         "labels", "share of positive records in the source hospital"),
    Knob("weight_shared", "w_c", 1 / 3, _UNIT, (0, 1), "linear", "labels",
         "share of the explained liability that the shared causes carry"),
    Knob("weight_image", "w_u", None, _UNIT, (0, 1), "linear", "labels",
         "share that the image-only causes carry (default: half of what w_c leaves)"),
    Knob("weight_clinical", "w_v", None, _UNIT, (0, 1), "linear", "labels",
         "share that the clinical-only causes carry (default: half of what w_c leaves)"),
    Knob("n_labelled", "n_lab", 300, Interval(2, 10_000_000, whole=True), (20, 20_000), "log", "labels",
         "every label an arm sees, those for tuning included"),
    # The target hospital
    Knob("coupling_external", "kappa_e", None, Interval(-1, 1), (-1, 1), "linear", "target",
         "coupling in the target hospital, 'proxy decoupling' (default: as in the source)"),
    Knob("slope_image_external", "delta_u_e", 1.0, _SLOPE, (-1, 1), "linear", "target",
         "slope of the liability on u in the target, as a multiple of the source's; the noise refills Var(l) = 1"),
    Knob("slope_clinical_external", "delta_v_e", 1.0, _SLOPE, (-1, 1), "linear", "target",
         "slope of the liability on v in the target, as a multiple of the source's; the noise refills Var(l) = 1"),
    Knob("slope_all_clinical_external", "delta_clin_e", None, _SLOPE, (-1, 1), "linear", "target",
         "shorthand: sets kappa_e and delta_v_e to this value"),
    Knob("nuisance_correlation_external", "nu_e", None, Interval(-1, 1, low_open=True, high_open=True), (0, 0.99),
         "linear", "target", "nuisance correlation in the target (default: as in the source)"),
    Knob("prevalence_external", "prevalence_e", None, Interval(0, 1, low_open=True, high_open=True), (0.03, 0.5),
         "linear", "target", "prevalence in the target (default: what follows from the other knobs)"),
    Knob("prevalence_kind", "prevalence_kind", "reweight", Choice(("reweight", "threshold")), None, "choice", "target",
         "how prevalence_e comes about: classes resampled (P(x|y) stays), or the threshold moved"),
    Knob("mean_external", "mu_e", 0.0, Interval(-5, 5), (-1.5, 1.5), "linear", "target",
         "shift of the mean of c, u and v along beta in the target; equations, noise and threshold stay"),
    Knob("scale_external", "tau_e", 1.0, Interval(0, 10, low_open=True), (0.5, 2), "log", "target",
         "standard deviation of c, u and v along beta in the target"),
)
