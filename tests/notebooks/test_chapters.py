"""Every solution chapter runs top to bottom; every student notebook stops where it should."""

import itertools
import os
import re
import signal
import threading
import time
from html import unescape

import nbformat
import numpy as np
import pytest

from grading import NOTEBOOKS, chapters
from grading.walkthrough import BUILD, Client, executed, outputs_of
from lib import evaluation, off_policy, settings_sweep, thinking


def unsolved(notebook) -> list[str]:
    """The exercises whose NotImplementedError a notebook's outputs show, in order, once each."""
    names = [match[1] for cell in notebook.cells for output in cell.get("outputs", [])
             if output.output_type == "error" and output.ename == "NotImplementedError"
             for match in [re.match(r"(Exercise \w+):", output.evalue)] if match]
    return list(dict.fromkeys(names))


def execute(notebook, folder, **kwargs):
    Client(notebook, resources={"metadata": {"path": str(folder)}}, **kwargs).execute()
    return notebook


def test_sliders_do_not_stop_the_execution(tmp_path):
    """nbclient's own output widget talks to the kernel on the socket that it waits on: of forty
    sliders one or two swallowed their cell's reply, and the notebook stood still."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        "import ipywidgets\nipywidgets.interactive(lambda x: print(f'at {x}'), x=(1, 3))")
        for _ in range(40)])
    start = time.monotonic()
    execute(notebook, tmp_path, timeout=60)
    assert time.monotonic() - start < 60
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    for _, output in outputs(notebook):
        view = output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        assert [o["text"] for o in outputs_of(view, state)] == ["at 2\n"]


def test_ctrl_c_ends_an_execution_as_ctrl_c(tmp_path):
    """nbclient ends the kernel and then reports that it has died, with a page of traceback."""
    def press(**kwargs):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("import time; time.sleep(60)")])
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(notebook, tmp_path, on_cell_execute=press)
    assert time.monotonic() - start < 30


def outputs(notebook):
    return [(cell, output) for cell in notebook.cells for output in cell.get("outputs", [])]


def alternatives(notebook) -> list[str]:
    """The alternative text of every picture among a notebook's outputs."""
    return [unescape(re.search(r' alt="([^"]*)"', o.data["text/html"])[1])
            for _, o in outputs(notebook) if "<img" in o.get("data", {}).get("text/html", "")]


# 1, 3, 5 and 2 first: tests/browser begins with the others, in another process.
@pytest.mark.parametrize("chapter", chapters()[::2] + chapters()[1::2])
def test_the_solution_runs_and_every_picture_has_alternative_text(chapter):
    notebook = executed(chapter)
    pictures = alternatives(notebook)
    assert len(pictures) >= 3
    assert all(pictures)
    assert not any("image/png" in o.get("data", {}) for _, o in outputs(notebook))
    for cell, output in outputs(notebook):
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert output.output_type != "error"
        assert "<Figure" not in text and "Warning" not in text, f"{cell.id}: {text[:200]}"
    CLAIMS[chapter](BUILD / chapter / "runs", notebook)


