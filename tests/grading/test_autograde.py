"""The whole way through nbgrader: points kept, points lost, broken files told."""


import nbformat
import pytest

from grading import NOTEBOOKS
from grading.__main__ import main
from grading.autograde import autograde, report
from grading.release import source_notebook
from tests.grading.corpus import generate

CHAPTER = "01_sentiment"
WRONG = {  # exercise -> (text in the solution, its replacement)
    "ex1": ("return get_sentiment_scores(list(completions))",
            "return get_sentiment_scores(list(completions))[::-1]"),
    "ex2": ("math.exp(score / temperature) - 1", "math.exp(score / temperature)"),
    "ex2b": ("groups.mean(1, keepdim=True)", "groups.mean()"),
    "ex2c": ('"e": True', '"e": False'),
    "ex3a": ("kl_coef * sum(row) / len(row)", "kl_coef * sum(row)"),
    "ex3b": ("[sum(row) / len(row) for row in ref_logps]", "[sum(row) for row in ref_logps]"),
    "ex4a": ("torch.expm1(log_ratio) - log_ratio", "torch.expm1(-log_ratio) + log_ratio"),
    "ex4b": ("p[there] / q[there]", "q[there] / p[there]"),
}
OTHER_STYLE = {  # right answers, written otherwise
    "ex1": ("return get_sentiment_scores(list(completions))",
            "return [float(get_sentiment_scores([c])[0]) for c in completions]"),
    "ex2": ("[math.exp(score / temperature) - 1 for score in scores]",
            "(torch.tensor(scores, dtype=torch.float64) / temperature).expm1().tolist()"),
    "ex3a": ("[kl_coef * sum(row) / len(row) for row in ref_logps]",
             "[float(kl_coef * torch.tensor(row).mean()) for row in ref_logps]"),
    "ex4a": ("torch.expm1(log_ratio) - log_ratio", "log_ratio.exp() - 1 - log_ratio"),
    "ex4b": ("(p[there] * (p[there] / q[there]).log()).sum()",
             "torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum()"),
}


def solved(**changes):
    notebook = source_notebook(CHAPTER)
    for cell in notebook.cells:
        for old, new in [changes[cell.id]] if cell.id in changes else []:
            assert old in cell.source
            cell.source = cell.source.replace(old, new)
    return notebook


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    course = tmp_path_factory.mktemp("course")
    generate(course, CHAPTER)
    submissions = {
        "perfect": source_notebook(CHAPTER),
        "untouched": nbformat.read(NOTEBOOKS / f"{CHAPTER}.ipynb", as_version=4),
        "all_wrong": solved(**WRONG),
        "other_style": solved(**OTHER_STYLE),
    }
    for student, notebook in submissions.items():
        folder = course / "submitted" / student / CHAPTER
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{CHAPTER}.ipynb")
    broken = course / "submitted" / "broken" / CHAPTER
    broken.mkdir(parents=True)
    (broken / f"{CHAPTER}.ipynb").write_text("{ not a notebook")
    (course / "submitted" / "absent" / CHAPTER).mkdir(parents=True)
    return {result.student: result for result in autograde(course, CHAPTER)}


@pytest.mark.parametrize("student, points", [
    ("perfect", (60, 60)), ("other_style", (60, 60)), ("untouched", (0, 60)),
    ("all_wrong", (0, 60))])
def test_points(results, student, points):
    assert results[student].total == points, report([results[student]])
    assert results[student].manual == (0 if student == "untouched" else 20)


def test_the_untouched_notebook_names_every_exercise(results):
    assert results["untouched"].unsolved == [
        f"Exercise {n}" for n in ("1", "2a", "2b", "2c", "3a", "3b", "4a", "4b")]
    assert results["perfect"].unsolved == []


def test_broken_submissions_get_a_reason_and_the_others_go_on(results):
    assert "not a readable notebook" in results["broken"].problem
    assert "no file" in results["absent"].problem
    assert "broken: 01_sentiment.ipynb is not a readable notebook" in report(
        list(results.values()))


def test_mistakes_of_the_instructor_are_one_line(tmp_path, capsys):
    def refused(said: str, *argv: str) -> None:
        assert main(list(argv)) == 2
        error = capsys.readouterr().err
        assert said in error and error.startswith("error: ") and error.count("\n") == 1

    course = ("--course", str(tmp_path))
    refused("invalid choice", "fly")
    refused("no chapter", "release", "09_none", *course)
    for verb in ("autograde", "feedback", "export"):
        refused("holds no source", verb, CHAPTER, *course)
    refused("holds no source", "export", CHAPTER, "--course", "/no/where")
    assert not list(tmp_path.iterdir()), "not even an empty gradebook"
    generate(tmp_path, CHAPTER)
    (tmp_path / "submitted" / "ada" / CHAPTER).mkdir(parents=True)
    (tmp_path / "new.ipynb").touch()
    refused("new.ipynb/source", "release", CHAPTER, "--course", str(tmp_path / "new.ipynb"))
    refused("holds no assignment '09_none'", "collect", "09_none", str(tmp_path), *course)
    refused("nothing is graded yet", "feedback", CHAPTER, *course)
    refused("no grades", "export", CHAPTER, *course)
    for verb in ("autograde", "feedback"):
        refused("no submission of bob", verb, CHAPTER, *course, "--student", "bob")


@pytest.mark.parametrize("chapter, points", [("02_grpo", 80), ("03_persona", 70),
                                             ("05_off_policy", 80), ("06_project", 80)])
def test_a_chapter_solved_has_all_points_and_untouched_none(tmp_path, chapter, points):
    generate(tmp_path, chapter)
    for student, notebook in {
            "perfect": source_notebook(chapter),
            "untouched": nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4)}.items():
        folder = tmp_path / "submitted" / student / chapter
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{chapter}.ipynb")
    results = {r.student: r for r in autograde(tmp_path, chapter)}
    assert results["perfect"].total == (points, points), report(list(results.values()))
    assert results["untouched"].total == (0, points)
