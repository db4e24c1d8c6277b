"""How arguments and results travel: the same value arrives, or it is refused where it is sent.

The promise of an annotation is read once, when the task is defined (`promise`). Then a value travels in one of four
ways:

    as it is    its exact type is one that messagepack keeps, and its annotation names it
    JSON        values of the annotation are known to come back equal from pydantic's JSON: dumped once, not compared
    typed       everything else: each part names its type (`typed`), so a tuple stays a tuple, a secret keeps its value,
                and validators run once, in the process that sends
    verified    classes of the application that only pydantic can dump: they are loaded back and compared first

`value` chooses the way for one parameter or result.
"""

from __future__ import annotations