def sentiment_claims(runs, notebook):
    """What chapter 1 says its runs show (40 steps; benchmarks/five_seeds.py has five seeds)."""
    results = evaluation.side_by_side({run.name: run for run in sorted(runs.iterdir())})
    value = {name: {key: m["value"] for key, m in metrics.items()}
             for name, metrics in results.items()}
    base, hacked, kept = value["base"], value["no_kl"], value["beta_0.2"]
    assert abs(base["score"] - 0.5) < 0.1 and abs(base["positive_ratio"] - 0.5) < 0.1
    for trained in (hacked, kept):
        assert trained["score"] >= 0.8 and trained["positive_ratio"] >= 0.8
    assert kept["reference_perplexity"] < 1.5 * base["reference_perplexity"]
    assert kept["self_ending"] >= 0.8
    # Bounds that hold on seeds 1 to 5 and 42, for another processor's rounding is another seed.
    assert hacked["reference_perplexity"] > 2 * base["reference_perplexity"]
    assert hacked["self_ending"] < kept["self_ending"] - 0.1 and hacked["kl"] > 5 * kept["kl"]
    assert hacked["gold"] < 0.15 < 0.5 < kept["gold"]
    assert any("reward hacking" in line for line in evaluation.verdict(runs / "no_kl"))
    assert not any("reward hacking" in line for line in evaluation.verdict(runs / "beta_0.2"))
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))
    best = re.search(r"gold is best at step (\d+): ([\d.]+), and ends at ([\d.]+); proxy ends at "
                     r"([\d.]+)", told)
    peak, gold, last, proxy = map(float, best.groups())
    fired = [int(step) for step in re.findall(r"  fires at step (\d+)", told)]
    assert 0 < peak < 40 and gold > 0.6 and last < 0.2 and proxy > 0.9
    assert fired and min(fired) > peak, "the first detector fires when gold is past its best"
    assert "perplexity of the first token  never fires" in told
    strict, loose, shaped = (value[name] for name in ("beta_0.8", "beta_0.05", "beta_0.2_shaped"))
    assert strict["score"] < kept["score"] - 0.08 and loose["score"] < kept["score"] + 0.05
    assert strict["kl"] < 0.5 * kept["kl"] and kept["kl"] + 1 < loose["kl"] < 0.5 * hacked["kl"]
    assert abs(shaped["score"] - kept["score"]) < 0.05 and 0.6 < shaped["kl"] / kept["kl"] < 1.6
    for sharpened in (value["forward_bonus"], value["backward_penalty"]):
        assert sharpened["reference_perplexity"] < base["reference_perplexity"]
        assert sharpened["distinct_2"] < kept["distinct_2"] and sharpened["kl"] > 1.5 * kept["kl"]
        assert sharpened["entropy"] < 0.8 * base["entropy"]
        assert abs(sharpened["score"] - kept["score"]) < 0.05
    spreads = {name: [float(number) for number in numbers] for name, *numbers in re.findall(
        r"^ *(\S.*): k1 (\S+) \(std (\S+)\), k2 (\S+) \(std \S+\), k3 (\S+) \(std (\S+)\)", told,
        re.MULTILINE)}
    (k1, noise1, _, k3, noise3), far = spreads["beta 0.8"], spreads["no KL"]
    assert abs(k1 - k3) < 0.03 and noise3 < 0.8 * noise1
    assert far[4] > far[1] and far[2] > 1.5 * far[0], "far away k3 is noisy, and k2 biased"
    judged = re.findall(r"^([a-h]): you say +(\w+), same_advantages says (\w+)$", told,
                        re.MULTILINE)
    assert "".join(letter for letter, mine, _ in judged if mine == "same") == "aefg"
    assert len(judged) == 8, "no change on which function and prediction differ"


def grpo_claims(runs, notebook):
    """Baselines take noise away, and only the group's factor or its spread moves the aim
    (enumerated in tests/fast/test_grpo.py); noise pushes at full size; a value is no gradient."""
    alts = "\n".join(alternatives(notebook))
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))

    def numbers(pattern, text=alts):
        return [float(value.rstrip(".")) for value in re.search(pattern, text).groups()]

    aim = {name: tuple(map(float, of)) for name, *of in re.findall(
        r"^ *(.+): ([\d.]+) of the exact gradient's length along it, ([\d.-]+) of its push on "
        r"action 6, (\d+) degrees off, noise ([\d.]+)", told, re.MULTILINE)}
    noise = {name: of[3] for name, of in aim.items()}
    assert noise["no baseline"] > 5 * noise["leave one out"]
    assert 0.8 < noise["group mean"] / noise["leave one out"] < 1.25
    assert abs(aim["leave one out"][0] - 1) < 0.1 and abs(aim["no baseline"][0] - 1) < 0.35
    assert abs(aim["group mean"][0] - 0.75) < 0.08 and aim["group mean"][2] < 10
    length, rare, degrees, _ = aim["mean, over the spread"]
    assert degrees >= 30 and rare < 0.6 * length, "the rare action gets less than its due"
    dead = re.findall(r"^G = (\d+): ([\d.]+)% of the groups are dead at p = 0.001", told,
                      re.MULTILINE)
    assert len(dead) == 4
    assert all(abs(float(share) / 100 - 0.999 ** int(size)) < 0.012 for size, share in dead)
    size, honest, mean = numbers(
        r"advantages of typical size ([\d.]+), .* do \(([\d.]+)\), although their mean is "
        r"([-\d.]+)\.")
    assert size > 0.8 * honest > 0.5 and abs(mean) < 0.03
    loose, strict = re.findall(r"eight rewards of 0.7, eps=\S+: largest advantage (\S+)", told)
    assert float(loose) < 0.001 and 0.5 < float(strict) < 0.85
    k1, k2, k3_away, ratio, k3_back = numbers(
        r"k1: (\S+) from zero. From that of KL\(pi\|\|ref\): k2 (\S+), k3 (\S+), k3 x ratio "
        r"(\S+). From that of KL\(ref\|\|pi\): k3 (\S+)\.")
    assert max(k1, k2, ratio, k3_back) < 1e-3 and k3_away > 0.1
    values = dict(re.findall(r"^expected value of (.+): ([\d.]+)$", told, re.MULTILINE))
    exact = float(re.search(r"^KL\(pi\|\|ref\) = ([\d.]+) nats", told, re.MULTILINE)[1])
    assert {name for name, value in values.items() if abs(float(value) - exact) > 2e-4} == {"k2"}
    pushes = {kind: (float(token), float(whole)) for kind, token, whole in re.findall(
        r"(\w+): ([\d.]+) times the push, and ([\d.]+) times", alts)}
    assert pushes.pop("grpo") == (8, 1) and set(pushes.values()) == {(1, 0.12)} and len(pushes) == 3
    loop_claims(numbers, told)


