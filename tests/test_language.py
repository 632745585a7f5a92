"""Plain English: words that readers would have to translate stay out of docs, comments, docstrings and messages.

`python tests/test_language.py PATH...` lists the findings in any files or folders: place, words found, better words.
Code itself is never read: names, text in backticks, `{fields}` and fenced blocks (except for their comments) may use
any word. A quotation that needs one of the words goes into backticks.
"""

from __future__ import annotations

import bisect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# Files and folders that are read.
CHECKED = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "Makefile",
    "README.md",
    "adapters",
    "benchmarks",
    "client",
    "docs",
    "pyproject.toml",
    "recipes",
    "samples",
    "service",
    "tests",
]

UNITS = "class|image|picture|second|epoch|step|line|row|layer|adapter|batch|request|worker|program|file|call|seed|slide"
UNITS += "|event|resource|group|run|split|part|user|machine|process|dataset|job|label|channel|pixel|slice|sample|round"
UNITS += "|thread|core|server|patient|volume|block|tensor|weight|test|fold|cell"
NUMBER = r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twenty|fifty|hundred|several|few|many|half)"
NO_NOUN = "where|when|while|if|but|so|because|of|in|on|for|as|to|at|by|with|from|than|that|and|or|per"
NO_NOUN += "|is|are|has|share|takes?|makes?|gives?|does|gets?"
COUNTED = rf"(?!(?:{NO_NOUN})\b)[\w-]+(?<!ing)"
NOT_MORE = r"(?!longer|more|less|fewer|worse|better|larger|smaller|faster|slower|later|earlier|one\b)"

