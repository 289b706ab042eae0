"""The examples for clusters: manifests by the schemas of Kubernetes, the batch script under bash with a fake Slurm."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import subprocess

import jsonschema
import pytest
import yaml

from tfmot_kws.commands.parts import options
from tfmot_kws.training import local_workers

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "cluster"
KUBERNETES = "1.34.0"

TFJOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "kubeflow.org/v1"},
        "kind": {"const": "TFJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["tfReplicaSpecs"],
            "properties": {
                "enableDynamicWorker": {"type": "boolean"},
                "successPolicy": {"type": "string"},
                "runPolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        **{name: {"type": "integer"} for name in ("activeDeadlineSeconds", "backoffLimit")},
                        "ttlSecondsAfterFinished": {"type": "integer"},
                        "cleanPodPolicy": {"enum": ["None", "Running", "All"]},
                        "schedulingPolicy": {"type": "object"},
                        "suspend": {"type": "boolean"},
                    },
                },
                "tfReplicaSpecs": {
                    "type": "object",
                    "propertyNames": {"enum": ["Chief", "Worker", "PS", "Evaluator"]},
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["template"],
                        "properties": {
                            "replicas": {"type": "integer", "minimum": 1},
                            "restartPolicy": {"enum": ["Always", "OnFailure", "Never", "ExitCode"]},
                            "template": {"type": "object"},
                        },
                    },
                },
            },
        },
    },
}
"""The outer part of Kubeflow's definition of a TFJob, with what its comments say; its pods are those of Kubernetes."""

SBATCH = {
    "job-name": r"[\w-]+", "nodes": r"\d+(-\d+)?", "ntasks-per-node": r"\d+", "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]?", "time": r"(\d+-)?\d+(:\d+){0,2}", "output": r"\S+", "requeue": None,
}  # fmt: skip
"""Options of the manual of sbatch that the script has, and what they take."""


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def containers(pod: dict) -> list[str]:
    """The commands of a pod."""
    return [" ".join([*one.get("command", ()), *one.get("args", ())]) for one in pod["spec"]["containers"]]


def options_of(command: str) -> list[str]:
    return re.findall(r"--([a-z-]+)", command)


def check_command(command: str, kind: str) -> None:
    """Options that there are, and those that several workers need."""
    given = options_of(command)
    known = (pathlib.Path(options.__file__).parents[1] / "train.py").read_text().replace("_", "-")
    assert {"distribute", "data", "out"} <= set(given) and f"--distribute={kind}" in command
    assert all(re.search(rf"^    {name}: ", known, re.M) for name in given if name != "kill-on-bad-exit")


@pytest.fixture
def validate(require_module):
    module = require_module("kubernetes_validate")
    return lambda document: module.validate(document, KUBERNETES, strict=True)


def test_job(validate) -> None:
    service, job = documents("job.yaml")
    validate(service)
    validate(job)
    spec, pod = job["spec"], job["spec"]["template"]
    worker = pod["spec"]["containers"][0]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert {one["name"]: one["value"] for one in worker["env"]} == {"WORKERS": str(spec["completions"])}
    assert pod["spec"]["subdomain"] == service["metadata"]["name"] == service["spec"]["selector"]["job-name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    failing = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert local_workers.LOST not in failing and 1 in failing
    check_command(containers(pod)[0], "tf-config")


def test_a_broken_job_is_refused(validate) -> None:
    job = documents("job.yaml")[1]
    job["spec"]["completion"] = 4
    with pytest.raises(Exception, match="completion"):
        validate(job)


def test_index_becomes_tf_config(tmp_path) -> None:
    """The script of the Job under bash, with a program in the place of tfmot-kws that says what it was given."""
    job = documents("job.yaml")[1]
    worker = job["spec"]["template"]["spec"]["containers"][0]
    fake(tmp_path, "tfmot-kws", 'printf "%s" "$TF_CONFIG"')
    environment = {"WORKERS": "3", "JOB_COMPLETION_INDEX": "2"}
    done = run([*worker["command"], *worker["args"]], tmp_path, environment)
    name = job["metadata"]["name"]
    assert json.loads(done.stdout) == {
        "cluster": {"worker": [f"{name}-{i}.{name}:2222" for i in range(3)]}, "task": {"type": "worker", "index": 2},
    }  # fmt: skip


def test_tfjob(validate) -> None:
    (job,) = documents("tfjob.yaml")
    jsonschema.validate(job, TFJOB)
    (replicas,) = job["spec"]["tfReplicaSpecs"].values()
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, **replicas["template"]})
    assert replicas["restartPolicy"] == "ExitCode" and local_workers.LOST >= 128
    container = replicas["template"]["spec"]["containers"][0]
    assert container["name"] == "tensorflow" and container["ports"][0]["name"] == "tfjob-port"
    check_command(containers(replicas["template"])[0], "tf-config")


def fake(folder: pathlib.Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(command: list[str], folder: pathlib.Path, more: dict[str, str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, **more, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_options_of_the_batch_script() -> None:
    text = (FOLDER / "train.sbatch").read_text()
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M)
    assert len(lines) == text.count("#SBATCH") and text.startswith("#!/usr/bin/env bash\n#SBATCH")
    for name, value in lines:
        pattern = SBATCH[name]
        assert (not value) if pattern is None else re.fullmatch(pattern, value), (name, value)
    check_command(re.search(r"srun .*?\|\|", text, re.S)[0].replace('"', ""), "slurm")


@pytest.mark.parametrize(("statuses", "expected"), [([0], 0), ([138, 137, 0], 0), ([1], 1), ([138] * 4, 138)])
def test_batch_script_starts_again_what_was_lost(tmp_path, statuses: list[int], expected: int) -> None:
    fake(
        tmp_path,
        "srun",
        f'echo "$@" >> {tmp_path}/calls\nstatuses=({" ".join(map(str, statuses))})\n'
        f"exit ${{statuses[$(wc -l < {tmp_path}/calls) - 1]}}",
    )
    done = run(["bash", str(FOLDER / "train.sbatch")], tmp_path, {"WORK": "/data", "SLURM_JOB_ID": "5"})
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == expected and len(calls) == len(statuses)
    assert set(calls) == {calls[0]} and calls[0].startswith("--kill-on-bad-exit=1 tfmot-kws train --distribute=slurm")
    assert "--data=/data/shards" in calls[0] and "--out=/data/runs/float.keras" in calls[0]
