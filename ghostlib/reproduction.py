"""The commands of the reproduction: what the pipeline runs, and what it is set to by hand."""

from __future__ import annotations

import importlib.util
import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(rich_markup_mode=None)

# The modules of ghostlib.measures, stated here so that --help needs no library.
What = Enum("What", {name: name for name in ("classifiers", "rates", "counts", "latencies", "bottleneck",
                                             "detector_rates", "detectors", "published")}, type=str)
Profile = Annotated[str, typer.Argument(help="a profile of experiments.yaml: digits, fashion, cifar100, imagenet, ...")]
ROOT_HELP = "Run it in the repository's root."


@app.command(epilog=ROOT_HELP)
def measure(what: Annotated[What, typer.Argument(metavar="WHAT", help=", ".join(name.value for name in What))],
            profile: Profile) -> None:
    """Train, count or time what a profile's tables and figures show, into results/PROFILE; trainings go on where they
    stopped."""
    check_settings(profile)  # an unknown profile would get a folder of results
    importlib.import_module(f"ghostlib.measures.{what.value}").measure(profile)


@app.command("rates", epilog=ROOT_HELP)
def show_rates(profile: Profile,
               freeze: Annotated[bool, typer.Option("--freeze", help="write the best into experiments.yaml")] = False,
               detectors: Annotated[bool, typer.Option(
                   "--detectors", help="of Table 10's detectors, what `ghostlib measure detector_rates` tried")
                   ] = False) -> None:
    """Print what `ghostlib measure rates` tried, the best rate of each kind of recipe, and experiments.yaml's."""
    from ghostlib.measures import detector_rates, rates

    if detectors:
        if freeze:
            freeze_detector_rate(profile)
        scale, trials = detector_rates.measured(profile)
        typer.echo(detector_rates.table(trials, scale).to_markdown(index=False, floatfmt="g") if scale.tune else
                   detector_rates.given(profile))
        return
    if freeze:
        freeze_rates(profile)
    loaded, trained = rates.measured(profile)
    table = rates.beside_frozen(trained, loaded).reset_index()
    typer.echo(table.to_markdown(index=False, floatfmt="g") if loaded.tune else rates.given(loaded))


@app.command(epilog=ROOT_HELP)
def execute(notebook: Annotated[Path, typer.Argument(help="the notebook")],
            output: Annotated[Path, typer.Argument(help="the executed copy to write")],
            parameter: Annotated[list[str] | None, typer.Option(
                "--parameter", "-p", metavar="NAME=VALUE", help="of the notebook; may be repeated")] = None) -> None:
    """Execute a notebook and store it without what changes from one execution to the next."""
    import yaml

    from ghostlib import notebook as notebooks

    parameters = {}
    for text in parameter or ():
        name, found, value = text.partition("=")
        if not found:
            raise typer.BadParameter(f"-p {text} has no value; write -p {text}=VALUE")
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"-p {text}: {value!r} is no YAML; write a text in quotes ({error})") from error
    notebooks.execute(notebook, output, parameters)


@app.command(epilog=ROOT_HELP)
def verdicts(profile: Profile) -> None:
    """Judge every claim by what is measured at a profile, in seconds: report.json, report.md and their tables."""
    from ghostlib.evidence import report

    report.load(profile).write()


@app.command(epilog=ROOT_HELP)
def profile(name: Profile) -> None:
    """Choose the profile that `dvc repro` runs: its line in params.yaml, and nothing else there."""
    choose_profile(name)


@app.command(epilog=ROOT_HELP)
def site(profile: Profile) -> None:
    """Build the pages of the results there are, results/PROFILE/site."""
    from ghostlib.measures import places
    from ghostlib.site.build import build

    typer.echo(build(places.folder(profile)))


@app.command(epilog=ROOT_HELP)
def readme(profile: Profile = "fashion") -> None:
    """Put what came out at a profile's scale into README.md: the answer in brief, and the claims that matter."""
    from ghostlib.evidence.summary import insert
    from ghostlib.files import write_atomic
    from ghostlib.measures import places

    path = Path("README.md")
    text = path.read_text(encoding="utf-8")
    for name in ("answer", "summary"):
        if not (source := places.folder(profile) / f"{name}.md").exists():
            raise FileNotFoundError(f"{source} does not exist; `ghostlib verdicts {profile}` writes it")
        text = insert(text, name, source.read_text(encoding="utf-8"))
    write_atomic(path, text)