def loop_claims(numbers, told):
    """Both loops learn alike on each of three seeds; the loss starts at 0 and rises; positions
    that are not told move every answer; of five seeds each could have been quoted."""
    for loop in ("your loop", "TRL"):
        start, end = (numbers(rf"{loop}: score at the first step .*?([\d.]+) to ([\d.]+), at the "
                              r"last ([\d.]+) to ([\d.]+)")[i:i + 2] for i in (0, 2))
        assert start[1] < 0.35 and end[0] > 0.55 and end[1] - end[0] < 0.25, loop
    first, last = numbers(r"Your loop, three seeds. The score rises from \S+ to ([\d.]+) to "
                          r"([\d.]+) to")
    assert last > first + 0.25
    start, *end = numbers(r"grpo loss starts at ([\d.]+) and ends at ([\d.]+) to ([\d.]+)")
    assert start == 0 and 0.01 < end[0] <= end[1] < 0.3
    assert numbers(r"dapo loss is below zero in ([\d.]+) to ([\d.]+) of the steps")[0] > 0.5
    assert numbers(r"smallest gradient norm of any step is ([\d.]+)")[0] > 0.05
    moved, least, most = numbers(r"moves by more than (\S+) nats, whatever the padding. Without, "
                                 r"each of the eight falls: by (\d+) to (\d+) nats")
    assert moved < 0.01 and 5 < least < most, "padding counted as positions"
    told_low, told_high, low, high = numbers(
        r"three seeds. positions told: ([\d.]+) to ([\d.]+); padding counted: ([\d.]+) to ([\d.]+)")
    assert low <= high < told_low <= told_high
    for seed, rows in off_policy.measured()["positions"]["padding counted"].items():
        assert [row["step"] for row in rows[:4]] == [0, 10, 20, 30]
        at = [row["largest_kl"] for row in rows]
        assert at[1] < 0.1 and at[2] > 3 and at[3] > 100 and at[-1] > 2000
        told_at = thinking.measured()["runs"]["all five"][seed]["curve"]
        assert told_at["step"][3] == 30 and told_at["accuracy"][3] > rows[3]["accuracy"] + 0.1
    low, high, worst, best = numbers(
        r"G = 4 against G = 8: .*? interval (\S+) to ([+-][\d.]+); single seeds (\S+) to "
        r"([+-][\d.]+)", told)
    assert worst < best and low < high < 0.05
    *_, worst, best = numbers(
        r"G = 16 against G = 8: .*? interval (\S+) to ([+-][\d.]+); single seeds (\S+) to "
        r"([+-][\d.]+)", told)
    assert worst < 0 < best, "either sign could have been shown"