# A pattern, what to write instead, and an example that the pattern finds. White space of any kind matches one space.
WORDS = [
    (r"\bcures?\b", "Fix: ... / fix", "found 3 rows. Cure: leave --resume out"),
    (r"\banew\b", "again", "measures anew"),
    (r"\bfor want of\b", "because ... is missing", "no accuracy, for want of weights"),
    (r"\bto be had\b", "available", "the weights are not to be had"),
    (r"\bbeside\b", "next to / compared with / while ... runs", "p95 beside a job"),
    (
        r"(?<!as it )(?<!-)\b(?:stands?|stood)\b(?!-)(?! (?:for|out|still|alone)\b)",
        "is / is listed / stay",
        "groups stand in one part only",
    ),
    (r"\bjudg(?:e|es|ed|ing|ement|ment)\b", "check / validate / score / decide", "judged from its header"),
    (r"\bcompan(?:y|ies)\b", "fused group", "a steady company of adapters"),
    (r"\bjunctions?\b", "split backbone", "a junction for each cut"),
    (r"\bwhoever\b", "any caller that ...", "whoever gave it may mount"),
    (r"\bfor who\b", "for callers that ...", "for who never writes"),
    (r"\bwhat has\b(?! (?:been|changed|happened)\b)", "an adapter that has / name the noun", "what has its batches"),
    (r"\bwhat is not said\b", "Omitted options ...", "What is not said here is chosen"),
    (r"\b(?:its|their) batches to (?:itself|themselves)\b", "fills batches on its own", "has its batches to itself"),
    (
        rf"\b{NUMBER}(?: {COUNTED}){{1,2}}? an? (?:{UNITS})\b(?! (?:is|are|has|takes?|of)\b)",
        "per class, per image, ...",
        "20 images a class",
    ),
    (
        rf"\b(?:ms|us|[kMG]i?B|fsync|images|requests) an? (?:{UNITS})\b(?! (?:is|are|has|takes?|of)\b)",
        "per image, per second, ...",
        "4.7 ms an image",
    ),
    (r"\bone an? (?:class|image|layer|epoch|row|seed|line)\b", "one per class, ...", "folders, one a class"),
    (r"\bpictures?\b", "image", "unreadable pictures"),
    (
        r"\bso (?:many|long)\b(?! as\b)(?![^.;:]* that\b)",
        "this many / N / this long",
        "after so many epochs",
    ),
    (
        r"\b(?:go|goes|went|going) on\b(?! (?:the|a|an|one|top|disk|each|its|to)\b)",
        "resume / continue",
        "a run goes on",
    ),
    (
        r"\bas of\b(?! (?:\w* ?v?\d|version|the|now|today|writing|release|this)\b)",
        "same as ...",
        "As of `lensmount serve`",
    ),
    (r"\bof late\b(?! (?:layer|block|stage)s?\b)", "recently", "asked for of late"),
    (r"\bnow and then\b", "periodically / occasionally", "looks now and then"),
    (r"\bwhere (?:it|that|there) is (?:no|none|not)\b", "if there is no ...", "0 where it is no column"),
    (rf"\b(?:that|which|it|this|they) (?:is|are|was|were) no {NOT_MORE}\w", "is not a ...", "bytes that are no PNG"),
    (
        r"(?<!or )(?<!thing )(?<!one )(?<!body )(?<!where )(?<!what )(?<!who )\belse ?(?=[.;)]|$)|[,;] else (?!if\b)",
        "otherwise",
        "cuda where there is a GPU, else cpu",
    ),
    (r"(?<![,;:.] )\bbut for\b", "except for", "all of it but for the border"),
    (r"\b(?:rightly|wrongly)\b", "correctly / incorrectly", "26 of 30 are answered rightly"),
    (r"\bin the space of\b", "the size of", "43 in the space of a model"),
    (r"\bon (?:its|their) way\b", "in progress", "4 on their way"),
    (r"\bthat should not be\b", "Internal error.", "an error that should not be"),
    (r"\b(?:is|are|was|were) whole\b", "is complete", "check that the upload is whole"),
    (r"\b(?:br[eo]ken?[- ]off|br[eo]aks? off|broke off)\b", "interrupted", "a broken-off run"),
    (r"\bnewcomers?\b", "new adapter / new user", "a newcomer takes a place"),
    (r"\bdear(?:er|est)?\b", "expensive", "twice as dear"),
    (r"\btruly\b", "completely", "frozen, truly"),
    (r"\bbefore anything is touched\b", "before anything changes", "checked before anything is touched"),
    (r"\bclicks? on and off\b", "can be switched on and off", "adapters that click on and off"),
    (r"\bbystand\w*", "the other adapter", "p50 of the bystanding adapter"),
    (r"\bhand(?:s|ed)? (?:\w+ )?in\b(?! hand)", "passed as an input", "weights handed in"),
    (r"\btak(?:es|en) (?:\w+ )?along\b", "also installs", "takes torch along"),
    (r"\btaken up\b", "resumed", "the upload is taken up"),
    (r"\ban up and a down\b", "a fixed orientation", "without an up and a down"),
    (r"\bholds? (?:no )?\w+ up\b", "blocks", "holds no writer up"),
    (r"\bis no more\b(?! than\b)(?! \w+ than\b)", "no longer exists", "where the job is no more ours"),
    (r"\bones? (?:is|are) told\b(?! apart\b)", "is reported", "equal ones are told"),
    (r"\b(?:lest|whence|whither|thereof|wherein|whereof|hitherto)\b", "a plain word", "the file whence it came"),
]
COMPILED = [(re.compile(pattern, re.IGNORECASE), better) for pattern, better, _ in WORDS]


class Finding(NamedTuple):
    """One place to reword."""

    place: str
    line: int
    words: str
    better: str

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: found {self.words!r}; better: {self.better}"


class Passage(NamedTuple):
    """Text as a reader meets it, with the line breaks of its file; `line` is where it starts."""

    line: int
    text: str


def blank(pattern: str, text: str, flags: int = 0) -> str:
    """`text` with every match replaced by `~`; line breaks stay, so that lines can be counted."""
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", "~", match[0]), text, flags=flags)


