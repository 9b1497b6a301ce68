"""The whole course in one command: train with and without KL, compare, plot, grade.

    bash setup.sh demo

Real training of the tiny tier with the functions of the solved notebook, then nbgrader on
the solved notebook and on the untouched one.
"""

import shutil
from pathlib import Path

from grading.autograde import autograde, report
from grading.release import generate
from lib import evaluation, plots
from lib.answers import load_answers
from lib.files import read_json
from lib.monitor import BASELINE
from lib.training import RECOMMENDED_BETA, Settings, train

CHAPTER = "01_sentiment"


def demo(out: Path) -> None:
    """Run it all below the folder out, replacing an earlier demonstration."""
    course = out / "course"
    shutil.rmtree(course, ignore_errors=True)
    course.mkdir(parents=True)
    student_notebook = generate(course, CHAPTER)
    solved_notebook = course / "source" / CHAPTER / student_notebook.name

    runs = {"no KL": Settings(), f"KL, beta={RECOMMENDED_BETA}": Settings(beta=RECOMMENDED_BETA)}
    answers = load_answers(solved_notebook, ["sentiment_reward"])
    folders = {}
    for name, settings in runs.items():
        print(f"\ntraining: {name}, 50 steps of 64 completions")
        folders[name] = train(settings, answers, out / settings.resolved().run_name,
                              overwrite=True)

    base = read_json(folders["no KL"] / BASELINE)
    finals = {"base": base["metrics"], **evaluation.finals(folders)}
    print("\n" + evaluation.table(finals))
    scores = {"base": [row["score"] for row in base["rows"]],
              **{name: [row["score"] for row in evaluation.final_rows(folder)]
                 for name, folder in folders.items()}}
    pictures = {"curves.png": plots.history(evaluation.histories(folders)),
                "scores.png": plots.score_histogram(scores),
                "detectors.png": plots.detectors(finals), "frontier.png": plots.frontier(finals)}
    for file, figure in pictures.items():
        plots.save(figure, out / file)
    print(f"\npictures in {out}: {', '.join(pictures)}")
    for name, folder in folders.items():
        row = evaluation.final_rows(folder)[0]
        print(f"{name}: {row['prompt']}{row['completion']}")

    print("\ngrading the solved notebook and the untouched one")
    for student, notebook in (("solved", solved_notebook), ("untouched", student_notebook)):
        folder = course / "submitted" / student / CHAPTER
        folder.mkdir(parents=True)
        shutil.copy(notebook, folder)
    print(report(autograde(course, CHAPTER)))
