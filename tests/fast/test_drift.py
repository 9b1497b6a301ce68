"""Alarms for what is used though no documentation promises it. One test a place."""

import inspect
from importlib.metadata import version


def told(package: str, where: str) -> str:
    return f"{package} {version(package)} is another than the one that {where} was written for"


def test_a_button_belongs_to_the_shell_that_showed_it():
    """lib.monitor.Stop takes this mark away, so that a click is heard while a cell runs."""
    from ipykernel.comm import comm

    assert "_reply_subshell_id" in inspect.getsource(comm), told("ipykernel", "lib/monitor.py")


def test_an_output_widget_can_be_exchanged_in_nbclient():
    """grading.walkthrough.Client registers one that does not ask the kernel back."""
    import nbformat
    from nbclient import NotebookClient

    registry = NotebookClient(nbformat.v4.new_notebook()).widget_registry
    assert "OutputModel" in registry["@jupyter-widgets/output"], told(
        "nbclient", "grading/walkthrough.py")


def test_a_kernel_tells_its_process():
    """grading.walkthrough.Measured reads the peak memory of that process."""
    from jupyter_client.provisioning import LocalProvisioner

    assert hasattr(LocalProvisioner, "pid"), told("jupyter_client", "grading/walkthrough.py")


def test_the_gradebook_has_the_columns_that_are_written():
    """grading.gradebook sets them on nbgrader's own records."""
    from nbgrader.api import Comment, Grade, SubmittedNotebook

    for record, names in ((Grade, "auto_score manual_score needs_manual_grade max_score"),
                          (Comment, "auto_comment"),
                          (SubmittedNotebook, "late_submission_penalty")):
        for name in names.split():
            assert hasattr(record, name), told("nbgrader", "grading/gradebook.py")
