"""Mixtures that may not run routed: refused with the loss that was measured, before anything is written."""

import re

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.safe_routing import refuse_routing
from moe_edge_converters.schemes.scheme import Scheme


@pytest.fixture(scope="module")
def parts(mixtures):
    """Kind -> mixture, rows, routing weights (n, E) and experts' answers before the head (n, E, K), by NumPy."""

    def make(combine):
        spec = mixtures.make_spec(num_experts=4, num_outputs=3, combine=combine)
        rows = mixtures.make_rows(spec, 500)
        outputs = np.stack([mixtures.run_network(expert, rows) for expert in spec.experts], axis=1)
        return spec, rows, mixtures.run_network(spec.gate, rows), outputs

    return {combine: make(combine) for combine in Combine}


def refusal(spec, rows):
    with pytest.raises(ConversionError) as caught:
        refuse_routing(spec, rows)
    return str(caught.value)


def test_logits_are_refused_with_the_share_of_rows_that_change(parts):
    spec, rows, weights, outputs = parts[Combine.LOGITS]
    dense = np.einsum("ne,nek->nk", weights, outputs).argmax(axis=1)
    alone = outputs[np.arange(len(rows)), weights.argmax(axis=1)].argmax(axis=1)
    message = refusal(spec, rows)
    (said,) = re.findall(r"gives another class for ([\d.]+)% of 500 rows", message)
    assert float(said) == pytest.approx(100 * (dense != alone).mean(), abs=0.21) and float(said) > 5
    assert "combines by logits and can't be routed" in message
    assert "convert it dense (without --routed)" in message and len(message.splitlines()) == 1


def test_means_are_refused_with_how_far_off_they_are(parts):
    spec, rows, weights, outputs = parts[Combine.MEAN]
    dense = np.einsum("ne,nek->nk", weights, outputs)
    alone = outputs[np.arange(len(rows)), weights.argmax(axis=1)]
    expected = 100 * np.sqrt(np.square(dense - alone).mean()) / dense.std()
    message = refusal(spec, rows)
    (said,) = re.findall(r"off by (\d+)% of the answers' own spread on 500 rows", message)
    assert float(said) == pytest.approx(expected, abs=1) and float(said) > 10
    assert "combines by mean" in message


@pytest.mark.parametrize("combine", [Combine.LOGITS, Combine.MEAN])
def test_asking_for_routed_signatures_writes_nothing(parts, tmp_path, combine):
    spec, rows, *_ = parts[combine]
    output = tmp_path / "m.tflite"
    output.write_bytes(b"old")
    with pytest.raises(ConversionError, match=r"can't be routed: the strongest expert alone .*\d%"):
        convert_spec(
            spec, output, reference=None, rows=rows, options=ConversionOptions(scheme=Scheme.W8A8, routed=True)
        )
    assert output.read_bytes() == b"old" and list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("combine", "routed"),
    [(combine, None) for combine in Combine] + [(combine, True) for combine in Combine if combine.routable],
)
def test_routed_where_it_is_safe_dense_where_it_is_not(parts, tmp_path, combine, routed):
    spec, rows, *_ = parts[combine]
    result = convert_spec(
        spec,
        tmp_path / "m.tflite",
        reference=None,
        rows=rows,
        options=ConversionOptions(scheme=Scheme.W8A8, routed=routed),
    )
    signatures = {part.id: part.signature for part in result.manifest.parts}
    assert signatures["expert_3"] == ("expert_3" if combine.routable else None)