@app.command(epilog=ROOT_HELP)
def plan(profile: Annotated[str | None, typer.Argument(help="a profile; by default params.yaml's")] = None,
         untimed: Annotated[bool, typer.Option("--untimed", help="counts alone, at once")] = False,
         price: Annotated[float | None, typer.Option(min=0, help="of an hour of this machine (EUR)")] = None,
         check: Annotated[bool, typer.Option("--check", help="exit with status 1 if something is missing")] = False,
         ) -> None:
    """Tell what a profile's trainings will take here: how many are left, hours, memory, disk, and what is missing.

    A few steps of each kind of training are timed, which takes minutes; finished trainings need no timing.
    """
    from ghostlib.plan import estimate, missing
    from ghostlib.plan import plan as planning
    from ghostlib.runs.store import Store
    from ghostlib.training.profile import load_params

    params, store = load_params(), Store()
    check_settings(name := profile or params["profile"])
    planned, costs = planning.make(name, params, store), None
    lacking = [*filter(None, [planned.missing]), *missing.of_trainings(planned.profile, planned.left)]
    if not untimed and not missing.device(planned.profile) and not missing.batches(planned.left):
        costs = estimate.costs_of(planned.left, planned.finished, planned.splits and planned.splits.train)
        lacking += missing.disk(store.root, sum(estimate.bytes_left(planned.left, costs)))
    typer.echo(planning.text(planned, costs, lacking, price))
    if check and lacking:
        raise typer.Exit(1)


@app.command(epilog=ROOT_HELP)
def runs(profile: Annotated[str | None, typer.Argument(help="only what this profile asks for or was trained for it")]
         = None,
         clear: Annotated[list[str] | None, typer.Option(
             "--clear", metavar="stale|unfinished|KEY", help="remove such runs; may be repeated")] = None,
         yes: Annotated[bool, typer.Option("--yes", help="do not ask first")] = False,
         adopt: Annotated[Path | None, typer.Option(help="copy finished runs of another store's folder")] = None,
         restore: Annotated[str | None, typer.Option(
             metavar="PROFILE", help="take the classifiers whose results are in results/PROFILE as finished")] = None,
         ) -> None:
    """List the stored runs; remove some, copy another store's, or go on from written results.

    A stale run is one that no profile asks for.
    """
    from ghostlib.measures import places, restored
    from ghostlib.plan import wanted
    from ghostlib.runs import listing
    from ghostlib.runs.store import Store
    from ghostlib.training.profile import load_params, load_profile

    params, store = load_params(), Store()
    if adopt:
        copied, here, refused = listing.adopt(adopt, store)
        typer.echo(f"{len(copied)} runs copied from {adopt}, {len(here)} were here.")
        typer.echo("".join(f"not copied: {told}\n" for told in refused), nl=False)
    if restore:
        taken, left_out, others = restored.restore(restore, store)
        typer.echo(f"{len(taken)} runs restored from {places.folder(restore)}, without their weights.")
        for why, keys in {"their weights are needed, or not all that they measure is written": left_out,
                          "by the settings, images, libraries, code or device of now they are others": others}.items():
            if keys:
                typer.echo(f"{len(keys)} left out: {why}.")
        if elsewhere := restored.trained_elsewhere(restore, taken):
            typer.echo(f"They were trained on {elsewhere}. What is trained here, teachers too, ends in other bits: a "
                       "table of both compares machines. An empty store (GHOSTLIB_RUNS=FOLDER) trains it whole.")
    found = listing.stored(store)
    asked = wanted.askers(found, params)
    if profile:
        load_profile(profile, params)  # an unknown one would have no runs
        found = wanted.of_profile(profile, found, asked)
    chosen = wanted.chosen(clear or [], found, asked)
    typer.echo(wanted.table(chosen if clear else found, asked))
    if chosen and (yes or typer.confirm(f"Remove them from {store.root}?")):
        stay = listing.remove(chosen)
        typer.echo(f"{len(chosen) - len(stay)} removed; {len(stay)} stay, which are being trained.")


