import warnings

import pytest

from moe_edge.cli.one_line_warnings import one_line_warnings


def test_a_warning_is_one_line_once(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with one_line_warnings():
            for _ in range(2):
                warnings.warn("the optimum is far:\nsee a long page", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: the optimum is far\n"


def test_filters_still_decide(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with one_line_warnings():
            warnings.warn("of no interest", UserWarning, stacklevel=1)
        warnings.simplefilter("error")
        with one_line_warnings(), pytest.raises(UserWarning):
            warnings.warn("of no interest", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
