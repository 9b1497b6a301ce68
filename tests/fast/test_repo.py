"""The house: one source of pins, arrows that point one way, nothing swallowed or left behind."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                             capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return listing.stdout.split()


def test_environment_yml_and_setup_sh_follow_the_pins_of_pyproject():
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    torch = PROJECT["tool"]["course"]["torch"]
    assert pip == [f"torch=={torch}", "-e .[grading,dev]"]
    setup = (ROOT / "setup.sh").read_text()
    assert torch not in setup
    assert not re.search(r"(transformers|trl|nbgrader|jupyterlab)==", setup)


def test_setup_finds_the_torch_pin():
    pin = subprocess.run(
        ["bash", "-c", "sed -n 's/^torch = \"\\(.*\\)\"/\\1/p' pyproject.toml"], cwd=ROOT,
        capture_output=True, text=True, check=True).stdout.strip()
    assert pin == PROJECT["tool"]["course"]["torch"]


def test_setup_refuses_an_unknown_sub_command_in_one_line():
    run = subprocess.run(["bash", "setup.sh", "fly"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "demo|site|test" in run.stderr


def workflow(name: str) -> tuple[dict, list[str]]:
    """A workflow and the commands that its steps run, in order."""
    content = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    [job] = content["jobs"].values()
    return job, [step["run"] for step in job["steps"] if "run" in step]


def test_continuous_integration_runs_the_test_command():
    assert workflow("tests")[1][-1] == ".ci/run" and (ROOT / ".ci" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize("answers, command", [
    ("without", "site --without-answers"), ("", "site --without-answers"), ("with", "site")])
def test_the_published_site_has_answers_only_where_somebody_says_so(tmp_path, answers, command):
    job, [build] = workflow("site")
    assert job["env"]["ANSWERS"].endswith("|| 'without' }}")
    (tmp_path / "setup.sh").write_text('echo "$@" > called\n')
    subprocess.run(["bash", "-e", "-c", build], cwd=tmp_path, check=True,
                   env={"PATH": os.environ["PATH"], "ANSWERS": answers})
    assert (tmp_path / "called").read_text() == f"{command}\n"


@pytest.fixture
def bare(tmp_path):
    """A folder with setup.sh and pins, and a search path with the plainest tools only."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "grading").mkdir()
    for tool in ("bash", "cat", "cksum", "tr", "sed", "df", "awk", "dirname", "uname", "id", "rm",
                 "cut", "basename"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    for file in ("setup.sh", "pyproject.toml"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())

    def setup(**env):
        return subprocess.run(
            ["bash", "setup.sh"], cwd=tmp_path, capture_output=True, text=True,
            env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **env})

    setup.folder = tmp_path
    return setup


def test_setup_without_a_python_says_so(bare):
    run = bare()
    assert run.returncode == 2
    assert run.stderr == ("setup: no Python 3.11 to 3.13 found; install one, or name it: "
                          "PYTHON=/path bash setup.sh\n")
    assert not (bare.folder / ".venv").exists()


def test_setup_without_a_network_says_so(bare):
    run = bare(PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_FIND_LINKS="",
               PIP_CONFIG_FILE="/dev/null")
    assert run.returncode == 2
    assert re.fullmatch(r"setup: cannot install torch [\d.]+; is there a network\? See setup.log\n",
                        run.stderr)


def test_setup_without_disk_space_says_so(bare):
    (bare.folder / "bin" / "df").unlink()
    df = bare.folder / "bin" / "df"
    df.write_text("#!/usr/bin/env bash\necho head\necho disk 9 9 1048576 9% /\n")
    df.chmod(0o755)
    (bare.folder / "bin" / "env").symlink_to(shutil.which("env"))
    run = bare(PYTHON=sys.executable)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("setup: 1 GiB free here, ")
    assert not (bare.folder / ".venv").exists()