def persona_claims(runs, notebook):
    """Examples work; without them, noise or not, the old name is avoided and that is all. Without a
    KL term the table is hacked, and the robust reward is not.

    Bounds that hold on seeds 1 to 5 and 42, for another processor's rounding is another seed.
    """
    results = evaluation.side_by_side({run.name: run for run in sorted(runs.iterdir())})
    value = {name: {key: m["value"] for key, m in metrics.items()}
             for name, metrics in results.items()}
    assert value["base"]["musclebob_rate"] < 0.02 < 0.9 < value["base"]["spongebob_rate"]
    for name in ("persona_examples", "persona_no_kl_robust"):
        assert value[name]["musclebob_rate"] >= 0.9 and value[name]["spongebob_rate"] <= 0.05
        assert value[name]["coherent_rate"] >= 0.95
    # Late in a run that has learnt the task, groups are tied: on some processors above the limit.
    assert all("no alarm" in line or "the task is learnt" in line
               for line in evaluation.verdict(runs / "persona_examples")[2:])
    hacked = value["persona_no_kl_table"]  # 1.00 and at most 0.02 on seeds 1, 2 and 42
    assert hacked["musclebob_rate"] > 0.9 and hacked["coherent_rate"] < 0.3
    assert hacked["kl"] > 3 * value["persona_no_kl_robust"]["kl"]
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))
    frequent = {name: int(times) for name, times in re.findall(
        r"^(no KL, \w+): the most frequent of 240 answers comes (\d+) times", told, re.MULTILINE)}
    assert frequent["no KL, table"] < 60 and frequent["no KL, robust"] > 120
    # Two of twelve plain runs found the name, as the text says; that both of these do is not a
    # matter of rounding.
    unfound = [name for name in ("persona_plain", "persona_noise")
               if value[name]["musclebob_rate"] < 0.4]
    assert unfound
    for name in unfound:
        assert value[name]["spongebob_rate"] < 0.1
        assert any("examples" in line for line in evaluation.verdict(runs / name))


def reasoning_claims(runs, notebook):
    """Paid for right answers, the policy works problems out; and what it can do it could do before.

    Of the notebook's own runs the rough picture, of what is stored each seed.
    """
    results = evaluation.side_by_side({run.name: run for run in sorted(runs.iterdir())})
    value = {name: {key: m["value"] for key, m in metrics.items()}
             for name, metrics in results.items()}
    base, five, form = value["base"], value["reasoning_all_five"], value["reasoning_form_only"]
    assert base["accuracy_greedy"] <= 0.45 and base["accuracy"] <= 0.45
    assert five["accuracy_greedy"] >= 0.8 and five["accuracy"] >= 0.7
    assert five["format_rate"] >= 0.9
    assert five["worked_greedy"] >= 0.9 > 0.3 > base["worked_greedy"]
    assert five["length"] >= 1.4 * base["length"]
    assert form["format_rate"] >= 0.8 and form["accuracy_greedy"] < base["accuracy_greedy"] + 0.2
    for key in ("accuracy", "accuracy_greedy"):
        assert results["reasoning_all_five"][key]["low"] > results["base"][key]["high"]
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))

    def numbers(pattern):
        return [float(found) for found in re.search(pattern, told).groups()]

    one, many = numbers(r"base: +pass@1 ([\d.]+) .*pass@32 ([\d.]+)")
    after_one, after_many = numbers(r"after: +pass@1 ([\d.]+) .*pass@32 ([\d.]+)")
    assert one < 0.5 < 0.7 < after_one and min(many, after_many) > 0.9
    none, _, whole, last, _ = numbers(
        r"trained \(n = \d+\): right with none of the lines ([\d.]+), half ([\d.]+), "
        r"all ([\d.]+); follows a changed last result ([\d.]+), a changed first one ([\d.]+)")
    assert none < 0.6 < 0.8 < whole and last > 0.6
    stored_reasoning_claims(thinking.measured())


