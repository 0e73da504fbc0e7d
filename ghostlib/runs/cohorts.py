"""Which jobs a worker takes next: several that can be trained together, but not so many that others wait for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ghostlib.runs.job import Job, cohort

# What arms share is a seventh of a small network's training, so that with ten of them nearly all of it is saved; each
# more is one more that is lost when its worker is killed, and one more set of weights in memory.
MOST = 10


def in_order(jobs: Collection[Job]) -> list[Job]:
    """Those first that others require, so that these can begin; then the largest, so that none starts last."""
    required = {required.key for job in jobs for required in job.requires}
    return sorted(jobs, key=lambda job: (job.key not in required, -job.work))


def next_cohort(waiting: Sequence[Job], unfinished: Collection[str], workers: int, most: int = MOST) -> list[Job]:
    """The first that can begin, and those that go along with it, as far as a worker's share of the work goes.

    Shares are of the work that can begin. They shrink with it, so that at the end jobs go one by one to whichever
    worker is free, and all workers end at about the same time, whatever the jobs turn out to take.

    Args:
        waiting: jobs in the order of `in_order`.
        unfinished: the keys of jobs that are not finished; one that requires such a job cannot begin.
        workers: among how many the work is divided.
        most: jobs that a worker trains together.

    Returns:
        At most so many jobs of one cohort; none where none can begin.
    """
    ready = [job for job in waiting if not any(required.key in unfinished for required in job.requires)]
    share, chosen = sum(job.work for job in ready) / workers, ready[:1]
    for job in ready[1:]:
        along = cohort(job) is not None and type(job) is type(chosen[0]) and cohort(job) == cohort(chosen[0])
        if along and len(chosen) < most and sum(other.work for other in chosen) + job.work <= share:
            chosen.append(job)
    return chosen
