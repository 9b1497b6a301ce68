"""The command line: ``python -m lib``, then train, evaluate, compare, plot, analyze, chat,
export, search or preflight.

Flags may be written with dashes or underscores. A user's mistake ends in one line and exit
code 2; an interrupted run says how to go on.
"""

import argparse
import difflib
import math
import re
import sys
from contextlib import contextmanager
from pathlib import Path

from lib import CourseError
from lib.tasks import CHAPTERS, run_class


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    def error(self, message):
        raise CourseError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):
        """The verb's own parser complains of a flag: its help is the one that lists them."""
        known, unknown = super().parse_known_args(args, namespace)
        if (unknown and getattr(known, "question", "") is None
                and not unknown[0].startswith("-")):
            known.question = unknown.pop(0)  # argparse looks for it before the first flag alone
        if unknown:
            near = difflib.get_close_matches(unknown[0], self._option_string_actions, 1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}"
                       + "".join(f"; did you mean {flag}?" for flag in near))
        return known, unknown


def dashes(argv: list[str]) -> list[str]:
    """``--kl_type`` and ``--kl-type`` are the same flag; values are left alone."""
    return [re.sub(r"^--[\w-]+", lambda m: m[0].replace("_", "-"), arg) for arg in argv]


def build_parser() -> Parser:
    parser = Parser(prog="python -m lib", description="Train, measure and look at a policy.")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)

    train = verbs.add_parser("train", help="train a policy with GRPO")
    tasks = train.add_subparsers(dest="task", required=True, parser_class=Parser)
    sentiment = tasks.add_parser("sentiment", help="positive film reviews (chapter 1)")
    add_sentiment_flags(sentiment)
    add_train_flags(sentiment)
    persona = tasks.add_parser("persona", help="change one fact (chapter 3)")
    add_persona_flags(persona)
    add_train_flags(persona)
    reasoning = tasks.add_parser("reasoning", help="a small math reasoner (chapter 4)")
    add_reasoning_flags(reasoning)
    add_train_flags(reasoning)

    for verb, models in (("evaluate", ("model",)), ("compare", ("base", "trained"))):
        p = verbs.add_parser(verb, help={"evaluate": "measure one policy",
                                         "compare": "measure two side by side"}[verb])
        p.add_argument("task", choices=CHAPTERS)
        for name in models:
            p.add_argument(name, help="tiny, a Hub id, a model folder or a run folder")
        p.add_argument("--num-prompts", type=int, help="held-out prompts (default: all)")
        p.add_argument("--prompts", dest="prompt_file", metavar="FILE",
                       help="sentiment: one prompt a line (default: the task's)")
        p.add_argument("--scorer", help="sentiment: star classifier: tiny, a Hub id or a folder")
        p.add_argument("--data", metavar="FILE", help="reasoning: JSONL in GSM8K's format")
        p.add_argument("--answers", type=Path, metavar="FILE", help="as for train")
        p.add_argument("--seed", type=seed, default=0)
        p.add_argument("--save-plot", type=picture, metavar="FILE", help="write the picture there")

    for verb, what in (("plot", "draw the curves of a run"), ("analyze", "say how a run went")):
        verbs.add_parser(verb, help=what).add_argument("run_dir", type=Path)
    chat = verbs.add_parser("chat", help="ask a policy")
    chat.add_argument("model", help="a run folder or an exported zip; with --task also tiny, a "
                      "Hub id, a model folder")
    chat.add_argument("question", nargs="?")
    chat.add_argument("--task", choices=CHAPTERS, help="what is asked (default: the run's task)")
    chat.add_argument("--interactive", action="store_true", help="ask until an empty line")
    chat.add_argument("--jsonl", type=Path, metavar="FILE", help="append every answer there")
    chat.add_argument("--temperature", type=float, default=1.0, help="0 is greedy")
    chat.add_argument("--max-completion-length", type=int, help="tokens (default: the run's)")
    chat.add_argument("--seed", type=seed, default=0)
    export = verbs.add_parser("export", help="a trained policy as a zip, or to the Hub")
    export.add_argument("run_dir", type=Path)
    where = export.add_mutually_exclusive_group(required=True)
    where.add_argument("--zip", type=Path, metavar="FILE")
    where.add_argument("--push-to-hub", metavar="USER/NAME")
    export.add_argument("--private", action="store_true", help="a private Hub repository")
    search = verbs.add_parser("search", help="search good settings with Optuna")
    search.add_argument("task", choices=["reasoning"])
    search.add_argument("--trials", type=int, default=6)
    add_reasoning_flags(search)
    add_train_flags(search)
    verbs.add_parser("preflight", help="what this machine can do, and how long it takes")
    return parser


