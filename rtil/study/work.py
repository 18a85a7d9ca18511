"""A study, opened and run: checkpoints, evaluations, tuning and what it chose, then words, tables and figures.

All runs lie in the study's folder and are the engine's own, so that the same command goes on after a kill, and one with
a changed study computes what is new alone. Shards share the runs as shards of one evaluation do; of tuning, each has
whole candidates with their tuned runs, since a trial waits for the one before. The command without ``--shard`` then
finds all rows and writes what is made of them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rtil.cli.comparison import Comparison, open_evaluation
from rtil.cli.eval import EvalOptions
from rtil.errors import RunError, UserError
from rtil.evaluation.evaluation import Evaluation
from rtil.evaluation.folder import shared, whole
from rtil.evaluation.shards import Shard
from rtil.runs import SETTINGS, holds_run, read_settings, write_settings
from rtil.study import cost, results, training, words
from rtil.study.drawing import write_figure
from rtil.study.folders import before, keep_what_holds
from rtil.study.pages import write_page
from rtil.study.points import panels_of
from rtil.study.runs import ASIDE, Candidate, Run, as_variants, candidates, options_of_run, plain_runs, variant_of
from rtil.study.specification import Study
from rtil.study.tuning import Choice, Tuning, folder_of, read_trials

FIGURES, SUMMARY, WORDS = "figures", "summary.csv", "summary.md"
STUDY = "study"
"""Table of the study's settings.json."""