def evaluate_published(data: Path | None, weights: Path | None, rows: list[str], **options: Any) -> None:
    """Scores the public weights of Table 9's rows, and prints them beside the paper's numbers.

    Args:
        data: as for `published.find_images`.
        weights: a folder; by default the one that the stage looks in.
        rows: as for `published.find_rows`.
        options: of `published.score`.
    """
    from ghostlib.exhibits import published as exhibit
    from ghostlib.measures import published

    chosen, images = published.find_rows(rows), published.validation_images(published.find_images(data))
    failed = published.score(images, chosen, weights or published.FOLDER, **options)
    table = exhibit.table(published.scored(chosen, images))
    typer.echo(table[table["Row"].isin(chosen)].to_markdown(index=False, disable_numparse=True))
    if len(images) != published.IMAGES:
        typer.echo(f"Of {len(images)} images; tables show only what is of all {published.IMAGES}.")
    else:
        typer.echo("To show them in the tables: ghostlib measure published PROFILE, then make repro.")
    if failed:
        raise FileNotFoundError("not every row was scored\n" + "\n".join(failed))


def check_settings(name: str) -> None:
    """Checks all that params.yaml and experiments.yaml say of a profile: hours pass before the last of it is used.

    Raises:
        ConfigError: something in them cannot be meant; the message says where.
    """
    from ghostlib.config import ConfigError
    from ghostlib.detection.rehearsal import check
    from ghostlib.detection.run import runs
    from ghostlib.detection.scale import read_scales
    from ghostlib.measures import rates
    from ghostlib.paper import labels
    from ghostlib.training.profile import load_params, load_profile

    params = load_params()
    if Path("dvc.yaml").exists():
        expected = re.findall(r"/curves/([\w.-]+)\.csv: ", Path("dvc.yaml").read_text(encoding="utf-8"))
        if absent := sorted(set(expected) - params["experiments"].keys()):
            raise ConfigError(f"experiments.yaml: experiments lacks {', '.join(absent)}, whose results dvc.yaml "
                              f"expects; put it back, and leave {name} out of its `profiles` to train nothing of it")
    profile = load_profile(name, params)
    labels.check(params["experiments"])
    rates.check(profile, params)
    rates.representatives(profile, params)  # of all experiments
    if name in read_scales(params):  # a profile may have no detectors
        detectors = runs(name, params)
        if importlib.util.find_spec("mmdet"):  # else the others can be trained
            check(detectors[0].scale)


def freeze_rates(name: str) -> None:
    """Writes the best rate of each kind into the profile's `rates` in experiments.yaml, and nothing else there.

    Raises:
        ConfigError: the profile chooses no rates, they are not measured as the settings of now ask, or a kind has none
            at which it trains; then nothing changes.
    """
    from ghostlib.config import ConfigError
    from ghostlib.measures import frozen, rates

    loaded, trained = rates.measured(name)
    if loaded.tune is None:
        raise ConfigError(f"{rates.given(loaded)} There is nothing to freeze.")
    best = rates.chosen(trained)["lr_scale"]
    if diverged := [kind for kind in trained["kind"].unique() if kind not in best]:
        raise ConfigError(f"profile {name!r}: {', '.join(map(repr, diverged))} diverged with a seed at every rate; "
                          "give tune.rates smaller ones")
    short = {kind: int(rate) if rate == int(rate) else rate for kind, rate in best.items()}
    frozen.write(("profiles", name), "rates", short)


def freeze_detector_rate(name: str) -> None:
    """Writes the detectors' best rate into the profile's scale in experiments.yaml, and nothing else there.

    Raises:
        ConfigError: no rate is chosen, they are not measured as the settings of now ask, or a training diverged at each
            of them; then nothing changes.
    """
    from ghostlib.config import ConfigError
    from ghostlib.measures import detector_rates, frozen

    scale, trials = detector_rates.measured(name)
    if scale.tune is None:
        raise ConfigError(f"{detector_rates.given(name)} There is nothing to freeze.")
    if (best := detector_rates.chosen(trials)) is None:
        raise ConfigError(f"profile {name!r}: at every rate a detector diverged; give "
                          f"detection.scales.{name}.tune.rates smaller ones")
    frozen.write(("detection", "scales", name), "lr", best)


def choose_profile(name: str, path: Path = Path("params.yaml")) -> None:
    """Sets the `profile:` line of params.yaml, and nothing else in it.

    Raises:
        ConfigError: the profile is unknown or broken, or there is no such line; then nothing changes.
    """
    from ghostlib.config import ConfigError
    from ghostlib.files import write_atomic
    from ghostlib.training.profile import load_params, load_profile

    load_profile(name, load_params(path))
    text, lines = re.subn(r"^profile:.*$", f"profile: {name}", path.read_text(encoding="utf-8"), count=1,
                          flags=re.MULTILINE)
    if not lines:
        raise ConfigError(f"{path} has no line that begins with 'profile:'; add `profile: {name}`")
    write_atomic(path, text)
