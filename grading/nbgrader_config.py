# nbgrader's settings for this course. `python -m grading release` copies this file into the
# course folder, so that nbgrader's own commands and formgrader work there unchanged.
c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "grpo"
c.Execute.timeout = 300  # seconds a cell; experiments skip themselves while grading
c.Execute.extra_arguments = ["--Application.log_level=40"]  # errors; not its advice on TCP
c.ClearSolutions.text_stub = "*Your answer here.*"
