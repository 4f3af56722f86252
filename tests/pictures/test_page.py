"""The page: valid, self-contained, and whatever a user's table holds stays text."""

from html.parser import HTMLParser

import pytest

from moe_edge.pictures.page import Section, write_page

VOID = {"meta", "img", "link", "br"}
ATTACK = '<script>alert("x")</script> & \'quoted\' "names" </pre></td>'


class Outline(HTMLParser):
    """Collects what the page holds, and checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.texts, self.alternatives = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value)
            if name == "alt":
                self.alternatives.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(path):
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))
    outline.close()
    assert outline.open == []
    return outline


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n not much of a picture")
    return path


def test_page_is_whole_and_needs_no_other_file(tmp_path, picture):
    section = Section(
        title="One",
        paragraphs=("text",),
        picture=picture,
        caption="a picture",
        header=("a", "b"),
        rows=[(1, 2)],
        commands=("moe-edge doctor",),
    )
    outline = read(write_page(tmp_path / "index.html", title="Title", lead="Lead", sections=[section]))
    assert {"title", "h1", "h2", "table", "img", "pre"} <= set(outline.tags)
    assert all(link.startswith("data:image/png;base64,") for link in outline.links) and len(outline.links) == 1
    assert outline.alternatives == ["a picture"]


def test_texts_of_the_user_never_become_markup(tmp_path, picture):
    section = Section(
        title=ATTACK,
        paragraphs=(ATTACK,),
        picture=picture,
        caption=ATTACK,
        header=(ATTACK,),
        rows=[(ATTACK,)],
        commands=(ATTACK,),
    )
    outline = read(write_page(tmp_path / "index.html", title=ATTACK, lead=ATTACK, sections=[section]))
    assert "script" not in outline.tags
    assert outline.alternatives == [ATTACK]
    assert outline.texts.count(ATTACK) == 9


def test_a_missing_picture_leaves_no_page(tmp_path):
    with pytest.raises(OSError, match=r"p\.png"):
        write_page(
            tmp_path / "index.html", title="t", lead="l", sections=[Section(title="s", picture=tmp_path / "p.png")]
        )
    assert list(tmp_path.iterdir()) == []
