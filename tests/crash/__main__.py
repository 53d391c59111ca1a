"""``python -m tests.crash --rounds 200 --seed 1``: play, judge, report."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from threading import Event
from types import FrameType

from tests.crash.clusterras import Clusterras, OfProcesses, OfSlurm
from tests.crash.judge import Fault, Finding, JobRecord, judge
from tests.crash.play import Play, Played
from tests.crash.rig import Rig
from tests.crash.rounds import Kind, Round, Shape, kinds_here, plan, shapes_here
from tests.e2e.postgres import Postgres
from tests.e2e.postgres import why_not as no_postgres
from tests.slurm.chroot import why_not
from tests.slurm.lab import Lab

WORK = Path(__file__).parents[2] / ".work" / "crash"


def main() -> int:
    """Play the rounds.

    :returns: 0, or 1 where there was anything that must not be.
    """
    options = _options()
    if options.slurm and (why := why_not()):
        # as the tests on the real Slurm do there
        print(f"no rounds, skipped: {why}")
        return 0
    signal.signal(signal.SIGTERM, _stop)
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**6)
    print(f"{options.rounds} rounds, {options.at_once} at once, SEED={seed}", flush=True)
    begin = time.monotonic()
    postgres = None if no_postgres() else Postgres()
    folder = WORK / f"{time.strftime('%H%M%S')}-{seed}"
    with _clusterras(folder, slurm=options.slurm) as clusterras:
        with Rig(folder, clusterras, postgres) as rig:
            print(f"{time.monotonic() - begin:6.0f} s  Airflow and Clusterra are up", flush=True)
            kinds = options.kinds or kinds_here(slurm=options.slurm, postgres=postgres is not None)
            shapes = options.shapes or shapes_here(slurm=options.slurm)
            games = plan(options.rounds, seed, kinds, shapes)
            if options.only:
                games = [game for game in games if game.number in options.only]
            played = list(_play(rig, games, options.at_once, begin))
            rig.settle()
            _keep_logs(rig, played)
        # read once everything has stopped
        jobs = clusterras.jobs()
    findings = judge([task for each in played for task in each.tasks], jobs)
    _keep_jobs(folder, jobs)
    _report(played, jobs, findings, time.monotonic() - begin)
    if findings or len(played) < len(games) or any(each.error for each in played):
        print(f"\nThe logs of every try are in {folder}/rounds. SEED={seed} plays it again.")
        return 1
    shutil.rmtree(folder)
    return 0


@contextmanager
def _clusterras(folder: Path, *, slurm: bool) -> Iterator[Clusterras]:
    if not slurm:
        yield OfProcesses(folder)
        return
    with Lab() as lab:
        yield OfSlurm(lab)


def _stop(number: int, frame: FrameType | None) -> None:
    # make passes it on as well
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, help="otherwise another one each time")
    parser.add_argument("--slurm", action="store_true", help="on a real Slurm, which is set up")
    parser.add_argument("--at-once", type=int, default=10, help="rounds under way at a time")
    parser.add_argument("--kinds", type=Kind, nargs="+", help="only these faults")
    parser.add_argument("--shapes", type=Shape, nargs="+", help="only these tasks")
    parser.add_argument("--only", type=int, nargs="+", help="only these of the rounds")
    return parser.parse_args()


def _play(rig: Rig, games: list[Round], at_once: int, begin: float) -> Iterator[Played]:
    stop = Event()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            plays = [pool.submit(Play(rig, game, stop).run) for game in games]
            for future in as_completed(plays):
                played = future.result()
                _tell(played, begin)
                yield played
        except KeyboardInterrupt:
            print("stopped: what has been played is judged", flush=True)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _tell(played: Played, begin: float) -> None:
    states = " ".join(task.state for task in played.tasks) or played.error
    missed = "" if played.struck else "  (not hit)"
    print(
        f"{time.monotonic() - begin:6.0f} s  {played.game}: {states} "
        f"in {played.seconds:.0f} s{missed}",
        flush=True,
    )


def _report(
    played: list[Played], jobs: list[JobRecord], findings: list[Finding], seconds: float
) -> None:
    counts = Counter(finding.fault for finding in findings)
    game_of = {each.game.number: each.game for each in played}
    for title, name in (("fault", "kind"), ("task", "shape")):
        rounds = Counter(getattr(each.game, name) for each in played)
        struck = Counter(getattr(each.game, name) for each in played if each.struck)
        wrong = Counter(getattr(game_of[finding.task.round], name) for finding in findings)
        print(f"\n{title:<16} {'rounds':>6} {'hit':>6} {'wrong':>6}")
        for each in rounds:
            print(f"{each:<16} {rounds[each]:>6} {struck[each]:>6} {wrong[each]:>6}")
    print(f"{'all':<16} {len(played):>6} {struck.total():>6} {wrong.total():>6}\n")
    for each in played:
        if each.error:
            print(f"round {each.game.number} ({each.game.kind}) was not judged: {each.error}")
    for finding in findings:
        game = game_of[finding.task.round]
        where = f"round {game.number} ({game.kind}, {game.shape})"
        if finding.task.index >= 0:
            where += f" index {finding.task.index}"
        print(f"{where}: {finding.fault}: {finding.words}")
    print(f"\n{len(jobs)} jobs for {sum(len(each.tasks) for each in played)} tasks")
    print(", ".join(f"{fault}: {counts[fault]}" for fault in Fault))
    print(f"{len(played)} rounds in {seconds:.0f} s", flush=True)


def _keep_logs(rig: Rig, played: list[Played]) -> None:
    """Airflow is gone by the time of the verdict; its logs of the tasks are read before."""
    folder = rig.folder / "rounds"
    folder.mkdir()
    source = rig.folder / "airflow" / "logs"
    for each in played:
        run = f"run_id={each.run_id}"
        for log in sorted(source.glob(f"dag_id={each.game.dag_id}/{run}/**/*.log*")):
            name = "-".join(log.relative_to(source).parts[2:])
            shutil.copy(log, folder / f"{each.game.number}-{name}")


def _keep_jobs(folder: Path, jobs: list[JobRecord]) -> None:
    rows = [str(job) for job in sorted(jobs, key=lambda job: (job.task, job.submitted))]
    (folder / "jobs.txt").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
