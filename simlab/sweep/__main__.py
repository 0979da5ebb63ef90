"""`python -m simlab.sweep [STUDY]`: run a study, or say what it would do. Imports no array module until it must."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlab.errors import DamagedFile, OutOfDomain, Parser, command
from simlab.sweep import forecast, listing, metrics, plan, stop, study
from simlab.sweep.folder import Folder
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study
from simlab.sweep.screen import duration
from simlab.sweep.standing import Origin

if TYPE_CHECKING:
    from simlab.sweep.finish import Summary

EXAMPLES = """\
examples:
  python -m simlab.sweep                               the default study: a first map, in about a minute
  python -m simlab.sweep --list                        studies, and what is done of each
  python -m simlab.sweep quick --dry-run               what it would cost
  python -m simlab.sweep quick --set h2=0.4 --out runs/quick-noisy
  python -m simlab.sweep quick --publish               keep the finished map in results/quick

Running a command again resumes it. Exit status: 0; 1 some cells failed; 2 bad input; 130 interrupted.
A plug-in (--plugin, or plugins in a study) is Python code that runs: use only files that you trust.
"""


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m simlab.sweep", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
               description="Chart where JEPA pretraining helps and where it hurts.")
    p.add_argument("study", nargs="?", default="quick", metavar="STUDY",
                   help="a study file, or the name of one in ./studies or among the packaged ones (default: quick)")
    p.add_argument("--list", action="store_true", help="list the studies: cells, done, missing, failed")
    p.add_argument("--dry-run", action="store_true", help="say what would run and what it costs; write nothing")
    p.add_argument("--print-config", action="store_true", help="print the resolved study as TOML")
    p.add_argument("--digest", action="store_true", help="print the hash of the finished table; compute nothing")
    p.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/STUDY)")
    p.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                   help="override a key (train.steps=50) or a knob by name or symbol (w_c=0.5, n_labelled=[100,300])")
    p.add_argument("--collect", action="store_true", help="read what is finished so far; compute nothing")
    p.add_argument("--shard", type=_shard, metavar="I/N",
                   help="compute only the I-th of N equal parts (from 1), beside others; then --collect")
    p.add_argument("--cell", type=_index, metavar="I", help="with --seed: compute one cell and seed again, keep its "
                   "artefacts, print its rows")
    p.add_argument("--seed", type=_index, metavar="S", help="see --cell")
    p.add_argument("--artefacts", action="store_true", help="keep embeddings and curves of every cell, seed and arm")
    p.add_argument("--cache", type=Path, metavar="DIR",
                   help="the stage cache's folder (default: runs/.cache for runs in runs/, else DIR/cache)")
    p.add_argument("--cache-mb", type=_count, default=2048, metavar="N", help="its size at most (default: 2048)")
    p.add_argument("--no-cache", action="store_true", help="keep no stage; the same numbers, computed again")
    p.add_argument("--engine", choices=("local", "dask"), default="local", help="what carries jobs (default: local)")
    p.add_argument("--scheduler", metavar="tcp://HOST:PORT", default="", help="the Dask scheduler (default: one here)")
    p.add_argument("--workers", type=_count, metavar="N", help="worker processes (default: one a core)")
    p.add_argument("--threads", type=_count, default=1, metavar="N", help="threads of each worker (default: 1)")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where encoders are trained (default: cpu)")
    p.add_argument("--retry-failed", action="store_true", help="compute jobs that hold a failure again")
    p.add_argument("--plugin", dest="plugins", action="append", default=[], metavar="FILE.py",
                   help="execute this file first; it may register worlds and methods")
    p.add_argument("--publish", action="store_true", help="copy what is small of a finished run to results/STUDY; "
                   "compute nothing")
    p.add_argument("--with-failures", action="store_true", help="with --publish: also a run with failures or a leak")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    p.add_argument("--quiet", action="store_true", help="no progress, no map")
    return p


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def _index(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    first, slash, every = text.partition("/")
    if not (slash and first.isdecimal() and every.isdecimal() and 1 <= int(first) <= int(every)):
        raise argparse.ArgumentTypeError(f"'{text}' is no part: expected I/N with I from 1 to N, as in 3/8")
    return int(first), int(every)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other. Raises OutOfDomain."""
    if (args.cell is None) != (args.seed is None):
        raise OutOfDomain("--cell and --seed go together: --cell I --seed S.")
    if args.scheduler and args.engine != "dask":
        raise OutOfDomain("--scheduler is Dask's: add --engine dask.")
    if args.with_failures and not args.publish:
        raise OutOfDomain("--with-failures says how to publish: add --publish.")
    kinds = ("collect", "shard", "cell", "digest", "dry_run", "publish")
    one_of = [name for name in kinds if getattr(args, name) not in (None, False)]
    if len(one_of) > 1:
        raise OutOfDomain(f"--{one_of[0].replace('_', '-')} and --{one_of[1].replace('_', '-')}: give one of them.")