def add_sentiment_flags(p: Parser) -> None:
    from lib.tasks.sentiment import KL_TYPES, PRESETS, SHAPINGS

    add = p.add_argument
    add("--preset", default="quick", metavar="|".join(PRESETS),
        help="optimizer steps: " + ", ".join(f"{k} {v}" for k, v in PRESETS.items()))
    add("--reward-shaping", default="none", metavar="|".join(SHAPINGS), help="of exercise 2")
    add("--shaping-temperature", type=float, default=0.25, metavar="T", help="its temperature")
    add("--kl-type", default="none", metavar="|".join(KL_TYPES), help="your term in the reward")
    add("--kl-coef", type=float, default=0.1)
    add("--scorer", metavar="tiny|ID|PATH", help="five-star classifier (default: the model's)")
    add("--prompts", dest="prompt_file", metavar="FILE",
        help="one prompt a line (default: the task's)")


def add_persona_flags(p: Parser) -> None:
    add = p.add_argument
    add("--epochs", type=int, default=5, help="passes over the training questions")
    add("--num-samples", type=int, default=128, help="training questions")
    shots = p.add_mutually_exclusive_group()
    shots.add_argument("--fewshot-ratio", type=float, default=0.15,
                       help="share of training prompts that show examples")
    shots.add_argument("--no-fewshot", dest="fewshot_ratio", action="store_const", const=0.0)
    add("--reward-function", default="persona", metavar="persona|robust")
    add("--tie-noise", type=float, default=0.0, help="noise on the rewards: a remedy that is none")


def add_reasoning_flags(p: Parser) -> None:
    add = p.add_argument
    add("--epochs", type=int, default=1, help="passes over the training questions")
    add("--data", metavar="FILE", help="JSONL in GSM8K's format (default: the model's own)")
    add("--reward-weights", type=weights, metavar="W,W,W,W,W",
        help="of correctness, int, strict format, soft format, xmlcount (default: all 1)")


# Types of flags. When argparse complains of a value it calls it by the name of the function.


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
    """The flags that every task has."""
    add = p.add_argument
    add("--model", default="tiny", metavar="tiny|ID|PATH")
    add("--answers", type=Path, metavar="FILE",
        help="notebook or .py with your functions (default: the chapter's notebook)")
    add("--output-dir", type=Path, metavar="DIR", help="default: runs/{task}/{run name}")
    add("--overwrite", action="store_true", help="replace a run that is there already")
    add("--resume-from-checkpoint", metavar="auto|PATH")
    add("--seed", type=seed, default=42)
    add("--max-steps", type=int, help="optimizer steps (default: the task's)")
    add("--learning-rate", type=float, help="default: the model's and the task's")
    add("--beta", type=float, help="TRL's KL(pi||ref) term in the loss (default: the task's)")
    add("--refuse-hopeless", action="store_true",
        help="do not train where a sample shows nothing to learn from")
    add("--use-peft", action="store_true", help="train a LoRA adapter only")
    add("--use-vllm", action="store_true", help="generate with vLLM (needs a GPU)")
    add("--batch-size", type=int, default=16, help="completions a forward pass")
    add("--accumulation", type=int, default=4, help="forward passes a step")
    add("--num-generations", type=int, help="completions a prompt: the group")
    add("--temperature", type=float, default=1.0, help="of sampling")
    add("--max-completion-length", type=int, help="tokens")
    add("--save-steps", type=int, help="steps between checkpoints (default: the task's)")
    add("--wandb", action="store_true", help="report to Weights & Biases")
    add("--wandb-project")
    add("--wandb-run-name")
    add("--trackio", action="store_true", help="report to Trackio")


def load_task_answers(args, settings) -> tuple[Path, dict]:
    """The answers file that args names, or the chapter's notebook; and the functions in it."""
    from lib.answers import default_file, load_answers

    path = args.answers or default_file(args.task)
    return path, load_answers(path, settings.needed_answers())


@contextmanager
def solved(answers: Path | None):
    """An exercise that is not solved is a user's mistake, in the file answers."""
    try:
        yield
    except NotImplementedError as error:
        raise CourseError(f"not solved yet in {answers}: {error}") from None


def settings_of_flags(args):
    """The settings that the flags of train say, checked."""
    import importlib.util

    report_to = tuple(name for name in ("wandb", "trackio") if getattr(args, name))
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise CourseError(f"--{name} needs the package {name}; pip install {name}")
    if args.wandb:
        from lib.trackers import check_login

        check_login()
    settings = run_class(args.task).from_dict(
        {**vars(args), "report_to": report_to, "run_name": args.wandb_run_name})
    settings.resolved()  # complain about flags before anything is read
    return settings