def findings(passage: Passage, place: str = "text") -> Iterator[Finding]:
    """The words of the list in one passage, paragraph by paragraph."""
    text = blank(r"``.*?``|`[^`]*`", passage.text, re.DOTALL)
    line = passage.line
    for paragraph in re.split(r"(\n(?=\s*(?:\n|[|#>*-])))", text):
        starts, lines, words = [], [], ""
        for match in re.finditer(r"\S+", paragraph):
            starts.append(len(words))
            lines.append(line + paragraph.count("\n", 0, match.start()))
            words += match[0] + " "
        for pattern, better in COMPILED:
            for match in pattern.finditer(words.rstrip()):
                yield Finding(place, lines[bisect.bisect(starts, match.start()) - 1], match[0].strip(), better)
        line += paragraph.count("\n")


def python(source: str) -> Iterator[Passage]:
    """Comments, docstrings and strings of several words. Neighbours are read as one, as Python and people join them."""
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    spacing = {tokenize.NL, tokenize.NEWLINE}
    group: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in spacing:
            continue
        if group and (token.type != group[-1].type or token.start[0] > group[-1].end[0] + 1):
            yield from _joined(group)
            group = []
        if token.type == tokenize.COMMENT or token.type in strings:
            group.append(token)
    yield from _joined(group)


def _joined(group: list[tokenize.TokenInfo]) -> Iterator[Passage]:
    """One passage of neighbouring comments or strings; none of a string of one word, such as a key."""
    text = ""
    several = False
    for token in group:
        words = token.string.lstrip("#: ")
        if token.type != tokenize.COMMENT:
            words = re.sub(r"^\w{0,2}(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$", "", token.string)
            words = blank(r"\{[^{}]*\}", blank(r"\{[^{}]*\}", blank(r"\\[a-z]", words)))
        several = several or token.type == tokenize.COMMENT or bool(re.search(r"\s", words))
        text += "\n" * (token.start[0] - group[0].start[0] - text.count("\n")) + words
    if several:
        yield Passage(group[0].start[0], text)


def markdown(source: str) -> Iterator[Passage]:
    """Prose and tables, and of fenced code the comments."""

    def comments(fence: re.Match[str]) -> str:
        return re.sub(r"^[^#\n]*(#\s)?", lambda code: "~" * len(code[0]), fence[0], flags=re.MULTILINE)

    source = re.sub(r"^```.*?^```", comments, source, flags=re.MULTILINE | re.DOTALL)
    yield Passage(1, blank(r"(?<=\])\([^)]*\)|<[^<>\n]*>", source))


def html(source: str) -> Iterator[Passage]:
    """Text, and the attributes that are shown or read out."""
    source = blank(r"<(script|style)\b.*?</\1>|\{%.*?%\}|\{\{.*?\}\}", source, re.DOTALL)
    source = re.sub(r"\s(?:title|alt|placeholder|aria-label)=\"([^\"]*)\"", r">\1<", source)
    yield Passage(1, blank(r"<[^<>]*>", source))


def quoted(comments: str) -> Callable[[str], Iterator[Passage]]:
    """A reader for other languages: comments of this form, and quoted strings of several words."""
    either = re.compile(rf"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`[^`]*`|(?P<comment>{comments})", re.DOTALL)

    def passages(source: str) -> Iterator[Passage]:
        for match in either.finditer(source):
            text = match["comment"] or blank(r"\$?\{[^{}]*\}", match[0][1:-1])
            if match["comment"] or " " in text.strip():
                yield Passage(source.count("\n", 0, match.start()) + 1, text.lstrip("#/*"))

    return passages


READERS: dict[str, Callable[[str], Iterator[Passage]]] = {
    ".py": python,
    ".md": markdown,
    ".html": html,
    ".j2": html,
    ".js": quoted(r"(?<!:)//[^\n]*|/\*.*?\*/"),
    ".css": quoted(r"/\*.*?\*/"),
}
for kind in (".toml", ".yml", "Makefile", "Dockerfile", ".dockerignore", ".gitignore"):
    READERS[kind] = quoted(r"#[^\n]*")


def read(file: Path) -> list[Finding]:
    """The findings of one file, in the order of its lines."""
    reader = READERS.get(file.name) or READERS[file.suffix]
    found = [finding for passage in reader(file.read_text("utf-8")) for finding in findings(passage, str(file))]
    return sorted(found, key=lambda finding: finding.line)


