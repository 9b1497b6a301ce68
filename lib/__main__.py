"""The command line: ``python -m lib``, then train, evaluate, compare, plot, analyze, chat,
export, search or preflight.

Flags may be written with dashes or underscores. A user's mistake ends in one line and exit
code 2; an interrupted run says how to go on and ends with 130 (after SIGTERM, 143).
"""

import argparse
import dataclasses
import difflib
import errno
import math
import os
import re
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from lib import CourseError, runs
from lib.tasks import BUNDLED, task_class
from lib.tasks.base import Task, flag_of, type_of

TASK_VERBS = ("train", "evaluate", "compare", "search")  # their flags depend on the task


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    task = ""  # behind the verb in the command that lists the flags

    def error(self, message):
        raise CourseError(f"{message}; see {self.prog}{self.task} --help")

    def parse_known_args(self, args=None, namespace=None):
        """The verb's own parser complains of a flag: its help is the one that lists them."""
        known, unknown = super().parse_known_args(args, namespace)
        if (unknown and getattr(known, "question", "") is None
                and not unknown[0].startswith("-")):
            known.question = unknown.pop(0)  # argparse looks for it before the first flag alone
        if unknown:
            flags = re.findall(r"--[a-z-]+", self.format_help())
            near = difflib.get_close_matches(unknown[0], flags, 1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}"
                       + "".join(f"; did you mean {flag}?" for flag in near))
        return known, unknown


def dashes(argv: list[str]) -> list[str]:
    """``--kl_type`` and ``--kl-type`` are the same flag; values are left alone."""
    return [re.sub(r"^--[\w-]+", lambda m: m[0].replace("_", "-"), arg) for arg in argv]


def named_task(argv: list[str]) -> type[Task] | None:
    """The task that a command line names, if its verb takes one: its flags are the task's."""
    if argv[:1] and argv[0] in TASK_VERBS:
        for before, arg in pairwise(argv):
            if arg in BUNDLED or (arg.endswith(".py") and not before.startswith("--")):
                return task_class(arg)
    return None


def build_parser(argv: list[str] = ()) -> Parser:
    """The parser of every verb; those of TASK_VERBS have the flags of the task in argv."""
    task = named_task(list(argv))
    parser = Parser(prog="python -m lib", description="Train, measure and look at a policy.")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    ways = "; ".join(f"{name}: {task_class(name).summary}" for name in BUNDLED)

    def add_verb(verb: str, what: str) -> Parser:
        sub = verbs.add_parser(verb, help=what, description=what)
        if verb in TASK_VERBS:
            sub.task = f" {task.file or task.task}" if task else " TASK"
            sub.add_argument("task", type=a_task, metavar="TASK",
                             help=f"{ways}; or FILE.py with a task of your own")
        return sub

    train = add_verb("train", "train a policy with GRPO")
    search = add_verb("search", "search good settings of the task reasoning with Optuna")
    search.add_argument("--trials", type=int, default=6)
    for sub in (train, search):
        add_train_flags(sub)
        add_task_flags(sub, task or Task)
    for verb, what, models in (("evaluate", "measure one policy", ("model",)),
                               ("compare", "measure two side by side", ("base", "trained"))):
        sub = add_verb(verb, what)
        for name in models:
            sub.add_argument(name, help="tiny, a Hub id, a model folder or a run folder")
        sub.add_argument("--num-prompts", type=int, help="held-out prompts (default: all)")
        add_task_flags(sub, task or Task, measuring=True)
        sub.add_argument("--answers", type=Path, metavar="FILE", help="as for train")
        sub.add_argument("--seed", type=seed, default=0)
        sub.add_argument("--save-plot", type=picture, metavar="FILE",
                         help="write the picture there")

    add_verb("plot", "draw the curves of a run").add_argument("run_dir", type=Path)
    add_verb("analyze", "say how a run went").add_argument("run_dir", type=Path)
    chat = add_verb("chat", "ask a policy")
    chat.add_argument("model", help="a run folder or an exported zip; with --task also tiny, a "
                      "Hub id, a model folder")
    chat.add_argument("question", nargs="?")
    chat.add_argument("--task", type=a_task, metavar="TASK",
                      help="what is asked (default: the run's task)")
    chat.add_argument("--interactive", action="store_true", help="ask until an empty line")
    chat.add_argument("--jsonl", type=Path, metavar="FILE", help="append every answer there")
    chat.add_argument("--temperature", type=float, default=1.0, help="0 is greedy")
    chat.add_argument("--max-completion-length", type=int, help="tokens (default: the run's)")
    chat.add_argument("--seed", type=seed, default=0)
    export = add_verb("export", "a trained policy as a zip, or to the Hub")
    export.add_argument("run_dir", type=Path)
    where = export.add_mutually_exclusive_group(required=True)
    where.add_argument("--zip", type=Path, metavar="FILE")
    where.add_argument("--push-to-hub", metavar="USER/NAME")
    export.add_argument("--private", action="store_true", help="a private Hub repository")
    preflight = add_verb("preflight", "what this machine can do, and how long it takes")
    preflight.add_argument("model", nargs="?", help="also say what memory its training needs")
    return parser


