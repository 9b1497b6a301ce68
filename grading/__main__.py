"""The instructor's command line: ``python -m grading release|selfcheck|autograde|faults|demo``."""

import argparse
import sys
from pathlib import Path

from grading import COURSE
from lib import CourseError
from lib.__main__ import Parser, command


def build_parser() -> Parser:
    parser = Parser(prog="python -m grading", description="Release and grade the course.")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    release = verbs.add_parser("release", help="generate the students' notebooks")
    release.add_argument("chapter", nargs="*", help="default: all")
    verbs.add_parser("selfcheck", help="are the released notebooks fresh and free of answers?")
    grade = verbs.add_parser("autograde", help="grade the submissions of an assignment")
    grade.add_argument("assignment")
    grade.add_argument("--student", action="append", help="only this one; may be repeated")
    for verb in (release, grade):
        verb.add_argument("--course", type=Path, default=COURSE, help="nbgrader course folder")
    faults = verbs.add_parser("faults", help="which planted faults do the hidden tests catch?")
    faults.add_argument("chapter", nargs="*", help="default: all that have a fault bank")
    demo = verbs.add_parser("demo", help="train, compare and grade, as a demonstration")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"))
    return parser


def run(args: argparse.Namespace) -> None:
    if args.verb == "release":
        from grading.release import release

        for path in release(args.course, args.chapter):
            print(f"released {path}")
    elif args.verb == "selfcheck":
        from grading.release import problems

        if found := problems():
            raise CourseError("; ".join(found))
        print("the released notebooks are fresh and hold no answer")
    elif args.verb == "autograde":
        from grading.autograde import autograde, report

        print(report(autograde(args.course, args.assignment, args.student)))
    elif args.verb == "faults":
        from grading.faults import banks, judge, table

        for chapter in args.chapter or banks():
            if chapter not in banks():
                raise CourseError(f"no fault bank for '{chapter}'; there are {', '.join(banks())}")
            verdicts = judge(chapter)
            print(f"## {chapter}\n\n{table(verdicts)}\n")
            if wrong := [v.variant.name for v in verdicts if not v.as_it_should_be]:
                raise CourseError(f"{chapter}: judged wrongly: {'; '.join(wrong)}")
    else:
        from grading.demo import demo

        demo(args.out)


def main(argv: list[str] | None = None) -> int:
    """Run one command of the instructor's side."""
    return command(build_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
