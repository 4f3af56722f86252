"""A file and a table of one's own, dropped in: answers as the command gives them, clear words where that can't be."""

from __future__ import annotations

import numpy as np
import pytest

from moe_edge.cli.main import main

pytestmark = pytest.mark.slow

TABLE = """height,note,colour,price,kind
1.7,first,red,5000,good
,"a, b",green,4200.5,bad
1.95,,NA,?,good
 1.5 ,x,blue,6e3,bad

2.25,"two
lines",red,nan,good
"""


@pytest.fixture
def panel(visit):
    visit.page.click("#tab-table")
    visit.page.wait_for_selector("#panel-table[data-state=idle]")
    return visit.page


def drop(page, *files) -> None:
    """Drop files onto the page, as a file manager does."""
    page.evaluate(
        """files => {
          const data = new DataTransfer();
          for (const [name, bytes] of files) data.items.add(new File([Uint8Array.from(bytes)], name));
          document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        [[name, list(content)] for name, content in files],
    )
    page.wait_for_selector("#panel-table[data-state=idle]")


def download(page) -> str:
    with page.expect_download() as found:
        page.click("#download")
    assert found.value.suggested_filename == "rows-answers.csv"
    return found.value.path().read_text(encoding="utf-8")


def compare(got: str, expected: str, tolerance: float) -> None:
    """Tables equal but for the last digits of their numbers."""
    got_rows, expected_rows = ([line.split(",") for line in text.splitlines()] for text in (got, expected))
    assert got_rows[0] == expected_rows[0] and len(got_rows) == len(expected_rows)
    for one, other in zip(got_rows[1:], expected_rows[1:], strict=True):
        for name, cell, wanted in zip(got_rows[0], one, other, strict=True):
            if name in ("label", "experts_run", "unusual"):
                assert cell == wanted
            else:
                assert abs(float(cell) - float(wanted)) <= tolerance * max(1, abs(float(wanted))), name


@pytest.mark.parametrize("visit", ["desktop", "phone"], indirect=True)
@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
def test_categories_and_missing_values_as_the_command_has_them(panel, mixture_file, tmp_path, scheme, capsys):
    model = mixture_file("table", scheme=scheme)
    drop(panel, ("rows.csv", TABLE.encode()), ("mixture.tflite", model.read_bytes()))
    assert panel.inner_text("#answers-title").startswith("5 rows of rows.csv")
    assert panel.locator("#self-test.passed").count() == 1
    table = tmp_path / "rows.csv"
    table.write_text(TABLE, encoding="utf-8")
    for mode, options in (("dense", []), ("routed", ["--mass", "0.99"])):
        panel.select_option("#table-mode", mode)
        panel.wait_for_selector("#panel-table[data-state=idle]")
        main(["predict", str(model), str(table), "--explain", "--mode", mode, *options], standalone_mode=False)
        compare(download(panel), capsys.readouterr().out, 1e-5 if scheme == "float32" else 1.001 / 256)


def test_a_regression_and_a_table_in_windows_dress(panel, mixture_file, tmp_path, capsys):
    """Semicolons are told; a byte-order mark and line ends of Windows are fine."""
    model = mixture_file("regression")
    random = np.random.default_rng(2)
    lines = ["x5,x4,x3,x2,x1,x0", *(",".join(f"{value:.4f}" for value in row) for row in random.normal(size=(30, 6)))]
    drop(panel, ("m.tflite", model.read_bytes()), ("rows.csv", "\r\n".join(lines).replace(",", ";").encode()))
    assert "separated by commas, got semicolons" in panel.inner_text("#table-problem")
    content = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
    drop(panel, ("rows.csv", content))
    table = tmp_path / "rows.csv"
    table.write_bytes(content)
    main(["predict", str(model), str(table), "--explain", "--mode", "dense"], standalone_mode=False)
    compare(download(panel), capsys.readouterr().out, 1e-5)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "expected a header line with column names, got an empty file"),
        ("height,colour,price\n", "expected rows to answer, got none"),
        ("height,colour\n1,red\n", "missing column 'price'"),
        ("height,colour,price\n1,red,5\n1,red\n", "line 3: expected 3 values as in the header, got 2"),
        (
            "height,colour,price\n1,pink,5\n",
            "line 2: row 1, column 'colour': expected a category seen in training, got 'pink'",
        ),
        ("height,colour,price\n1,red,5\n1,red,five\n", "line 3: row 2, column 'price': expected a number, got 'five'"),
        ("height,colour,price\n1,red,1_000\n", "expected a number, got '1_000'"),
        ("height,colour,price\n1,red,0x10\n", "expected a number, got '0x10'"),
        ("height,colour,price\n1,red,1e39\n", "expected a finite float32 number, got '1e39'"),
        ("height,colour,price\n1,red,inf\n", "got 'inf'"),
        ("height,colour,price,price\n1,red,5,6\n", "expected each column once, got 'price' twice"),
        (b"height,colour,price\n1,r\xe9d,5\n", "expected UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_answered(panel, mixture_file, table, reason):
    content = table if isinstance(table, bytes) else table.encode()
    drop(panel, ("m.tflite", mixture_file("table").read_bytes()), ("rows.csv", content))
    assert reason in panel.inner_text("#table-problem")
    assert not panel.is_visible("#answers-card") and panel.is_visible("#model-card")


def test_a_bad_model_is_told_and_the_page_goes_on(panel, mixture_file):
    sound = mixture_file("table").read_bytes()
    drop(panel, ("good.tflite", sound), ("rows.csv", TABLE.encode()))
    damaged = bytearray(sound)
    damaged[len(sound) // 2] ^= 1
    for name, content, reason in (
        ("damaged.tflite", bytes(damaged), "damaged.tflite: the file is damaged"),
        ("cut.tflite", sound[:5000], "cut.tflite: "),
        ("page.tflite", b"<html>", "page.tflite: expected a .tflite, got a web page"),
        ("photo.png", b"\x89PNG", "expected a .tflite or a .csv, got photo.png"),
    ):
        drop(panel, (name, content))
        assert reason in panel.inner_text("#table-problem")
        assert panel.inner_text("#model-name") == "good.tflite" and panel.is_visible("#answers-card")
    drop(panel, ("other.tflite", mixture_file("plain").read_bytes()))
    assert "missing columns 'x0'" in panel.inner_text("#table-problem")  # the table is the other model's
    drop(panel, ("good.tflite", sound))
    assert not panel.is_visible("#table-problem") and panel.is_visible("#answers-card")


def test_files_are_picked_too(panel, mixture_file, tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text(TABLE, encoding="utf-8")
    panel.set_input_files("#table-file", table)
    panel.wait_for_selector("#table-problem:has-text('now the model')")
    panel.set_input_files("#model-file", mixture_file("table"))
    panel.wait_for_selector("#answers-card", state="visible")
    assert panel.locator("#answers tbody tr").count() == 5
    panel.set_input_files("#model-file", mixture_file("table", scheme="w8a8"))  # and another
    panel.wait_for_selector("#model-facts:has-text('w8a8')")