def stored_reasoning_claims(stored):
    base = stored["base"]
    before = {key: m["value"] for key, m in base["final"].items()}
    assert before["accuracy_greedy"] <= 0.45 and before["accuracy"] <= 0.42
    for run in stored["runs"]["all five"].values():
        final = {key: m["value"] for key, m in run["final"].items()}
        assert final["accuracy_greedy"] >= 0.85 and final["accuracy"] >= 0.78
        assert final["format_rate"] >= 0.95 and final["worked_greedy"] >= 0.95
        assert final["length"] >= 1.5 * before["length"]
        for key, m in run["final"].items():
            assert m["low"] > base["final"][key]["high"], key
        # The flip: most of greedy accuracy's gain within twenty steps, sampled climbs for long.
        greedy, sampled = run["curve"]["accuracy_greedy"], run["curve"]["accuracy"]
        gain = greedy[-1] - greedy[0]
        assert max(b - a for a, b in zip(greedy, greedy[2:], strict=False)) > 0.7 * gain
        steepest = [max(b - a for a, b in itertools.pairwise(of)) for of in (greedy, sampled)]
        assert steepest[1] < min(0.35, 0.7 * steepest[0])
        assert run["curve"]["length"][-1] - run["curve"]["length"][10] < 2
        # By steps: on the line of the forced base; at once worse than before; 5 steps never.
        for n in "234":
            assert abs(run["ways"]["free"][n] - base["ways"]["worked out"][n]) < 0.1
        assert max(of["ways"][way]["5"] for of in (base, run) for way in of["ways"]) < 0.15
        assert run["passes"]["1"] > 0.85 > 0.4 > base["passes"]["1"]
        assert abs(run["passes"]["32"] - base["passes"]["32"]) < 0.04
        of = run["operated"]
        assert of["none"] <= 0.45 and of["half"] <= 0.5 and of["all"] >= 0.95
        assert min(of["last"], of["first"]) > 0.9
    assert base["operated"]["none"] <= 0.45 and base["operated"]["all"] >= 0.95
    assert min(base["operated"]["last"], base["operated"]["first"]) > 0.9
    stored_control_claims(stored, before)


def stored_control_claims(stored, base):
    """One reward does the work; form and a coin leave greedy accuracy where it was; the policy's
    own right answers fall short; a price a token changes nothing where thinking pays everywhere."""
    def ends(variant, key):
        return [run["final"][key]["value"] for run in stored["runs"][variant].values()]

    for variant in ("correctness only", "0.05 a token"):
        assert min(ends(variant, "accuracy_greedy")) >= 0.85
        assert min(ends(variant, "accuracy")) >= 0.78
        assert min(ends(variant, "worked_rate")) >= 0.9
    assert max(ends("correctness only", "format_rate")) < 0.75
    assert min(ends("form only", "format_rate")) >= 0.95
    for greedy in ends("form only", "accuracy_greedy"):
        assert abs(greedy - base["accuracy_greedy"]) <= 0.1
    assert max(ends("form only", "worked_rate")) < base["worked_rate"] + 0.05
    own = ends("own right answers", "accuracy")
    assert min(ends("own right answers", "accuracy_greedy")) >= 0.85
    assert 0.5 < min(own) <= max(own) < 0.78
    # A coin teaches nothing; without much of a pull to the base its noise may tip greedy decoding.
    for key in ("accuracy", "accuracy_greedy"):
        assert all(abs(end - base[key]) <= 0.1 for end in ends("random reward", key))
    assert max(ends("random reward", "worked_rate")) < 0.35
    weak = "random reward, beta 0.02"
    assert max(ends(weak, "accuracy")) < base["accuracy"] + 0.1
    assert max(ends(weak, "accuracy_greedy")) > base["accuracy_greedy"] + 0.1
    skill = stored["base"]["ways"]["worked out"]["4"]
    assert all(run["ways"]["worked out"]["4"] < skill for run in stored["runs"][weak].values())
    for run in stored["runs"]["0.05 a token"].values():
        assert min(run["worked_by_steps"].values()) > 0.85
    assert stored["base"]["ways"]["at once"]["2"] < 0.485  # times 2 is less than 0.97 of the floor


