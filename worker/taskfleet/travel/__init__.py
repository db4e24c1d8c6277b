"""The encoding of arguments and results: the same value arrives, or it is refused where it is sent.

The promise of an annotation is read once, when the task is defined (`promise`). Then a value is sent in one of four
ways:

    as it is    its exact type is one that messagepack keeps, and its annotation names it
    JSON        values of the annotation are known to load equal from pydantic's JSON, so they are not compared
    typed       all other values: each part names its type (`typed`), so a tuple stays a tuple, a secret keeps its
                value, and validators run once, in the process that sends
    verified    classes of the application that only pydantic can dump: their values are loaded and compared first

`value` chooses the way for one parameter or result.
"""

from __future__ import annotations