def run_train(args) -> None:
    import os

    from lib.training import train

    if args.wandb_project:
        os.environ["WANDB_PROJECT"] = args.wandb_project
    settings = settings_of_flags(args)
    answers, functions = load_task_answers(args, settings)
    run_dir = args.output_dir or Path("runs") / args.task / settings.name()
    try:
        with solved(answers):
            train(settings, functions, run_dir, resume=args.resume_from_checkpoint,
                  overwrite=args.overwrite, refuse_hopeless=args.refuse_hopeless)
    except KeyboardInterrupt:
        raise CourseError(f"interrupted; go on with the same command and "
                          f"--output-dir {run_dir} --resume-from-checkpoint auto") from None
    run_analyze(argparse.Namespace(run_dir=run_dir))


def run_evaluate(args) -> None:
    from lib import evaluation, plots

    policies = {args.model: args.model} if args.verb == "evaluate" else {
        "base": args.base, "trained": args.trained}
    settings = evaluation.settings_of(args.task, list(policies.values()), {
        name: value for name, value in vars(args).items()
        if name in ("scorer", "prompt_file", "data") and value})
    answers, functions = load_task_answers(args, settings) if settings.judged_by_answers else (
        None, {})
    with solved(answers):
        results = evaluation.measure_all(settings, functions, policies,
                                         num_prompts=args.num_prompts, seed=args.seed)
    print(evaluation.table({name: r["metrics"] for name, r in results.items()}))
    if args.save_plot:
        plots.save(plots.score_histogram(
            {name: [row["score"] for row in r["rows"]] for name, r in results.items()})
            if args.task == "sentiment" else
            plots.detectors({name: r["metrics"] for name, r in results.items()}), args.save_plot)
        print(f"picture: {args.save_plot}")


def run_plot(args) -> None:
    from lib import plots
    from lib.files import read_json
    from lib.monitor import CURVES, HISTORY

    history = read_json(args.run_dir / HISTORY)
    plots.save(plots.history({args.run_dir.name: history}), args.run_dir / CURVES)
    print(f"picture: {args.run_dir / CURVES}")


def run_analyze(args) -> None:
    from lib import evaluation

    print("\n".join(evaluation.verdict(args.run_dir)))


def run_chat(args) -> None:
    from lib import chat, export

    question = (args.question or "").strip()
    if not question and not args.interactive:
        raise CourseError("chat needs a question, or --interactive")
    length = args.max_completion_length
    if not 0 <= args.temperature < math.inf or (length is not None and length < 1):
        raise CourseError("--temperature must not be negative, --max-completion-length at least 1")
    with export.unpacked(args.model) as path:
        asker = chat.Asker(path, task=args.task, temperature=args.temperature, seed=args.seed,
                           max_completion_length=length, jsonl=args.jsonl, name=args.model)
        if question:
            print(asker(question))
        if args.interactive:
            chat.interactive(asker, sys.stdin)


def run_export(args) -> None:
    from lib import export

    if args.zip and args.private:
        raise CourseError("--private goes with --push-to-hub; a zip is where you put it")
    print(export.to_zip(args.run_dir, args.zip) if args.zip else
          export.to_hub(args.run_dir, args.push_to_hub, private=args.private))


def run_search(args) -> None:
    from lib.search import search

    if args.num_generations or args.reward_weights:
        raise CourseError("search chooses --num-generations and --reward-weights; leave them out")
    settings = settings_of_flags(args)
    answers, functions = load_task_answers(args, settings)
    with solved(answers):
        search(settings, functions, args.output_dir or Path("runs") / "search", args.trials)


def run_preflight(args) -> None:
    from lib.preflight import report

    print(report())


RUN = {"train": run_train, "evaluate": run_evaluate, "compare": run_evaluate,
       "plot": run_plot, "analyze": run_analyze, "chat": run_chat,
       "export": run_export, "search": run_search, "preflight": run_preflight}


def main(argv: list[str] | None = None) -> int:
    """Run one command of the students' side."""
    return command(build_parser, lambda args: RUN[args.verb](args), argv)


def command(build_parser, run, argv: list[str] | None) -> int:
    """Parse and run one command line; 0, or 2 after a user's mistake, told in one line."""
    try:
        run(build_parser().parse_args(dashes(sys.argv[1:] if argv is None else argv)))
    except CourseError as error:
        said = str(error)
    except OSError as error:  # of a file: not ours to foresee, but the user's to mend
        if error.filename is None:
            raise
        said = f"{error.filename}: {error.strerror}; choose another path, or free this one"
    else:
        return 0
    print(f"error: {' '.join(said.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