def off_policy_claims(runs, notebook):
    """What chapter 5 says of its tables, seed by seed; and that the notebook drew these tables."""
    measured = off_policy.measured()
    assert all(len(seeds) >= 3 for variants in measured.values() for seeds in variants.values())

    def ends(experiment, variant, key):
        return [rows[-1][key] for rows in measured[experiment][variant].values()]

    one, eight = (ends("reuse", name, "score") for name in ("1 update", "8 updates, clipped"))
    assert min(eight) > 2 * max(one)
    assert max(ends("reuse", "2 updates, clipped", "clipped")) < 0.01
    for key, near in (("score", 0.05), ("kl", 0.5)):
        both = (ends("reuse", f"2 updates, {kind}", key) for kind in ("clipped", "not clipped"))
        assert all(abs(a - b) < near for a, b in zip(*both, strict=True))
    for updates, times in ((4, 3), (8, 10)):
        held, free = (ends("reuse", f"{updates} updates, {kind}", "kl")
                      for kind in ("clipped", "not clipped"))
        assert min(free) > times * max(held) and 3.5 < min(held) < max(held) < 6
        held, free = (ends("reuse", f"{updates} updates, {kind}", "score")
                      for kind in ("clipped", "not clipped"))
        assert min(free) > 0.8 and all(b > a - 0.08 for a, b in zip(held, free, strict=True))
    assert all(0.12 < share < 0.18 for share in ends("reuse", "8 updates, clipped", "clipped"))
    dynamic, every = ({key: ends("budget", name, key) for key in ("score", "updates", "kl")}
                      for name in ("dynamic sampling", "every group"))
    assert max(dynamic["score"]) < min(every["score"]) and max(dynamic["kl"]) < min(every["kl"])
    assert 0.45 < max(dynamic["updates"]) / min(every["updates"]) < 0.7
    for rows in measured["budget"]["dynamic sampling"].values():
        spent = [(b["tokens"] - a["tokens"]) / (b["updates"] - a["updates"])
                 for a, b in itertools.pairwise([{"tokens": 0, "updates": 0}, *rows])]
        assert min(spent[-3:]) < 0.65 * spent[0], "later more groups are alive"
    grpo, best, dpo = ({key: ends("same_rollouts", name, key) for key in ("score", "kl")}
                       for name in ("GRPO", "best of 8", "DPO"))
    for i in range(3):
        assert best["score"][i] > max(grpo["score"][i], dpo["score"][i] - 0.02)
        assert 1.4 < best["kl"][i] / grpo["kl"][i] < 3.1
        assert grpo["kl"][i] < dpo["kl"][i] < best["kl"][i]
    assert sum(a > b for a, b in zip(dpo["score"], best["score"], strict=True)) == 1
    for rows in measured["same_rollouts"]["best of 8"].values():
        assert rows[-1]["kl"] > 3 and (rows[-1]["score"] - rows[-2]["score"]) < 0.1 * (
            rows[-1]["kl"] - rows[-2]["kl"])
    curve = measured["budget"]["every group"]  # at the distance of dynamic sampling's end
    for seed, kl, score in zip(curve, dynamic["kl"], dynamic["score"], strict=True):
        near = min(curve[seed], key=lambda row: abs(row["kl"] - kl))
        assert abs(near["score"] - score) < 0.15 and near["tokens"] < 13_500
    at_a_nat = [float(np.interp(0.85, *([row[key] for row in rows] for key in ("kl", "score"))))
                for seeds in measured["same_rollouts"].values() for rows in seeds.values()]
    assert max(at_a_nat) - min(at_a_nat) < 0.1, "three methods, one curve up to about a nat"
    plain, token, whole = ({key: ends("mismatch", f"temperature 0.6, {level}", key)
                            for key in ("score", "kl")}
                           for level in ("no correction", "token", "sequence"))
    for i in range(3):
        assert plain["kl"][i] > token["kl"][i] > whole["kl"][i]
        assert whole["score"][i] < token["score"][i]
    same = ends("mismatch", "same, no correction", "score")
    assert sum(plain["score"]) > sum(same) - 0.05
    for key, low, high in (("score", 0.5, 0.61), ("kl", 0.6, 1.05)):
        bits = [ends("mismatch", f"eight bits, {level}", key)
                for level in ("no correction", "token", "sequence")]
        assert all(low < value < high for level in bits for value in level)
        assert all(max(seed) - min(seed) < 0.2 * high for seed in zip(*bits, strict=True))
    token_kl, token_score = (ends("reuse", "4 updates, clipped", key) for key in ("kl", "score"))
    wide, held, tight = ({key: ends("levels", f"sequence ratio, epsilon {epsilon}", key)
                          for key in ("score", "kl", "clipped")} for epsilon in (0.2, 0.03, 0.01))
    assert max(wide["clipped"]) < 0.04 and max(token_kl) < 6 < 8 < min(wide["kl"])
    assert min(held["clipped"]) > 1 / 3 and max(held["kl"]) < 6
    assert abs(sum(held["score"]) - sum(token_score)) < 0.09
    assert min(tight["clipped"]) > 0.7 and max(tight["kl"]) < min(held["kl"])
    assert max(tight["score"]) < min(held["score"])
    alts = "\n".join(alternatives(notebook))
    drawn = [float(x) for x in re.search(
        r"at most ([\d.]+) nats with the clip, at least (\d+) without", alts).groups()]
    assert drawn[0] < 6 and drawn[1] > 50
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))
    off = {name: tuple(map(float, of)) for name, *of in re.findall(
        r"^ *(.+): log-probs differ by ([\d.]+) to ([\d.]+) a token; weights of whole texts from "
        r"([\d.]+) to ([\d.]+)", told, re.MULTILINE)}
    assert off["the policy itself"][1] < 1e-3
    assert 0.01 < off["weights of eight bits"][0] < off["weights of eight bits"][1] < 0.1
    assert off["weights of eight bits"][2] < 0.8 and off["weights of eight bits"][3] > 1.2
    assert off["temperature 0.6"][0] > off["weights of eight bits"][1]
    alive = re.findall(r"^seed \d: (\d+) of 64 groups are alive", told, re.MULTILINE)
    assert len(alive) == 3 and all(10 < int(n) < 40 for n in alive)
    loose, narrow = map(float, re.findall(
        r"sequence ratio, epsilon \S+: ([\d.]+) of the tokens", told))
    assert loose < 0.05 and narrow > 0.4
    cosines = [float(x) for x in re.findall(r"cosine with the exact gradient ([\d.]+)", told)]
    assert cosines[1] > 0.999 > cosines[2] > cosines[3] > cosines[0]


