"""Run files whole and part by part, in whichever runtime this Python has; started by ``test_routed_answers.py``.

``python routed_answers.py jobs.json``: each job names a model, its rows (.npy) and where its answers go (.npz). Needs no
moe-edge: signatures are used as any host would use them.
"""

import json
import sys
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType

RESOLVERS = {"delegate": OpResolverType.AUTO, "plain": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def open_model(path, source, resolver):
    """An interpreter on a file, or on its bytes."""
    model = {"model_path": path} if source == "path" else {"model_content": Path(path).read_bytes()}
    return Interpreter(**model, experimental_op_resolver_type=RESOLVERS[resolver])


def run_fused(runners, row):
    """``serving_default`` on one row."""
    return runners["serving_default"](x=row)


def run_routed(runners, row):
    """Gate, every expert, combination; an expert's own output is kept as ``outputs``."""
    gate = runners["gate"](x=row)
    experts = sorted((name for name in runners if name.startswith("expert_")), key=lambda name: int(name.split("_")[1]))
    outputs = [runners[name](features=gate["features"])["output"].reshape(len(row), -1) for name in experts]
    stacked = np.stack(outputs, axis=1)
    answers = runners["combine"](routing_weights=gate["routing_weights"], outputs=stacked)
    return {**answers, "routing_weights": gate["routing_weights"], "outputs": stacked}


def main():
    """Answer every job, row by row, from path and bytes, with and without the XNNPACK delegate."""
    for job in json.loads(Path(sys.argv[1]).read_text()):
        rows, answers = np.load(job["rows"]), {}
        for source in ("path", "bytes"):
            for resolver in RESOLVERS:
                interpreter = open_model(job["model"], source, resolver)
                runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
                for mode, run in (("fused", run_fused), ("routed", run_routed)):
                    answered = [run(runners, row[None]) for row in rows]
                    for name in answered[0]:
                        key = f"{mode}/{source}/{resolver}/{name}"
                        answers[key] = np.concatenate([answer[name] for answer in answered])
        np.savez(job["answers"], **answers)


if __name__ == "__main__":
    main()
