"""The files that the Lua scripts are joined from: what they name, and that the model in Python has the same names."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from taskfleet.errors import TaskQueueError
from taskfleet.memory.model import QueueModel
from taskfleet.memory.sorted_set import SortedSet
from taskfleet.memory.state import QueueState
from taskfleet.memory.step import Step
from taskfleet.redis import scripts

LUA = Path(scripts.__file__).parent / "lua"
FILES = sorted(path.relative_to(LUA).with_suffix("").as_posix() for path in LUA.rglob("*.lua"))
ENTRIES = [value.name for value in vars(scripts).values() if isinstance(value, scripts.Script)]
ENTRIES += [script.name for script in scripts.DOCTOR.values()]

LUA_AND_REDIS = """
    and break do else elseif end false for function if in local nil not or repeat return then true until while
    redis cmsgpack struct math string table tonumber tostring type pcall ipairs pairs unpack error KEYS ARGV
"""
# Functions that only the scripts need, each with the reason.
REDIS_ONLY = {
    "records are bytes in Redis, which another program may have written": {
        "unpacked", "text_or_nil", "number_or_nil", "parsed_history", "history_text", "write_history", "sound_tag",
        "tag_of", "tag_if_any", "parsed_gather", "count",
    },
    "one call has bounds: what is beyond them is read by pages, or left to a job": {
        "may_free", "fitting", "each_thousand", "sweep", "wrap", "unwrapped", "is_wide", "paged",
        "drop_inputs_of_letters", "signals_left",
    },
    "counters are written once, at the end of a call": {"add", "write_counts"},
    "the most frequent call has a form of its own, in fewest commands": {"claim_when_called"},
    "what a call needs of many tasks is read together, and written together": {
        "tags_of", "learn_slots", "write_slots", "write_put_back", "note_errors", "hand_over",
    },
    "a call that is sent twice is answered from its first time": {"answer"},
}  # fmt: skip
# Methods that only the model needs, each with the reason.
MODEL_ONLY = {
    "the body of the script is the function": {"run", "enqueue"},
    "parked tasks are in one sorted set in Redis": {"leave_parked"},
    "errors of attempts are written together in Redis": {"note_error"},
    "Redis forgets results itself": {"keep_result", "result_of"},
}


@cache
def code_of(file: str) -> str:
    """The text of a file without comments and texts."""
    without_comments = re.sub(r"--[^\n]*", "", scripts.text_of(file))
    return re.sub(r"'(?:[^'\\\n]|\\.)*'", "''", without_comments)


@cache
def names_of(file: str) -> frozenset[str]:
    """The names that a file gives to those after it: its locals outside all blocks."""
    found: set[str] = set()
    for function, names in re.findall(r"^local (?:function (\w+)|([\w, ]+))", code_of(file), re.MULTILINE):
        found |= {function} if function else {name.strip() for name in names.split(",")}
    return frozenset(found)


def free_names_of(file: str) -> set[str]:
    """The names in a file that it does not declare itself and that are not of Lua or of Redis."""
    code = code_of(file)
    without_keys = re.sub(r"\{[^{}]*\}", lambda table: re.sub(r"\w+ = ", "", table.group()), code)
    used = set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", without_keys))
    declared = set(names_of(file))
    for names in re.findall(r"local (?!function)([\w, ]+)|function ?[\w.]*\(([\w, ]*)\)|for ([\w, ]+?) (?:in|=)", code):
        declared |= {name.strip() for group in names for name in group.split(",")}
    declared |= functions_of(file)
    return used - declared - set(LUA_AND_REDIS.split())


def functions_of(*files: str) -> set[str]:
    return {name for file in files for name in re.findall(r"local function (\w+)", code_of(file))}


def methods_of(model: type, *, below: str = "") -> set[str]:
    """The methods that a class defines itself, without the underscore; with `below` only those under its comment."""
    lines = inspect.getsource(model).splitlines()
    found: set[str] = set()
    here = not below
    for line in lines:
        if below and line.startswith("    # "):
            here = below in line
        if here and (method := re.match(r"    def _?([a-z]\w*)", line)):
            found.add(method.group(1))
    return found


def of(reasons: dict[str, set[str]]) -> set[str]:
    return set().union(*reasons.values())


def test_every_file_belongs_to_a_script() -> None:
    joined = {file for entry in ENTRIES for file, _ in scripts.joined(entry)} - {"keys"}
    assert joined == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_file_names_all_files_that_it_uses_and_no_other(file: str) -> None:
    free = free_names_of(file)
    needed = {other: names_of(other) for other in scripts.named(file, "needs")}
    assert free - set().union(*needed.values()) == set(), "names that no needed file gives"
    assert [other for other, names in needed.items() if not names & free] == [], "needed files that it does not use"


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_file_hides_a_name_of_another_file_of_its_script(entry: str) -> None:
    blocks = {following for file in FILES for following in scripts.named(file, "then")}
    names = [name for file, _ in scripts.joined(entry) if file not in blocks for name in names_of(file)]
    assert len(names) == len(set(names))
    assert len(names) < 150, "Lua allows 200 locals"


def test_the_acts_of_a_step_are_those_of_the_model() -> None:
    acts = [file.removeprefix("step/") for file in scripts.named("step", "then")]
    assert re.findall(r"self\._(\w+)\(", inspect.getsource(Step.run)) == acts


def test_a_step_has_the_same_names_in_lua_and_in_the_model() -> None:
    step = [file for file in FILES if file.split("/")[0] == "step"]
    acts = {file.removeprefix("step/") for file in scripts.named("step", "then")}
    of_sorted_sets = methods_of(SortedSet)
    in_lua = functions_of(*step) - of(REDIS_ONLY) - of_sorted_sets
    in_model = methods_of(Step) | methods_of(QueueState, below="lua/step/")
    assert in_lua | acts == in_model - of(MODEL_ONLY)


def test_the_moves_of_a_queue_have_the_same_names_in_lua_and_in_the_model() -> None:
    moves = [file for file in FILES if file.startswith("queue/")]
    in_model = methods_of(QueueState) - methods_of(QueueState, below="lua/step/")
    assert functions_of(*moves) - of(REDIS_ONLY) == in_model - of(MODEL_ONLY)


def test_enqueue_has_the_same_names_in_lua_and_in_the_model() -> None:
    in_lua = functions_of("enqueue", "enqueue/one_by_one") - of(REDIS_ONLY)
    assert in_lua == methods_of(QueueModel, below="lua/enqueue.lua") - of(MODEL_ONLY) - {"say_active"}


def test_no_exception_is_out_of_date() -> None:
    in_lua = functions_of(*FILES)
    in_model = methods_of(Step) | methods_of(QueueState) | methods_of(QueueModel)
    assert of(REDIS_ONLY) <= in_lua - in_model
    assert of(MODEL_ONLY) <= in_model - in_lua


def test_the_sections_of_the_model_name_files_that_exist() -> None:
    for model in (Step, QueueState, QueueModel):
        for line in re.findall(r"^    # lua/(.*)$", inspect.getsource(model), re.MULTILINE):
            first, *others = [name.removesuffix(".lua") for name in line.split(", ")]
            folder = first.rpartition("/")[0]
            for name in (first, *others):
                assert {name, f"{folder}/{name}"} & set(FILES), line


@pytest.mark.parametrize("replaced", ["step", "step/when_called", "keys"])
def test_a_file_that_was_replaced_under_the_process_is_refused(replaced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process would send a script of another version, and read its replies as those of its own."""
    kept, text_of = scripts.STEP.source, scripts.text_of

    @cache
    def other(file: str) -> str:
        return text_of(file) + ("-- of the next version\n" if file == replaced else "")

    monkeypatch.setattr(scripts, "text_of", other)
    with pytest.raises(TaskQueueError, match=r"step\.lua among them: restart it"):
        _ = scripts.STEP.source
    monkeypatch.undo()
    assert scripts.STEP.source == kept