def add_task_flags(parser: Parser, task: type[Task], measuring: bool = False) -> None:
    """A flag for each field of the task, or for those that change how it is measured.

    A flag that is not given stays None: ``Task.of`` knows its default.
    """
    for field in dataclasses.fields(task):
        option, flag = field.metadata["option"], flag_of(field)
        if not flag or (measuring and not option.measuring):
            continue
        kind = type_of(task, field.name)
        default = "" if field.default in (None, dataclasses.MISSING, ()) or kind is bool else (
            f" (default: {plain(field.default)})")
        how = {"action": "store_const", "const": True} if kind is bool else {
            "type": {tuple: weights}.get(kind, kind),
            "metavar": option.metavar or "|".join(option.choices) or None}
        group = parser.add_mutually_exclusive_group() if option.off else parser
        group.add_argument(flag, dest=field.name, help=f"{option.help}{default}".replace("%", "%%"),
                           **how)
        if option.off:
            group.add_argument(option.off, dest=field.name, action="store_const", const=0.0,
                               help=f"the same as {flag} 0")


def plain(value) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


# Types of flags. When argparse complains of a value it calls it by the name of the function.


def a_task(text: str) -> type[Task]:
    return task_class(text)


def weights(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(number) for number in text.split(","))


def seed(text: str) -> int:
    """A whole number that every library's generator takes."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return int(text)


def picture(text: str) -> Path:
    """A file that a picture can be written to."""
    if Path(text).suffix not in (".png", ".svg", ".pdf", ".jpg"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .png, .svg, .pdf or .jpg")
    return Path(text)


def add_train_flags(p: Parser) -> None:
    """What train wants to know beside the task's settings."""
    add = p.add_argument
    add("--answers", type=Path, metavar="FILE",
        help="notebook or .py with your functions (default: the chapter's notebook)")
    add("--output-dir", type=Path, metavar="DIR", help="default: runs/{task}/{run name}")
    add("--overwrite", action="store_true", help="replace a run that is there already")
    add("--resume-from-checkpoint", metavar="auto|PATH")
    add("--refuse-hopeless", action="store_true",
        help="do not train where a sample shows nothing to learn from")
    add("--wandb", action="store_true", help="report to Weights & Biases")
    add("--wandb-project")
    add("--trackio", action="store_true", help="report to Trackio")


def load_task_answers(args, task: Task) -> tuple[Path | None, dict]:
    """The answers file that args names, or the chapter's notebook; and the functions in it."""
    from lib.answers import default_file, load_answers

    if not task.needed_answers():
        return None, {}
    path = args.answers or default_file(task.chapter)
    return path, load_answers(path, task.needed_answers())


@contextmanager
def solved(answers: Path | None):
    """An exercise that is not solved is a user's mistake, in the file answers."""
    try:
        yield
    except NotImplementedError as error:
        if answers is None:
            raise
        raise CourseError(f"not solved yet in {answers}: {error}") from None


def given_settings(args, measuring: bool = False) -> dict:
    """The settings of the task that its flags say."""
    return {field.name: getattr(args, field.name) for field in dataclasses.fields(args.task)
            if flag_of(field) and (not measuring or field.metadata["option"].measuring)
            and getattr(args, field.name) is not None}


def task_of_flags(args) -> Task:
    """The task with the settings that the flags of train say, checked."""
    import importlib.util

    report_to = tuple(name for name in ("wandb", "trackio") if getattr(args, name))
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise CourseError(f"--{name} needs the package {name}; pip install {name}")
    if args.wandb:
        from lib.trackers import check_login

        check_login()
    return args.task.of(**given_settings(args), report_to=report_to)


def run_train(args) -> None:
    task = task_of_flags(args)  # a wrong flag is told before anything is imported
    from lib.training import processes, train

    if args.wandb_project:
        os.environ["WANDB_PROJECT"] = args.wandb_project
    answers, functions = load_task_answers(args, task)
    run_dir = args.output_dir or Path("runs") / task.task / task.name()
    try:
        with solved(answers):
            train(task, functions, run_dir, resume=args.resume_from_checkpoint,
                  overwrite=args.overwrite, refuse_hopeless=args.refuse_hopeless)
    except KeyboardInterrupt as stop:
        begun = (run_dir / runs.BASELINE).exists() and not (run_dir / runs.FINAL).exists()
        again = ["--output-dir", str(run_dir), "--resume-from-checkpoint", "auto"] * begun
        raise stop from CourseError("interrupted; go on with: python -m lib "
                                    + shlex.join([*args.argv, *again]))
    if processes().is_main_process:  # the others of a launcher's are silent
        run_analyze(argparse.Namespace(run_dir=run_dir))