def _options(out: Path, args: argparse.Namespace, function: str | None) -> Any:
    """How the run is done, from the command line."""
    from simlab.sweep import driver

    cache = args.cache or (Path("runs") / ".cache" if out.parent == Path("runs") else out / "cache")
    return driver.Options(out, args.workers, args.threads, args.device, args.quiet, args.retry_failed,
                          function or driver.RUN_JOB, "" if args.no_cache else str(cache.resolve()), args.cache_mb,
                          args.shard, args.collect, args.artefacts, args.engine, args.scheduler,
                          origin=Origin(study.locate(args.study), tuple(args.overrides), tuple(args.plugins)))


def main(argv: list[str] | None = None, function: str | None = None) -> int:
    """The command. `function` ("module:function") takes the place of the job that computes cells (for tests)."""
    args = parser().parse_args(argv)
    _check(args)
    if args.list:
        return listing.show(args.plugins, args.workers, args.json)
    chosen = study.load(args.study, args.overrides, args.plugins)
    out = args.out or Path("runs") / chosen.name
    chosen = Folder(out).adopt(chosen)
    if args.print_config:
        print(study.dump(chosen), end="")
        return 0
    if args.dry_run:
        return _dry_run(chosen, out, args, probe=function is None)
    if args.digest:
        return _digest(chosen, out)
    if args.publish:
        return _publish(chosen, out, args)
    if args.cell is not None:
        return _single(chosen, out, args, function)
    return _run(chosen, out, args, function)


def _run(chosen: Study, out: Path, args: argparse.Namespace, function: str | None) -> int:
    from simlab.sweep import driver, tune
    from simlab.sweep import search as searching

    _have(args.device)
    options = _options(out, args, function)
    if not args.quiet:
        print(_headline(chosen, out), *filter(None, [metrics.empty(chosen)]), sep="\n", file=sys.stderr)
    if function is None and args.shard is None and not args.collect:
        plan.check_budget(chosen)
        foretold = _foretell(chosen, out, args)[0]
        search = chosen.design.kind == "boundary"  # how many batches it will take, nobody knows
        if not search and foretold.seconds is not None:
            options = replace(options, estimate=round(foretold.seconds, 1))
        if foretold.seconds and not args.quiet:
            most = ""
            if search:
                seconds = forecast.at_most(chosen, foretold.seconds)["seconds_at_most"]
                most = f" for these cells, all at most {duration(seconds)}"
            print(f"about {duration(foretold.seconds)}{most} ({foretold.basis})", file=sys.stderr)
    with stop.polite_end():
        try:
            runner = {"tune": tune.run, "boundary": searching.run}.get(chosen.design.kind, driver.run)
            summary = runner(chosen, options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(chosen, out)) from None
    if args.json:
        print(json.dumps({**summary.as_json(), "estimated_seconds": options.estimate}, indent=1, allow_nan=False))
    elif not args.quiet:
        print(summary.text)
        print(_part(args) if args.shard else _closing(summary, args.study, options.estimate))
    for failure in summary.failures[:20]:
        print("failed: cell {cell}, seed {seed}, {method}: {status}, {error}".format(**failure), file=sys.stderr)
    if len(summary.failures) > 20:
        print(f"... and {len(summary.failures) - 20} more; all are rows of {summary.folder.table}", file=sys.stderr)
    if summary.failures:
        print("the rest is kept; --retry-failed computes these jobs again", file=sys.stderr)
    if summary.leak:
        print(f"error: {summary.leak}", file=sys.stderr)
    return 1 if summary.failures or summary.leak else 0


