"""A Python that runs the snippets of a page one after another: one module, one event loop, `await` at the top level.

Run as a program: it reads one JSON object a line, `{"source", "file", "line", "fresh"}`, and answers with one:
`{"output", "error"}`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import json
import os
import sys
import traceback
import types
from typing import Any


class Interpreter:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._modules: list[types.ModuleType] = []
        self.begin()

    def begin(self) -> None:
        """The snippets from here on are a module of their own."""
        module = types.ModuleType(f"page_{len(self._modules)}")
        sys.modules[module.__name__] = module
        self._modules.append(module)

    def run(self, source: str, file: str, line: int) -> None:
        names = self._modules[-1].__dict__
        if source.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(source, names, file, file, line - 1)
            test.globs = names  # in place of a copy: the next block goes on
            # Blanks are as one: lines of a page are broken where they are long.
            if doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, clear_globs=False).failed:
                raise AssertionError("the output differs")
            return
        tree = ast.increment_lineno(ast.parse(source, file), line - 1)
        result = eval(compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True), names)
        if inspect.iscoroutine(result):
            self._runner.run(result)

    def close(self) -> None:
        queues = {id(value): value for module in self._modules for value in vars(module).values() if _is_queue(value)}
        for queue in queues.values():
            self._runner.run(_end(queue))
        self._runner.close()


def _is_queue(value: Any) -> bool:
    return any(base.__name__ == "TaskQueue" for base in type(value).__mro__)


async def _end(queue: Any) -> None:
    await queue.stop_workers()
    await queue.close()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.path.insert(0, os.getcwd())
    interpreter = Interpreter()
    for request in map(json.loads, sys.stdin):
        output, error = io.StringIO(), None
        if request["fresh"]:
            interpreter.begin()
        with contextlib.redirect_stdout(output):
            try:
                interpreter.run(request["source"], request["file"], request["line"])
            except BaseException:
                error = traceback.format_exc()
        print(json.dumps({"output": output.getvalue(), "error": error}), file=answers, flush=True)
    interpreter.close()


if __name__ == "__main__":
    main()
