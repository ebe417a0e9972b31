"""The house stays one that a stranger can read: short files, functions and sentences, few arguments, no name twice."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "whisper_farm"
FILES = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in FILES.items()}
Function = ast.FunctionDef | ast.AsyncFunctionDef
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_ARGUMENTS, MOST_WORDS = 350, 40, 6, 25


def functions() -> Iterator[tuple[str, Function]]:
    for name, tree in TREES.items():
        yield from ((f"{name} {node.name}", node) for node in ast.walk(tree) if isinstance(node, Function))


def told(function: Function) -> list[str]:
    every = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return [each.arg for each in every if each.arg not in ("self", "cls")]


def is_route(function: Function) -> bool:
    """Its arguments are the parameters of an address, and what the framework gives."""
    return any("router." in ast.unparse(each) for each in function.decorator_list)


def test_no_file_is_long() -> None:
    assert {name for name, text in FILES.items() if text.count("\n") > MOST_LINES} == set()


def test_no_function_is_long() -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_no_function_is_told_much() -> None:
    found = {name: told(node) for name, node in functions() if not is_route(node)}
    assert {name: arguments for name, arguments in found.items() if len(arguments) > MOST_ARGUMENTS} == {}


def test_no_public_class_has_the_name_of_another() -> None:
    nodes = (node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, times in Counter(node.name for node in nodes).items() if times > 1 and name[0] != "_"] == []


def test_no_sentence_is_long() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, documented))
    prose = ((ast.get_docstring(node) or "").partition("\b")[0] for node in nodes)  # examples come behind
    sentences = (sentence for text in prose for sentence in re.split(r"(?<=[.:;])\s+|\n\n", text))
    assert [sentence for sentence in sentences if len(sentence.split()) > MOST_WORDS] == []
