"""The page of the lecture: no topic is missing, every command is understood, and the page says what the numbers say."""
import json
import os
import re
import signal
import sys
import threading
import time

import pytest

for library in ("tyro", "tqdm", "matplotlib", "safetensors", "PIL", "sklearn"):
    pytest.importorskip(library)

from examples import lecture
from methods.training import jobs
from methods.training.jobs import Job, Outcome

TOPICS = """Transfer: frozen features|Transfer: fine-tuning|Vision Transformer|Ladder network|Pi-model|Mean Teacher|
The table of eight|Denoising|BERT|Exemplar-CNN|CPC: speech|CPC: pictures|SimCLR|BYOL|DINO|Masked autoencoder|
Prototypical networks|MAML|First-order MAML|CLIP|Zero-shot classification|Three tasks of pre-training|Adapters|Prompt tuning|
Prefix tuning|LoRA|The home assignment""".replace("\n", "").split("|")


def test_no_topic_is_missing():
    assert [section.topic for section in lecture.SECTIONS] == TOPICS
    assert {section.job for section in lecture.SECTIONS} == lecture.JOBS.keys()


@pytest.mark.parametrize("section", lecture.SECTIONS, ids=TOPICS)
def test_the_equation_is_where_the_link_leads(section):
    path, line = lecture.place(section.equation)
    assert section.equation.partition(":")[2] in path.read_text().splitlines()[line - 1]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", lecture.JOBS)
def test_the_examples_understand_their_commands(name, quick, tmp_path):
    from methods.training.settings import check
    job = lecture.job_of(name, quick)
    run = jobs.settings(job, tmp_path)
    check(run)
    assert run.out == str(tmp_path / "run") and getattr(run, "resume", True)
    assert job.command.startswith(f"python -m examples.{job.example}")


RETURNED = {"supervised": [80.0, 84.0], "pi_model": [85.0, 87.0], "mean_teacher": [70.0, 72.0]}


def test_the_page_says_what_the_numbers_say(tmp_path, monkeypatch):
    def run_all(wanted, root, workers, report):
        return {job: Outcome(RETURNED, 12.0) if job.example == "compare_semi_supervised" else Outcome(error="no <data>")
                for job in wanted}

    monkeypatch.setattr(lecture, "run_all", run_all)
    found = lecture.main(lecture.Run(only=("Pi-model", "Mean Teacher", "Ladder network", "BERT"), out=str(tmp_path)))
    assert found == {"Ladder network": None, "Pi-model": True, "Mean Teacher": False, "BERT": None}
    text = (tmp_path / "index.html").read_text()
    parts = dict(re.findall(r"<h2 .*?>(.*?)</h2>(.*?)(?=<h2 |</body>)", text, re.DOTALL))
    assert list(parts) == list(found)
    assert re.findall(r'<h2 id="(.*?)"', text) == re.findall(r'<a href="#(.*?)"', text) == [
        "ladder-network", "pi-model", "mean-teacher", "bert"]
    assert "<td>does not hold here</td>" in text[:text.index("<h2 ")]
    assert "86.0 +- 1.4" in parts["Pi-model"] and "The claim holds here" in parts["Pi-model"]
    assert "does not hold here" in parts["Mean Teacher"] and "no &lt;data&gt;" in parts["BERT"]
    assert "python -m examples.compare_semi_supervised" in parts["Pi-model"] and "http" not in text


def test_jobs_run_once_and_again_with_other_settings(tmp_path):
    seen = []

    def run(*arguments):
        job = Job("semi_supervised", ("supervised", "--steps", "2", *arguments))
        outcome, = jobs.run_all([job, job], tmp_path, 1, lambda job, outcome: seen.append(outcome)).values()
        return job, outcome

    job, first = run()
    result = job.folder(tmp_path) / jobs.RESULT
    assert 0 <= first.value <= 1 and not first.error and json.loads(result.read_text())["command"] == job.command
    before = result.stat().st_mtime_ns
    assert run()[1] == first and result.stat().st_mtime_ns == before
    result.write_text("{")  # as a full disk may leave it
    assert run()[1].value == first.value and len(seen) == 3
    other, failed = run("--labels", "3")
    assert other.folder(tmp_path) != job.folder(tmp_path) and failed.value is None and "--labels 3" in failed.error


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number, error", [("SIGINT", KeyboardInterrupt), ("SIGTERM", SystemExit), ("SIGHUP", SystemExit)])
def test_a_signal_reaches_the_jobs_that_run_and_waits_for_them(tmp_path, monkeypatch, number, error):
    number, begun = getattr(signal, number), tmp_path / "begun"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntrap 'sleep 0.1; touch {tmp_path}/saved; exit 143' TERM\ntouch {begun}\n"
                       "while :; do sleep 0.02; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    before = signal.getsignal(number)

    def send():
        while not begun.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(error):
        jobs.run_all([Job("a"), Job("b")], tmp_path, 1, lambda *_: None)
    sender.join()
    assert (tmp_path / "saved").exists() and signal.getsignal(number) is before
    assert not Job("b").folder(tmp_path).exists()  # it was not begun


def test_what_examples_return_becomes_json():
    import numpy as np
    value = {("a", 5): np.array([1.0, 2.0]), "b": np.float32(3), 4: [(1, None)]}
    assert json.loads(json.dumps(jobs.plain(value))) == {"a, 5": [1.0, 2.0], "b": 3.0, "4": [[1, None]]}