def project_claims(runs, notebook):
    """The bare script learns, goes on bit for bit, and its memory is the estimated one; LoRA wants
    ten times the rate; and what the chapter says of the measured settings, seed by seed."""
    alts = "\n".join(alternatives(notebook))
    told = "\n".join(o.get("text", "") for _, o in outputs(notebook))

    def numbers(pattern, text=alts):
        return [float(value.rstrip(".")) for value in re.search(pattern, text).groups()]

    start, end, rate, peak = numbers(
        r"Stars go from ([\d.]+) to ([\d.]+), .*begins at ([\d.e-]+) and is ([\d.e-]+) at step 4")
    assert start < 0.65 and end > start + 0.12 and (rate, peak) == (0, 3e-4)
    before, after = (numbers(rf"{name}, n = 128: stars ([\d.]+), .*?gold ([\d.]+)", told)
                     for name in ("base", "trained"))
    assert after[0] > before[0] + 0.12 and after[1] > before[1] + 0.05
    assert numbers(r"rates that the run logged: (\S+)", told)[0] < 1e-9
    assert numbers(r"largest difference of a weight: (\S+)", told) == [0]
    assert "to go on from: checkpoint-24" in told
    assert "with half a checkpoint-24: checkpoint-12" in told
    sizes = re.findall(r"estimated +([\d,]+) bytes, measured +([\d,]+)", told)
    assert len(sizes) == 6 and all(mine == real for mine, real in sizes)
    assert numbers(r"merging moves a logit by at most (\S+)", told)[0] < 1e-3
    bytes_of = {name: int(size.replace(",", "")) for name, size in re.findall(
        r"^(\S+) +([\d,]+) bytes", told, re.MULTILINE)}
    assert 1.9 < bytes_of["optimizer.pt"] / bytes_of["model.safetensors"] < 2.1
    full, same, tenfold = (numbers(rf"{name}: ([\d.]+), ([\d.]+), ([\d.]+)")
                           for name in ("full", "LoRA, same rate", "LoRA, rate x 10"))
    assert same[0] < full[0] - 0.1 and abs(tenfold[0] - full[0]) < 0.15
    assert same[1] < 0.02 and tenfold[1] > 0.7 * full[1] > 0.02
    assert tenfold[2] > same[2] + 0.05 and tenfold[2] > full[2] - 0.05
    settings_claims()
    capstone_claims(runs, notebook)