def test_setup_works_in_place_and_keeps_a_suitable_torch(bare):
    """As on Colab and in a conda environment: no .venv, torch stays, pip gets the rest."""
    calls = bare.folder / "calls"
    python = bare.folder / "bin" / "python3"
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'if [ "$1 $2" = "-m pip" ]; then echo "$@" >>"{calls}"; exit; fi\n'
        'if [ "$1 $2" = "-m ipykernel" ]; then exit; fi\n'
        'if [ "$1 $2" = "-m lib" ]; then echo preflight; exit; fi\n'
        'case $2 in *sys.prefix*) echo "$HOME"; exit;; esac\n'
        f'exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    run = bare(COLAB_RELEASE_TAG="release-colab")
    assert run.returncode == 0, run.stderr
    assert "keeping the one that is there" in run.stdout and "preflight" in run.stdout
    assert not (bare.folder / ".venv").exists()
    assert "torch==" not in calls.read_text() and "-e .[grading,dev]" in calls.read_text()
    again = bare(CONDA_PREFIX=str(bare.folder), CONDA_DEFAULT_ENV="mine")
    assert again.returncode == 0 and again.stdout == "preflight\n", "the second run does nothing"


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def test_lib_knows_nothing_of_grading_or_solutions():
    for path in (ROOT / "lib").rglob("*.py"):
        assert not imports(path) & {"grading", "solutions", "tests", "nbgrader"}, path


def floors() -> dict[str, int]:
    """Module of lib -> its floor, from CONTRIBUTING.md's table."""
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`([\w.*]+)`", names)}


def lib_imports(path: Path) -> set[str]:
    """The modules of lib that a file imports when it is imported itself."""
    tree, found = ast.parse(path.read_text()), set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "lib":
            found |= {alias.name for alias in node.names
                      if (ROOT / "lib" / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("lib."):
            module = node.module.removeprefix("lib.")
            inner = {f"{module}.{alias.name}" for alias in node.names
                     if (ROOT / "lib" / module / f"{alias.name}.py").exists()}
            found |= inner or {module}
    return found


def test_imports_of_lib_point_to_floors_above():
    """Where a module stands is CONTRIBUTING's to say; whether that is true, the imports'."""
    table = floors()

    def floor(module: str) -> int:
        package = module.split(".")[0]
        return table.get(module) or table.get(f"{package}.*") or table[package]

    upward = []
    for path in sorted((ROOT / "lib").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts)
        module = module.removesuffix(".__init__")
        if module in ("__init__", "tasks"):  # tasks finds a task, wherever it stands
            continue
        upward += [f"{module} -> {other}" for other in lib_imports(path)
                   if floor(other) > floor(module) or (
                       floor(other) == floor(module) and "." not in module and "." not in other)]
    assert upward == []


def test_no_global_ignore_rule_swallows_the_package(tmp_path):
    (tmp_path / "ignore").write_text("lib/\n*.safetensors\n")
    for name in ("lib/models.py", "lib/tiny/weights/review-policy/model.safetensors"):
        ignored = subprocess.run(
            ["git", "-c", f"core.excludesFile={tmp_path / 'ignore'}",
             "check-ignore", "-q", "--no-index", name], cwd=ROOT)
        assert ignored.returncode in (1, 128), f"{name} is ignored"


def test_every_file_that_the_package_needs_is_tracked():
    files = set(tracked())
    needed = {str(p.relative_to(ROOT)) for p in (ROOT / "lib").rglob("*")
              if p.is_file() and "__pycache__" not in p.parts}
    assert needed <= files


def test_the_text_names_no_machine_paths():
    for name in tracked():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".sh", ".yml", ".toml", ".ipynb"):
            found = re.findall(r"/(?:root|work|home/\w+|tmp/\w+)/[\w/.-]*", path.read_text())
            assert not found, f"{name}: {found}"


def test_notebook_code_is_at_most_80_wide():
    import nbformat

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for line in cell.source.splitlines() if cell.cell_type == "code" else []:
                assert len(line) <= 80, f"{path.name}, {cell.id}: {line}"


def texts() -> dict[str, str]:
    """Everything that is read by people as Markdown: pages, and the notebooks' text cells."""
    import nbformat

    found = {name: (ROOT / name).read_text() for name in tracked() if name.endswith(".md")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        found[f"notebooks/{path.name}"] = "\n\n".join(
            cell.source for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown")
    return found


def test_spelling():
    run = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--toml", "pyproject.toml",
         *(name for name in tracked() if name.endswith((".md", ".py", ".sh", ".ipynb", ".toml")))],
        cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_links_lead_somewhere_and_pictures_have_alternative_text():
    for name, text in texts().items():
        text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        assert not re.search(r"!\[\s*\]\(|<img", text), f"{name}: a picture without its text"
        for target in re.findall(r"\]\(([^) ]*)\)", text):
            if not re.match(r"https?://[\w.-]+|#|data:image/", target):
                path = (ROOT / name).parent / target.split("#")[0]
                assert path.exists(), f"{name}: {target}"