def run_evaluate(args) -> None:
    changes = given_settings(args, measuring=True)
    args.task.of(**changes)  # a wrong flag is told before anything is imported
    from lib import evaluation, plots

    policies = {args.model: args.model} if args.verb == "evaluate" else {
        "base": args.base, "trained": args.trained}
    task = evaluation.task_of(args.task, list(policies.values()), changes)
    answers, functions = load_task_answers(args, task) if task.judged_by_answers else (None, {})
    with solved(answers):
        results = evaluation.measure_all(task, functions, policies,
                                         num_prompts=args.num_prompts, seed=args.seed)
    print(evaluation.table({name: r["metrics"] for name, r in results.items()}, args.task))
    if args.save_plot:
        plots.save(plots.comparison(results, args.task), args.save_plot)
        print(f"picture: {args.save_plot}")


def run_plot(args) -> None:
    history = runs.read_history(args.run_dir)
    from lib import plots
    from lib.tasks import task_of_run

    plots.save(plots.history({args.run_dir.name: history}, task_of_run(args.run_dir)),
               args.run_dir / runs.CURVES)
    print(f"picture: {args.run_dir / runs.CURVES}")


def run_analyze(args) -> None:
    runs.finished(args.run_dir)
    from lib import evaluation

    print("\n".join(evaluation.verdict(args.run_dir)))


def run_chat(args) -> None:
    question = (args.question or "").strip()
    if not question and not args.interactive:
        raise CourseError("chat needs a question, or --interactive")
    length = args.max_completion_length
    if not 0 <= args.temperature < math.inf or (length is not None and length < 1):
        raise CourseError("--temperature must not be negative, --max-completion-length at least 1")
    from lib import chat, export

    with export.unpacked(args.model) as path:
        asker = chat.Asker(path, task=args.task, temperature=args.temperature, seed=args.seed,
                           max_completion_length=length, jsonl=args.jsonl, name=args.model)
        if question:
            print(asker(question))
        if args.interactive:
            chat.interactive(asker, sys.stdin or ())  # a shell may close it


def run_export(args) -> None:
    if args.zip and args.private:
        raise CourseError("--private goes with --push-to-hub; a zip is where you put it")
    from lib import export

    print(export.to_zip(args.run_dir, args.zip) if args.zip else
          export.to_hub(args.run_dir, args.push_to_hub, private=args.private))


def run_search(args) -> None:
    if args.task.task != "reasoning":
        raise CourseError("search knows the task reasoning alone")
    if args.num_generations or args.reward_weights:
        raise CourseError("search chooses --num-generations and --reward-weights; leave them out")
    task = task_of_flags(args)
    from lib.search import search

    answers, functions = load_task_answers(args, task)
    with solved(answers):
        search(task, functions, args.output_dir or Path("runs") / "search", args.trials)


def run_preflight(args) -> None:
    from lib import preflight

    print(preflight.report() if args.model is None else "\n".join(preflight.plans(args.model)))


COMMANDS = {"train": run_train, "evaluate": run_evaluate, "compare": run_evaluate,
       "plot": run_plot, "analyze": run_analyze, "chat": run_chat,
       "export": run_export, "search": run_search, "preflight": run_preflight}


def main(argv: list[str] | None = None) -> int:
    """Run one command of the students' side."""
    return command(build_parser, lambda args: COMMANDS[args.verb](args), argv)


def command(build_parser, run, argv: list[str] | None) -> int:
    """Parse and run one command line; 0, 2 after a user's mistake, 130 after Ctrl-C: in one line.

    build_parser: argv -> the parser. As a shell expects, 130 after Ctrl-C, 143 after SIGTERM, and
    141 where nobody reads any more.
    """
    argv = dashes(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # a terminal may know fewer characters
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with terminable():
            try:
                args = build_parser(argv).parse_args(argv)
                args.argv = argv
                run(args)
            finally:
                print(end="", flush=True)  # a closed pipe is told now, not while Python ends
    except CourseError as error:
        return fail(error)
    except KeyboardInterrupt as error:
        number = next((arg for arg in error.args if isinstance(arg, int)), signal.SIGINT)
        return fail(error.__cause__ or "stopped; what was finished is kept", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # of a file: not ours to foresee, but the user's to mend
        # tempfile's, where no folder takes a file, is the one "no such file" that names none.
        nowhere = error.errno == errno.ENOENT and error.filename is None
        if nowhere or error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(f"{error.filename or 'a disk'}: {error.strerror}; free some space")
        if error.filename is None:
            raise
        return fail(f"{error.filename}: {error.strerror}; choose another path, or free this one")
    return 0


def fail(said, code: int = 2) -> int:
    """Tell a mistake in one line; the exit code."""
    print(f"error: {' '.join(str(said).split())}", file=sys.stderr)
    return code


@contextmanager
def terminable():
    """Within the block a SIGTERM is a KeyboardInterrupt with its number, so that files are left
    in order."""
    def stop(number, frame):
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