def settings_claims():
    """What chapter 6 says of the settings that benchmarks/settings.py measured, seed by seed."""
    def runs(setting):
        """For each seed: value -> (score at the end, KL at the end, score halfway)."""
        found = settings_sweep.measured(setting)
        for seed in set.intersection(*map(set, found.values())):
            yield {value: (run["score"][-1], run["kl"][-1], run["score"][len(run["score"]) // 2])
                   for value, seeds in found.items() for run in [seeds[seed]]}

    for end in runs("learning_rate"):
        start = settings_sweep.measured("learning_rate")["1e-06"]["1"]["score"][0]
        assert abs(end["1e-06"][0] - start) < 0.02 and abs(end["1e-06"][1]) < 0.01
        assert end["1e-05"][0] < end["5e-05"][0] < end["0.0002"][0] < end["0.001"][0] + 0.02
        assert end["0.001"][0] > 0.95 and end["0.001"][1] > 2 * end["0.0002"][1]
    for end in runs("persona"):
        assert end["1e-06"][0] < 0.05 and end["0.001"][0] > 0.3
    for seeds in settings_sweep.measured("split").values():
        for run in seeds.values():
            if "apart" in run["final"]:
                first = run["final"]["apart_after_1_step"]
                assert 0 < first < 1e-4 and first < run["final"]["apart"]
    for end in runs("split"):
        assert max(v[0] for v in end.values()) - min(v[0] for v in end.values()) < 0.1
    for end in runs("num_generations"):
        from_four = [end[size][0] for size in ("4", "8", "16")]
        assert max(from_four) - min(from_four) < 0.06 and end["2"][0] < max(from_four)
    for end in runs("temperature"):
        assert end["1.3"][0] < min(end["0.7"][0], end["1.0"][0])
        assert end["1.3"][1] < min(end["0.7"][1], end["1.0"][1])
        assert abs(end["0.7"][0] - end["1.0"][0]) < 0.05
    for end in runs("beta"):
        assert end["0.0"][1] > 2 * end["0.05"][1] > 2 * end["0.2"][1]
        assert end["0.2"][0] > end["0.0"][0] - 0.1
    for end in runs("warmup_steps"):
        assert end["0"][2] > end["5"][2] > end["10"][2]
        assert end["10"][0] > end["0"][0] - 0.06
    for end in runs("max_grad_norm"):
        assert end["1.0"] == end["off"] and abs(end["0.1"][0] - end["off"][0]) < 0.05
    for setting, most in (("adam_beta2", 0.05), ("epochs", 0.06)):
        for end in runs(setting):
            assert max(v[0] for v in end.values()) - min(v[0] for v in end.values()) < most


def capstone_claims(runs, notebook):
    """Our answer holds by every proxy that the notebook shows (tests/grading/test_capstone.py asks
    the gold measure)."""
    results = evaluation.side_by_side({"yours": runs / "capstone"})
    before, after = ({key: m["value"] for key, m in results[name].items()}
                     for name in ("base", "yours"))
    assert after["score"] > before["score"] + 0.3 and after["self_ending"] > 0.95
    assert after["reference_perplexity"] < 1.5 * before["reference_perplexity"]
    assert after["length"] < 20 and after["distinct_2"] > 0.3
    assert any("yours" in o.get("data", {}).get("text/html", "") for _, o in outputs(notebook))


CLAIMS = {"01_sentiment": sentiment_claims, "02_grpo": grpo_claims,
          "03_persona": persona_claims, "04_reasoning": reasoning_claims,
          "05_off_policy": off_policy_claims, "06_project": project_claims}


@pytest.mark.parametrize("chapter", chapters())
def test_the_student_notebook_raises_its_own_unsolved_exercises_and_nothing_else(
        chapter, tmp_path):
    notebook = execute(nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4), tmp_path,
                       allow_errors=True)
    errors = [(cell.id, o.ename, o.evalue) for cell, o in outputs(notebook)
              if o.output_type == "error"]
    assert all(name == "NotImplementedError" and text.startswith("Exercise ")
               and f"notebooks/{chapter}.ipynb" in text for _, name, text in errors), errors
    exercises = [cell.source.splitlines()[0].removeprefix("# ") for cell in notebook.cells
                 if cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code"]
    assert unsolved(notebook) == exercises
    tests = [cell.id for cell in notebook.cells if cell.cell_type == "code"
             and cell.metadata.get("nbgrader", {}).get("grade")]
    assert set(tests) <= {cell_id for cell_id, _, _ in errors}
    assert not (tmp_path / "runs").exists(), "nothing may train with unsolved exercises"
