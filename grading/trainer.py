"""The process that trains policies for the capstone, with the course's own trainer.

    python -m grading.trainer FD

It is trusted and runs nothing of a student's: the rewards of a step are asked for through a
socket. TRL and the models are loaded once; each training is a fork of its own, in one thread, whose
time and memory are bounded. A request on FD carries the socket of a training.
"""

import contextlib
import copy
import gc
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from grading.sandbox import protocol
from grading.sandbox.isolation import PR_SET_PDEATHSIG, keep_only, libc

CPU_SECONDS, MEMORY = 120, 2 * 2**30  # of one training; memory on top of what is loaded
REPEATS = 3, 6  # reviews of each held-out opening, and of each of those elsewhere
SAMPLING = {"temperature": 1.0, "max_completion_length": 40, "seed": 1}
ELSEWHERE = [f"{words} was" for words in (
    "To be fair, the lighting", "Between us, the costume design", "For a rainy evening the show",
    "Last night the play", "By the way, the score", "To my surprise the finale",
    "My sister says the remake", "As expected, the villain", "Without a doubt the cinematography",
    "In my opinion the documentary", "At first the narration",
    "Compared with the book, the adaptation", "After the break the third act",
    "Everyone agrees that the stunt work", "For once the trailer", "Even so, the premise",
    "Seen again, the title song", "As a fan I thought the reboot", "Despite the hype the prologue",
    "All in all the choreography")]


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _unlimited(resource.RLIMIT_AS)  # the limit of the test that needed it first
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    import torch

    torch.set_num_threads(1)
    from lib import models, scoring, training, trl_overrides  # noqa: F401  trl is seconds to import
    from lib.tasks.project import ProjectTask

    loaded = models.load_policy(models.policy_path("tiny", ProjectTask))
    scoring.get_star_probs(["warm"])
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        protocol.send(control, {})
        while True:
            _, files, _, _ = socket.recv_fds(control, 1, 1)
            if not files:
                return  # the grader is gone
            if os.fork() == 0:
                with contextlib.suppress(BaseException):
                    _confine(files[0])
                    _serve(socket.socket(fileno=files[0]), *loaded, Path(folder))
                os._exit(0)
            os.close(files[0])
            protocol.send(control, {})


def _unlimited(which: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (hard, hard))


def _confine(channel: int) -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for which, value in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, mapped + MEMORY)):
        resource.setrlimit(which, (value, value))
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (1, 2):
        os.dup2(null, standard)
    keep_only(channel)


def _serve(channel: socket.socket, policy, tokenizer, folder: Path) -> None:
    settings = protocol.receive(channel, 30)

    def project_reward(completions, star_probs, ref_logps):
        protocol.send(channel, {"asked": [completions, star_probs, ref_logps]})
        return protocol.receive(channel)["rewards"]

    measured = train(project_reward, policy, tokenizer, folder, settings["steps"],
                     settings["seed"])
    protocol.send(channel, {"measured": measured, "seconds": time.process_time()})


def train(project_reward, policy, tokenizer, folder: Path, steps: int, seed: int) -> dict:
    """Train the policy as the notebook's cell does; return the ``figures`` of what it became."""
    from grading.capstone import figures
    from lib.logprobs import completion_logprobs
    from lib.prompts import prompt_ids
    from lib.rewards import RewardFunction
    from lib.rollout import sampled_rows
    from lib.tasks.project import ProjectTask
    from lib.training import run_trainer

    task = ProjectTask.of(max_steps=steps, seed=seed, save_steps=steps)
    reference = copy.deepcopy(policy).requires_grad_(False)
    reward = RewardFunction(
        task, {"project_reward": project_reward}, lambda prompts, ids: completion_logprobs(
            reference, prompt_ids(tokenizer, prompts), ids, tokenizer.pad_token_id),
        observe=lambda step, rows: None)
    rows = task.train_rows({}, task.prompts("train"), steps * task.prompts_per_step)
    with tempfile.TemporaryDirectory(dir=folder) as run_dir:
        trained = run_trainer(task, policy, tokenizer, reference, reward, Path(run_dir), None, rows,
                              [], None)
    sampler = partial(sampled_rows, trained, tokenizer, reference, **SAMPLING)
    return figures(sampler(task.prompts("eval") * REPEATS[0]), sampler(ELSEWHERE * REPEATS[1]))


if __name__ == "__main__":
    main()
