"""The instructor's command line: ``python -m grading VERB``."""

import argparse
import os
import sys
import zipfile
from datetime import datetime
from pathlib import Path

from grading import COURSE, ROOT
from grading.sandbox.isolation import LEVELS
from lib import CourseError
from lib.__main__ import Parser, command


def build_parser() -> Parser:
    parser = Parser(prog="python -m grading", description="Release and grade the course.")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    release = verbs.add_parser("release", help="generate the students' notebooks")
    release.add_argument("chapter", nargs="*", help="default: all")
    release.add_argument("--overwrite", action="store_true",
                         help="replace notebooks that hold answers of your own")
    verbs.add_parser("selfcheck", help="are the released notebooks fresh and free of answers?")
    grade = verbs.add_parser("autograde", help="grade the submissions of an assignment")
    grade.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    grade.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    grade.add_argument("--regrade", action="store_true", help="also what is graded already")
    grade.add_argument("--late-percent", type=float, metavar="P",
                       help="of the score lost for each day begun after the due date; remembered")
    doctor = verbs.add_parser("doctor", help="what the jail holds on this machine")
    for verb in (grade, doctor):
        verb.add_argument("--isolation", choices=LEVELS, default="strict")
    back = verbs.add_parser("feedback", help="write pages for students")
    take = verbs.add_parser("collect", help="import a download of Canvas, Moodle or Classroom")
    give = verbs.add_parser("export", help="print the grades as CSV")
    board = verbs.add_parser("leaderboard", help="a page of the policies that rewards trained")
    for verb in (grade, back, take, give, board):
        verb.add_argument("assignment")
    for verb in (grade, back):
        verb.add_argument("--student", action="append", help="only this one; may be repeated")
    take.add_argument("download", type=Path, help="a folder or a zip file")
    take.add_argument("--class-list", type=Path, metavar="FILE.csv",
                      help="columns id,first_name,last_name,email,lms_user_id; remembered")
    take.add_argument("--due", type=moment, metavar="YYYY-MM-DDTHH:MM",
                      help="local time, unless it names a zone; remembered")
    give.add_argument("--format", choices=("plain", "canvas", "moodle"), default="plain")
    board.add_argument("--out", type=Path, metavar="FILE.html",
                       help="default: leaderboard/ASSIGNMENT.html in the course")
    for verb in (release, grade, back, take, give, board):
        verb.add_argument("--course", type=Path, default=COURSE, help="nbgrader course folder")
    faults = verbs.add_parser("faults", help="which planted faults do the hidden tests catch?")
    faults.add_argument("chapter", nargs="*", help="default: all that have a fault bank")
    verbs.add_parser("timings", help="execute the chapters, write what each section costs")
    verbs.add_parser("pictures", help="draw the pictures of README and home page anew")
    build = verbs.add_parser("site", help="the walk-through as a static site")
    build.add_argument("--out", type=Path, default=ROOT / "site")
    build.add_argument("--without-answers", action="store_true",
                       help="leave out answers, rubrics and the instructors' page")
    pack = verbs.add_parser("bundle", help="the zip that is handed out")
    pack.add_argument("audience", choices=("student", "instructor"))
    pack.add_argument("--out", type=Path, metavar="FILE.zip", help="default: grpo-AUDIENCE.zip")
    demo = verbs.add_parser("demo", help="train, compare and grade, as a demonstration")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"))
    return parser


def moment(text: str) -> datetime:
    """A date and time of day."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write YYYY-MM-DDTHH:MM") from None


def run_release(args) -> None:
    from grading.release import release

    for path in release(args.course, args.chapter, args.overwrite):
        print(f"released {path}")


def run_selfcheck(args) -> None:
    from grading import chapters
    from grading.release import first_of, problems

    if found := problems():
        raise CourseError(first_of(found))
    print(f"all {len(chapters())} chapters are released, fresh, and hold no answer")


def run_autograde(args) -> None:
    from grading.autograde import NOT_RECORDED, autograde, report

    if args.workers < 1:
        raise CourseError("--workers must be at least 1")
    results = autograde(
        args.course, args.assignment, args.student, workers=args.workers,
        isolation=args.isolation, regrade=args.regrade, scheduler=args.scheduler,
        late_percent=args.late_percent)
    print(report(results))
    if lost := [r.student for r in results if (r.problem or "").startswith(NOT_RECORDED)]:
        raise CourseError(f"graded, but not recorded: {', '.join(lost)}; run autograde again")


def run_doctor(args) -> None:
    from grading.sandbox.doctor import doctor

    facts = doctor(args.isolation)
    for what, holds, seen in facts:
        print(f"{'holds ' if holds else 'BROKEN'}  {what:<36} {seen}")
    if broken := [what for what, holds, _ in facts if not holds]:
        raise CourseError(f"the jail does not hold: {'; '.join(broken)}")
    print("The jail holds. An error on the right is how an attempt to leave it ended.")


def run_feedback(args) -> None:
    from grading.feedback import feedback

    for path in feedback(args.course, args.assignment, args.student):
        print(path)


def run_collect(args) -> None:
    from grading.collect import collect

    done, problems = collect(args.course, args.assignment, args.download, args.class_list,
                             args.due)
    print("\n".join([f"{done} collected", *problems]))
    if not done:
        raise CourseError("nothing was collected; the lines above say why")


def run_export(args) -> None:
    from grading.export import export

    print(export(args.course, args.assignment, args.format), end="")


def run_leaderboard(args) -> None:
    from grading.leaderboard import leaderboard

    print(leaderboard(args.course, args.assignment, args.out))


def run_faults(args) -> None:
    from grading.faults import banks, judge, survivors, table

    for chapter in args.chapter or banks():
        if chapter not in banks():
            raise CourseError(f"no fault bank for '{chapter}'; there are {', '.join(banks())}")
        verdicts = judge(chapter)
        print(f"## {chapter}\n\n{table(verdicts)}\n")
        caught, kept = survivors(chapter)
        print(f"{caught} mutants lose the points, {len(kept)} keep them:\n")
        for mutant, reason in kept.items():
            print(f"- {mutant.exercise} {mutant.name}: {reason or 'SURVIVES'}")
        if wrong := [v.variant.name for v in verdicts if not v.as_it_should_be]:
            raise CourseError(f"{chapter}: judged wrongly: {'; '.join(wrong)}")


def run_timings(args) -> None:
    from grading.walkthrough import timings

    print(timings())


def run_pictures(args) -> None:
    from grading.pictures import pictures

    for path in pictures():
        print(path)


def run_site(args) -> None:
    from grading.walkthrough import site

    print(site(args.out, answers=not args.without_answers))


def run_bundle(args) -> None:
    from grading.bundle import bundle

    path = bundle(args.audience, args.out)
    with zipfile.ZipFile(path) as zipped:
        print(f"{path}: {len(zipped.namelist())} files for the {args.audience}")


def run_demo(args) -> None:
    from grading.demo import demo

    demo(args.out)


RUN = {"release": run_release, "selfcheck": run_selfcheck, "autograde": run_autograde,
       "doctor": run_doctor, "feedback": run_feedback, "collect": run_collect,
       "export": run_export, "leaderboard": run_leaderboard, "faults": run_faults,
       "timings": run_timings, "pictures": run_pictures, "site": run_site,
       "bundle": run_bundle, "demo": run_demo}


def main(argv: list[str] | None = None) -> int:
    """Run one command of the instructor's side."""
    return command(lambda argv: build_parser(), lambda args: RUN[args.verb](args), argv)


if __name__ == "__main__":
    sys.exit(main())