def _have(device: str) -> None:
    """Refuse a device that is not there, before anything is timed, sampled or written. Raises OutOfDomain."""
    if device != "cpu":  # torch takes seconds to import
        importlib.import_module("simlab.training.device").find(device)


def _kept(chosen: Study, out: Path) -> str:
    """What an interrupt left, and how to go on."""
    chosen = listing.grown(Folder(out), chosen)
    jobs, there = plan.jobs(chosen), Folder(out).finished()
    return (f"{sum(job.index in there for job in jobs)} of {len(jobs)} jobs are finished and kept in {out}; run the "
            "same command again to go on")


def _headline(chosen: Study, out: Path) -> str:
    if chosen.design.kind == "boundary":
        return f"{chosen.name}: a search, {forecast.search_words(chosen)}, {len(chosen.arms)} arms, into {out}"
    return (f"{chosen.name}: {plan.n_cells(chosen)} cells x {chosen.n_seeds} seeds, {len(chosen.arms)} arms, "
            f"{plan.trainings(chosen)} pretrainings in all, into {out}")


def _single(chosen: Study, out: Path, args: argparse.Namespace, function: str | None) -> int:
    """One cell and seed by itself."""
    from simlab.sweep import single, tune

    _have(args.device)
    if chosen.design.kind == "tune":
        chosen, function = tune.settled(chosen, Folder(out)), tune.COMPARE
    with stop.polite_end():
        found = single.run(chosen, _options(out, args, function), args.cell, args.seed)
    if args.json:
        print(json.dumps({"cell": found.cell, "seed": found.seed, "knobs": found.knobs, "rows": found.rows,
                          "files": found.files, "as_in_table": found.as_in_table}, indent=1, allow_nan=False))
    else:
        print(found.text)
    return 1 if found.as_in_table is False or any(row["status"] != "ok" for row in found.rows) else 0


def _part(args: argparse.Namespace) -> str:
    return (f"part {args.shard[0]} of {args.shard[1]} is done; when all are: python -m simlab.sweep {args.study} "
            "--collect (with the same --set and --out)")


def _closing(summary: Summary, name: str, foretold: float | None) -> str:
    """Where things lie, and what to try next."""
    folder, did = summary.folder, "nothing was left to compute"
    if summary.jobs_run:
        known = summary.stages.get("pretraining", {}).get("cached", 0)
        known = 0 if summary.ended else known  # a search finds its own of an earlier batch there
        found = f" ({known} of them found in the cache)" if known else ""
        did = f"{summary.trainings} pretrainings{found}, {duration(summary.seconds)}"
        said = forecast.verdict(foretold, summary.seconds)
        did += f", {said}" if said else ""
    again = f"python -m simlab.sweep {name}"
    return "\n".join([
        f"table    {folder.table}  (digest {summary.digest[:16]}; {did})",
        f"map      {folder.png}, {folder.pdf.name}",
        f"page     {folder.report}  (open it in a browser)",
        f"numbers  {folder.verdicts}, {folder.boundary.name}",
        "",
        "next:",
        f"  {again} --set h2=0.4 --out {folder.path}-noisy        the same map with noisier labels",
        f"  {again} --set nu=0.95 --out {folder.path}-nuisance    a nuisance that both views share",
        "  python -m simlab.limits --set w_c=0.6 --n-labelled 100,300   the best possible, exactly",
        "  docs/sweeps.md                                               write a study of your own",
    ])


def _digest(chosen: Study, out: Path) -> int:
    from simlab.sweep import publish, results

    print(results.digest(publish.finished(chosen, Folder(out))))
    return 0


def _publish(chosen: Study, out: Path, args: argparse.Namespace) -> int:
    from simlab.sweep import publish

    done = publish.publish(chosen, Folder(out), Path("results"), args.with_failures)
    print(json.dumps(done.as_json(), indent=1) if args.json else done.text)
    return 0