class StudyWork:
    """A study, opened: every mistake that can show before checkpoints are trained shows here.

    Args:
        study: What is studied.
        out: Its folder.
        shard: Which share is computed; None for all.
        process: Options of ``rtil eval`` that are the process' own: device, devices, batch.

    Raises:
        UserError: Something in the study is not valid, or the folder holds something else.
    """

    def __init__(self, study: Study, out: Path, shard: Shard | None, process: Mapping[str, Any]) -> None:
        self.study, self.out, self.shard, self.process = study, out, shard, process
        if out.is_file():
            raise UserError(f"{out} is a file: --out needs a folder")
        self.there = read_settings(out) if (out / SETTINGS).exists() else {}
        if self.there and not isinstance(self.there.get(STUDY), dict):
            raise UserError(f"{out} holds no study: give another folder as --out")
        training.check_training(study)
        self._check_trained()
        self.plain, self.tuned = plain_runs(study), candidates(study)
        self.untrained = training.missing(study, out)
        self.opened: dict[str, tuple[EvalOptions, Evaluation, dict[str, Any]]] = {}
        if not self.untrained:
            for run in self._firsts():
                self._open(run)
            for candidate in self.tuned:
                self._tuning(candidate)

    def plan(self) -> Iterator[str]:
        """Yield lines that say what would be done."""
        for folder, _, _ in self.untrained:
            yield f"train {folder}"
        for run in self._firsts():
            yield f"evaluation {run.evaluation}, {len(self.plain) // len(self.study.evaluations)} run(s)"
            if run.name in self.opened:
                yield from (f"  {line}" for line in self.opened[run.name][1].plan())
        tune = self.study.tune
        for candidate in self.tuned:
            assert tune is not None  # noqa: S101  runs.candidates
            yield f"tune {candidate.name}: {tune.trials} trials on {tune.images} pictures"
        for name, figure in self.study.figures.items():
            yield f"figure {name}: {figure.kind}"
        device = str(self.process.get("device") or "auto")
        yield str(cost.cost_of(self.study, device))
        yield cost.how_estimated(device)
        yield f"into {self.out}"

    def run(self) -> None:
        """Do all of it, or a shard's share."""
        if self.shard is not None:
            if self.there and self.there != self._settings():
                raise RunError(
                    f"{self.out} holds another study, or an older form of this one: run it once without --shard"
                )
            with shared(self.out, self.shard, self._enter):
                self._compute()
            print(f"shard {self.shard} is done; when all are: the same command without --shard")
            return
        with whole(self.out, resume=holds_run(self.out)):
            write_settings(self.out, self._settings())
            self._compute()
            self._write()

    def _firsts(self) -> list[Run]:
        """Return one run of each evaluation."""
        return list({run.evaluation: run for run in reversed(self.plain)}.values())[::-1]

    def _settings(self) -> dict[str, Any]:
        """Return what the study is; how it was asked for says the same in other words."""
        table = {name: value for name, value in asdict(self.study).items() if name not in ("source", "given")}
        return dict(json.loads(json.dumps({STUDY: table}, default=str)))

    def _enter(self) -> None:
        there = read_settings(self.out) if holds_run(self.out) else {}
        if there and there != self._settings():
            raise RunError(f"{self.out} holds another study than this command: all shards need the same")
        write_settings(self.out, self._settings())

    def _check_trained(self) -> None:
        """Refuse to take a checkpoint for one that it is not."""
        before_ = self.there.get(STUDY, {}).get("checkpoints", {})
        now = self._settings()[STUDY]["checkpoints"]
        for name, checkpoint in now.items():
            earlier = before_.get(name, checkpoint)
            if checkpoint["train"] and earlier["train"] and earlier["train"] != checkpoint["train"]:
                raise UserError(
                    f"checkpoint '{name}' of {self.out} is trained with other options: name it otherwise, or another "
                    "--out"
                )

    def _open(self, run: Run) -> tuple[EvalOptions, Evaluation, dict[str, Any]]:
        if run.name not in self.opened:
            options = options_of_run(self.study, run, self.out, **self.process)
            options.check_task()
            there = before(run.folder(self.out))
            self.opened[run.name] = (options, open_evaluation(options, there), there)
        return self.opened[run.name]

    def _compute(self) -> None:
        with _mistakes_of_a_run():
            for folder, options, seed in self.untrained:
                training.train(folder, options, seed, str(self.process.get("device") or "auto"))
            self.untrained = []
            for run in self.plain:
                self._evaluate(run)
            own = self.tuned if self.shard is None else self.tuned[self.shard.number - 1 :: self.shard.of]
            for candidate in own:
                choice = self._tuning(candidate).run()
                for run in self._tuned_runs(choice):
                    self._evaluate(run, self.shard is None)

    def _evaluate(self, run: Run, is_shared: bool = True) -> None:
        """Compute what is missing of a run; nothing of a run that is whole."""
        options, evaluation, there = self._open(run)
        folder, aside = run.folder(self.out), self.out / ASIDE
        dropped = keep_what_holds(folder, there, evaluation, options, aside)
        if dropped:
            print(f"{folder}: {dropped} rows of an older form of the study are set aside in {aside}")
        print(f"\n== {run.name} ==", flush=True)
        shard = str(self.shard) if self.shard is not None and is_shared else None
        resume = holds_run(folder) and shard is None
        Comparison(replace(options, resume=resume, shard=shard), evaluation).run()
        del self.opened[run.name]  # pictures and checkpoints of one run at a time

    def _tuning(self, candidate: Candidate) -> Tuning:
        tests = {
            digest
            for run in self._firsts()
            for digest in (self.opened[run.name][1] if run.name in self.opened else self._evaluation(run)).content
            if digest
        }
        return Tuning(self.study, candidate, self.out, tests, self.process)

    def _evaluation(self, run: Run) -> Evaluation:
        return open_evaluation(options_of_run(self.study, run, self.out, **self.process))

    def _tuned_runs(self, choice: Choice) -> list[Run]:
        of = choice.candidate
        variant = {**variant_of(self.study, of), **choice.best.settings}
        table = as_variants(self.study, of.evaluation, {tuned_label(of.label): variant})
        return [
            Run(of.evaluation, seed, of.training_seed, table, (of.label, of.checkpoint)) for seed in self.study.seeds
        ]

    def _choices(self) -> list[Choice]:
        found = [Choice(candidate, read_trials(folder_of(candidate, self.out))) for candidate in self.tuned]
        return [choice for choice in found if choice.trials]

    def _write(self) -> None:
        """Write what is made of all rows."""
        study, choices = self.study, self._choices()
        runs = [*self.plain, *(run for choice in choices for run in self._tuned_runs(choice))]
        found = results.collect(study, runs, self.out)
        ratios = results.ratios(study, found)
        words.write_summary(found, self.out / SUMMARY)
        if ratios:
            words.write_ratios(ratios, self.out / words.RATIOS)
        words.write_words(study, found, ratios, choices, self.out / WORDS)
        sentences = words.statements(study, found, ratios, choices)
        print("\n" + "\n".join(f"* {sentence}" for sentence in sentences))
        print(f"\nsummary: {self.out / WORDS}")
        drawn = {}
        for name, spec in study.figures.items():
            panels = panels_of(spec, found, choices)
            if panels:
                drawn[name] = write_figure(spec.title, panels, self.out / FIGURES / name)
                print(f"figure: {drawn[name][1]}")
        print(f"report: {write_page(study, found, sentences, drawn, self.out)}")


def tuned_label(label: str) -> str:
    """Return the name of a method with tuned settings; names of variants have sixteen letters at most."""
    return f"{label.partition('-')[0] if len(label) > 10 else label}-tuned"


@contextmanager
def _mistakes_of_a_run() -> Iterator[None]:
    """Turn what is found wrong in a run that was opened late into what stops work which had begun."""
    try:
        yield
    except RunError:
        raise
    except UserError as error:
        raise RunError(str(error)) from error
