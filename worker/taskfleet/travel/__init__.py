"""How arguments and results travel: what is sent is what arrives, or it is refused.

What a type promises is settled once, when the task is defined (`promise`). Then a value goes in one of four ways:

    as it is    its exact type is one that messagepack keeps, and its annotation names it
    JSON        the annotation is known to come back equal from pydantic's JSON: dumped once, no second look
    typed       everything else: each part says what it is (`typed`), so a tuple stays a tuple, a secret keeps its
                value, and validators run once, in the process that sends
    verified    classes of the application's own that only pydantic knows to dump: loaded back and compared first

`value` puts them together for one parameter or result.
"""

from __future__ import annotations
