"""What a method is: a point on the axes, strings and numbers alone. Imports no array module.

The named ones, and how to add one, are in `simlab.methods`.
"""

from __future__ import annotations

from dataclasses import dataclass

from simlab.errors import OutOfDomain

VIEWS = ("none", "cross-modal", "visit", "token", "coordinate", "both", "next-step")
TARGETS = ("none", "ema", "stop-gradient", "online", "input")
AGAINST_COLLAPSE = ("none", "vicreg", "sigreg", "barlow", "contrastive", "contrastive-learned")
PREDICTORS = ("none", "linear", "mlp", "transformer")
READS = ("features", "tokens", "hours", "mask", "stays")
ENCODERS = ("identity", "linear", "mlp", "gru", "tcn", "transformer")
ADAPTATIONS = ("frozen", "frozen-mlp", "partial", "finetuned", "scratch", "closed-form")
STREAMS = ("all", "image", "clinical")
TUNINGS = ("cross-validated", "none")
OUTSIDE = ("none", "shown", "continued", "pooled")
VECTORS = ("linear", "mlp")


@dataclass(frozen=True)
class Phase:
    """A stretch of a pretraining, and what differs in it from the method's own point; a curriculum is a tuple of them.

    `share` of the steps (those of all phases add up to 1). `view`: None for the method's own. `masked`: the share that
    is masked, as the setting of that name: None for it, one number, or (first, last), a ramp over the phase. `held`:
    networks that do not move, by the start of their parameters' names ("encoder", "predict", or a role's encoder).
    """

    share: float
    view: str | None = None
    masked: float | tuple[float, float] | None = None
    held: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Short, and good in the name of a file."""
        masked = self.masked if isinstance(self.masked, tuple) else (self.masked,)
        words = (f"{self.share:g}", self.view, *(f"m{m:g}" for m in masked if m is not None), *self.held)
        return ".".join(word for word in words if word)

    def masks(self, done: float, default: float) -> float:
        """The share that is masked when `done` (0 to 1) of the phase is over."""
        if self.masked is None:
            return default
        if isinstance(self.masked, tuple):
            return self.masked[0] + (self.masked[1] - self.masked[0]) * done
        return self.masked


@dataclass(frozen=True)
class Method:
    """One arm: what it sees, how it is pretrained, how it is adapted to the labels, and which theory predicts it.

    `reads`: each view's features (summaries over visits), its tokens (one a stream and visit; every view but
    cross-modal needs them), the hours themselves, only what was measured (`simlab.models.hours`), or whole stays as
    trajectories (`simlab.trajectories`).
    `streams`: "all", or the one role that it sees ("image", "clinical": the scenario's first and second stream).
    `theory`: what predicts the arm in the Gaussian world: a key of `finite` in `simlab.limits`, "cross_prediction"
    (least squares on what cross-prediction keeps; map of condition number 1 alone), or None.
    `search`: the hyperparameters that a study of design "tune" searches for the arm (`simlab.training.search`); None:
    those that its axes imply.
    `curriculum`: phases of the pretraining, one after the other; none: the same from beginning to end.
    `width`: of each view's representation; None: the setting's.
    `trajectory`: of an arm that reads whole stays, the curriculum of its backbone (`simlab.training.curricula`).
    `archive`: the streams of the records that it is pretrained on, where these have fewer than it sees later.
    `outside`: unlabelled records of the target that it uses, in a sweep: none; "shown" to its trainer; its pretraining
    "continued" on them; or "pooled" with those of the source from the beginning (the last two: arms of features).
    `vectors`: how a transformer over tokens takes in a vector ("linear", or an "mlp").
    `encoder_rate`: fine-tuned encoders' learning rate as a share of the head's; None: the setting's.
    """

    name: str
    meaning: str
    trainer: str
    view: str = "none"
    target: str = "none"
    against_collapse: str = "none"
    predictor: str = "none"
    encoder: str = "linear"
    adaptation: str = "frozen"
    streams: str = "all"
    tuning: str = "cross-validated"
    theory: str | None = None
    reads: str = "features"
    search: tuple[str, ...] | None = None
    curriculum: tuple[Phase, ...] = ()
    width: int | None = None
    trajectory: str = ""
    archive: str = "all"
    outside: str = "none"
    vectors: str = "linear"
    encoder_rate: float | None = None

    def __post_init__(self) -> None:
        for axis, allowed in (
            ("view", VIEWS),
            ("target", TARGETS),
            ("against_collapse", AGAINST_COLLAPSE),
            ("predictor", PREDICTORS),
            ("encoder", ENCODERS),
            ("adaptation", ADAPTATIONS),
            ("streams", STREAMS),
            ("tuning", TUNINGS),
            ("reads", READS),
            ("archive", STREAMS),
            ("outside", OUTSIDE),
            ("vectors", VECTORS),
        ):
            if getattr(self, axis) not in allowed:
                raise OutOfDomain(f"method {self.name}: {axis} = {getattr(self, axis)!r}; known: {', '.join(allowed)}.")
        if (self.view == "none") != (self.target == "none"):
            raise OutOfDomain(f"method {self.name}: view and target are both given, or both none.")
        if self.target == "input" and self.predictor == "none":
            raise OutOfDomain(f"method {self.name}: target = 'input' needs a predictor (linear or mlp) to decode.")
        if self.reads == "features" and (self.view not in ("none", "cross-modal") or self.predictor == "transformer"):
            raise OutOfDomain(f"method {self.name}: view = {self.view!r} and predictor = {self.predictor!r} need "
                              "reads = 'tokens'.")
        if ":" not in self.trainer:
            raise OutOfDomain(f"method {self.name}: trainer = {self.trainer!r}; expected 'module:function'.")
        if (self.reads == "stays") != bool(self.trajectory):
            raise OutOfDomain(f"method {self.name}: reads = 'stays' and a trajectory, the name of a curriculum, go "
                              "together.")
        if self.width is not None and self.width < 1:
            raise OutOfDomain(f"method {self.name}: width = {self.width}; expected at least 1.")
        if self.moves_outside and not (self.pretrained and self.reads == "features"):
            raise OutOfDomain(f"method {self.name}: outside = {self.outside!r} is of a pretraining of features; use "
                              "outside = 'shown'.")
        if self.encoder_rate is not None and self.encoder_rate <= 0:
            raise OutOfDomain(f"method {self.name}: encoder_rate = {self.encoder_rate}; expected a positive number.")
        if self.vectors != "linear" and self.reads != "tokens":
            raise OutOfDomain(f"method {self.name}: vectors = {self.vectors!r} needs reads = 'tokens'.")
        self._check_streams()
        self._check_curriculum()

    def _check_streams(self) -> None:
        """Refuse an arm of one stream that needs both, or that reads what is not told by stream."""
        if self.archive != "all" and (self.streams != "all" or not self.pretrained):
            raise OutOfDomain(f"method {self.name}: archive = {self.archive!r} is of arms that are pretrained on one "
                              "stream and see all later; use streams alone where it never sees another.")
        views = {self.view, *(phase.view for phase in self.curriculum)}
        needs = (
            "pretraining between two views of features takes both" if self.reads == "features" and self.pretrained
            else "the view cross-modal takes both" if views & {"cross-modal", "both"}
            else f"reads = {self.reads!r} is of all streams" if self.reads in ("hours", "mask", "stays") else ""
        )
        which = "streams" if self.streams != "all" else "archive"
        if getattr(self, which) != "all" and needs:
            raise OutOfDomain(f"method {self.name}: {which} = {getattr(self, which)!r}, but {needs}; use 'all', or "
                              "reads = 'tokens' and a view within one stream (visit, token, coordinate, next-step).")

    def _check_curriculum(self) -> None:
        where = f"method {self.name}: curriculum"
        if self.curriculum and not self.pretrained:
            raise OutOfDomain(f"{where} is of a pretraining, and view = 'none' has none.")
        shares = [phase.share for phase in self.curriculum]
        if self.curriculum and (min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9):
            raise OutOfDomain(f"{where}: shares {shares}; expected positive ones that add up to 1.")
        for phase in self.curriculum:
            if phase.view is not None and phase.view not in VIEWS[1:]:
                raise OutOfDomain(f"{where}: view = {phase.view!r}; known: {', '.join(VIEWS[1:])}.")
            if self.reads != "tokens" and (phase.view or phase.masked is not None):
                raise OutOfDomain(f"{where}: view and masked need reads = 'tokens'.")
            if not all(0 < phase.masks(done, 0.5) < 1 for done in (0, 1)):
                raise OutOfDomain(f"{where}: masked = {phase.masked}; expected shares between 0 and 1.")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that the arm sees, the first one first."""
        return STREAMS[1:] if self.streams == "all" else (self.streams,)

    @property
    def pretraining_roles(self) -> tuple[str, ...]:
        """The roles that it is pretrained on: those that it sees, or those that its archive has."""
        return self.roles if self.archive == "all" else (self.archive,)

    @property
    def pretrained(self) -> bool:
        """Whether the arm uses the unlabelled records through gradient pretraining."""
        return self.view != "none"

    @property
    def moves_outside(self) -> bool:
        """Whether its encoders are trained on records of the target, and so anew for each setting of its knobs."""
        return self.outside in ("continued", "pooled")

    @property
    def recipe(self) -> tuple[str, ...]:
        """What pretraining depends on: arms of equal recipe share one pretrained encoder a seed."""
        only = self.streams if self.archive == "all" else self.archive
        more = (only if self.pretrained and only != "all" else "", "_".join(map(str, self.curriculum)),
                f"w{self.width}" if self.width else "", self.trajectory,
                f"vectors-{self.vectors}" if self.vectors != "linear" else "")
        own = (self.view, self.target, self.against_collapse, self.predictor, self.encoder, self.reads)
        return (*own, *filter(None, more))

    def phase(self, step: int, steps: int) -> tuple[Phase, float]:
        """The phase at `step` of `steps`, and how much of it is over (0 at its first step, 1 at its last)."""
        first, done = 0, 0.0
        for phase in self.curriculum or (Phase(1.0),):
            done += phase.share
            end = round(done * steps)
            if step < end:
                break
            first = end
        return phase, (step - first) / max(1, end - first - 1)
