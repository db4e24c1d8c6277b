"""The classes of an application that a typed form may name."""

from __future__ import annotations


class Classes:
    """The classes that an annotation names, by their tags in a typed form."""

    def __init__(self, classes: tuple[type, ...] = ()) -> None:
        self.by_tag: dict[str, type] = {}
        self.tags: dict[type, str] = {}
        for cls in classes:
            # The module is added only to tell two classes apart: the module of a program is `__main__` in one process
            # and not in another.
            tag = cls.__qualname__
            if tag in self.by_tag:
                tag = f"{cls.__module__}:{tag}"
            while tag in self.by_tag:
                tag += "+"
            self.by_tag[tag] = cls
            self.tags[cls] = tag


NO_CLASSES = Classes()