def _dry_run(chosen: Study, out: Path, args: argparse.Namespace, probe: bool) -> int:
    plan.check_budget(chosen)
    foretold, jobs, todo, workers = _foretell(chosen, out, args, probe)
    seconds, basis = foretold.seconds, foretold.basis
    facts = {"study": chosen.name, "out": str(out), "cells": plan.n_cells(chosen), "seeds": chosen.n_seeds,
             "arms": len(chosen.arms), "jobs": len(jobs), "jobs_to_do": len(todo),
             "trainings": plan.trainings(chosen), "trainings_to_do": plan.trainings(chosen, todo), "workers": workers,
             "trainings_spared": forecast.spared(chosen, todo),
             "seconds": None if seconds is None else round(seconds), "estimate_from": basis,
             "disk_mb": None if foretold.disk_mb is None else round(foretold.disk_mb, 1)}
    if chosen.design.kind == "boundary":
        facts |= forecast.at_most(chosen, seconds)
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    spared = f" (the stage cache spares {facts['trainings_spared']})" if facts["trainings_spared"] else ""
    print(f"{chosen.name}: {chosen.question}" if chosen.question else chosen.name)
    print(f"  cells      {facts['cells']} ({_shape(chosen)}), {chosen.n_seeds} seeds, {len(chosen.arms)} arms")
    if metrics.empty(chosen):
        print(f"  metric     {metrics.empty(chosen)}")
    print(f"  shards     {facts['jobs']} jobs, each a shard, of which {facts['jobs_to_do']} are to do")
    print(f"  trainings  {facts['trainings']} pretrainings, of which {facts['trainings_to_do']} are to do{spared}")
    about = "" if seconds is None else "about "
    print(f"  time       {about}{duration(seconds)} on {workers} worker{'s' if workers > 1 else ''} ({basis})")
    if foretold.disk_mb is not None:
        print(f"  disk       about {max(1, round(foretold.disk_mb))} MB, the stage cache included")
    if chosen.design.kind == "boundary":
        most = facts["seconds_at_most"]
        about = "" if most is None else "about "
        print(f"  search     {forecast.search_words(chosen)}; {about}{duration(most)} at most")
    print(f"  folder     {out} (nothing was written)")
    return 0


def _shape(chosen: Study) -> str:
    """A design in words."""
    if chosen.design.kind == "sobol":
        return "Sobol points of " + ", ".join(axis.name for axis in chosen.axes)
    if chosen.design.kind == "boundary":
        return f"so far, of {' x '.join(f'{len(axis.values)} {axis.name}' for axis in chosen.axes)}"
    grid = " x ".join(f"{len(axis.values)} {axis.name}" for axis in chosen.axes)
    return f"{grid}; {chosen.tune.trials} tuning trials an arm" if chosen.design.kind == "tune" else grid


def _foretell(
    chosen: Study, out: Path, args: argparse.Namespace, probe: bool = True
) -> tuple[forecast.Forecast, list[Job], list[Job], int]:
    """What the run that these words ask for will take; its jobs, those to do, and on how many workers."""
    cache, there = "" if args.no_cache else "here", Folder(out).finished()
    jobs = plan.jobs(chosen, args.device, args.threads, cache, args.cache_mb)
    if args.retry_failed and chosen.design.kind != "tune":
        there -= _failed(chosen, out, jobs)
    todo = [job for job in jobs if job.index not in there]
    workers = max(1, min(args.workers or os.cpu_count() or 1, len(todo) or 1))
    manifest = Folder(out).read_manifest()
    return forecast.forecast(chosen, todo, workers, manifest, probe), jobs, todo, workers


def _failed(chosen: Study, out: Path, jobs: list[Job]) -> set[int]:
    """The finished jobs that hold a failure, or cannot be read: what `--retry-failed` computes again."""
    from simlab.sweep import results

    folder, found = Folder(out), set[int]()
    there = folder.finished()
    for job in jobs:
        if job.index in there:
            try:
                bad = bool(results.failures(results.read_shard(chosen, job, folder.shard(job))))
            except DamagedFile:
                bad = True
            if bad:
                found.add(job.index)
    return found


if __name__ == "__main__":
    sys.exit(command(main))
