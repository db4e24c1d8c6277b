"""Blocks that are data: well formed, a TaskQueue valid, a configuration accepted."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from taskfleet import config
from taskfleet_operator.resource import kubectl_yaml, manifest
from tests.docs.blocks import REPOSITORY, Block, commands_of
from tests.support.manifests import GOOD

CHART = REPOSITORY / "helm" / "taskfleet"
KNOWN = {"python", "console", "sh", "bash", "yaml", "toml", "json", "ini", "text", "", "javascript", "dockerfile"}


def check(block: Block, folder: Path) -> None:
    """`AssertionError` for a block that is not well formed in its language, or in one that has no rule."""
    assert block.language in KNOWN, f"{block.where}: no rule for '{block.language}'"
    try:
        _check(block, folder)
    except Exception as error:
        raise AssertionError(f"{block.where}: {error}") from error


def _check(block: Block, folder: Path) -> None:
    match block.language:
        case "python":
            if not block.code.lstrip().startswith(">>>"):
                compile(block.code, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        case "console" | "sh" | "bash":
            for command in commands_of(block):
                _shell(command.text)
        case "yaml":
            _yaml(block)
        case "toml":
            _toml(block, folder)
        case "json":
            for document in block.code.strip().split("\n\n"):
                json.loads(document)
        case "ini":
            configparser.RawConfigParser(strict=False, delimiters=("=",)).read_string(block.code)
        case _:
            pass


def _shell(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for extras in re.findall(r"taskfleet\[([\w,-]+)\]", command):
        known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras.split(",")) <= known.keys(), f"no extra of {extras}"
    for chore in re.findall(r"^make ([a-z][\w-]*)", command):
        assert re.search(rf"^{chore}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), f"no chore {chore}"


def _yaml(block: Block) -> None:
    for document in kubectl_yaml.documents(block.code):
        assert isinstance(document, dict), "not a mapping"
        if "kind" in document:
            assert "apiVersion" in document
            if document["kind"] == "TaskQueue":
                manifest.accept(document, block.where)
        elif "services" in document:
            assert all({"image", "build"} & service.keys() for service in document["services"].values())
        elif document.keys() <= yaml.safe_load((CHART / "values.yaml").read_text()).keys():
            jsonschema.validate(document, json.loads((CHART / "values.schema.json").read_text()))
        elif block.file is None:
            manifest.accept(_merged(GOOD, document if "spec" in document else {"spec": document}), block.where)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A fragment of a resource, with the rest of a small one."""
    both = {key: _merged(under[key], over[key]) for key in under.keys() & over.keys() if isinstance(over[key], dict)}
    return under | over | both


def _toml(block: Block, folder: Path) -> None:
    if block.file not in {None, "task-queue.toml"}:
        tomllib.loads(block.code)
        return
    file = folder / "block" / "task-queue.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(block.code, encoding="utf-8")
    config.load(file)