def files(path: Path) -> list[Path]:
    """The files at `path` that have a reader; this one holds the words and is left out."""
    if path.is_file():
        return [path]
    inside = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "test_language.py")
    visible = (file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts[:-1]))
    return [file for file in visible if file.name in READERS or file.suffix in READERS]


@pytest.mark.parametrize("place", CHECKED)
def test_checked_files_are_in_plain_english(place: str) -> None:
    found = [str(finding) for file in files(ROOT / place) for finding in read(file)]
    assert not found, "\n".join(found)


def test_every_checked_place_is_there_and_has_text() -> None:
    for place in CHECKED:
        assert files(ROOT / place), f"{place}: found nothing to read. Fix: take it out of CHECKED or correct the path"


@pytest.mark.parametrize(("pattern", "better", "example"), WORDS, ids=[example for _, _, example in WORDS])
def test_each_word_of_the_list_is_found_in_its_example(pattern: str, better: str, example: str) -> None:
    assert better in [finding.better for finding in findings(Passage(1, example))]


@pytest.mark.parametrize(
    "text",
    [
        "Besides, the label stands for the whole class, and what has been received stays.",
        "The image is in two classes; give each image a class of its own.",
        "One file of a job, two parts of a layer, 16 adapters in a batch, 46 s on a machine.",
        "With 16 images a batch takes 3 ms. With one image a request is cheaper.",
        "So many images were lost that the run stopped.",
        "It goes on the GPU as of version 0.3; as of 0.4, on the CPU.",
        "Anything else, or else nothing else. Someone else.",
        "This is no longer so, there is no PNG, and it is no more than 3 %.",
        "The cut of late layers is fast, but for early ones it is not.",
        "`beside` and ``pictures`` are names here.",
        "3 images\n\na class of its own",
    ],
)
def test_ordinary_english_is_left_alone(text: str) -> None:
    assert not [str(finding) for finding in findings(Passage(1, text))]


@pytest.mark.parametrize(
    ("reader", "source", "lines"),
    [
        (python, '"""Says\nit anew.\n"""\n', [2]),
        (python, 'raise E("found 3 "\n        "rows. Cure: "\n        "none")\n', [2]),
        (python, "x = 1  # for\n# want of it\npictures = picture['beside']\n", [1]),
        (python, 'f"found {picture or anew} rows, {"a"} beside"\n', [1]),
        (markdown, "# Run\n```bash\npicture anew  # the picture\n```\nIt runs\nanew: [x](anew.md).\n", [3, 6]),
        (html, '<p class="picture">\n{{ picture }}anew</p><img alt="a picture">', [2, 2]),
        (READERS[".js"], "const picture = `a ${picture} anew`; // anew\n/* beside\n*/", [1, 1, 2]),
        (READERS["Makefile"], 'picture:  ## anew\n\techo "Cure: none" picture\n', [1, 2]),
    ],
    ids=["docstring", "joined strings", "comments", "f-string", "Markdown", "HTML", "JavaScript", "Makefile"],
)
def test_words_are_found_in_prose_and_not_in_code(
    reader: Callable[[str], Iterator[Passage]], source: str, lines: list[int]
) -> None:
    assert sorted(finding.line for passage in reader(source) for finding in findings(passage)) == lines


def test_a_finding_names_its_line_the_words_and_better_ones(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Fine.\n\nIt is measured\nanew.\n")
    (tmp_path / "picture.bin").write_text("anew")
    assert [str(finding) for file in files(tmp_path) for finding in read(file)] == [
        f"{tmp_path / 'a.md'}:4: found 'anew'; better: again"
    ]


if __name__ == "__main__":
    listed = [finding for path in sys.argv[1:] for file in files(Path(path)) for finding in read(file)]
    sys.stdout.write("".join(f"{finding}\n" for finding in listed) or "nothing found\n")
    sys.exit(bool(listed))
