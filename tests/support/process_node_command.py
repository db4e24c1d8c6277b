"""The command of a container on this machine: its arguments, environment, volumes and ports, resolved and remapped."""

from __future__ import annotations

import base64
import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.process_node_api import NodeApi, NodeApiError, Object

ROOT = Path(__file__).parents[2]
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "REQUESTS_CA_BUNDLE", "TMPDIR", "VIRTUAL_ENV")


class ContainerConfigError(Exception):
    """The container cannot be made, as with kubelet's reason CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class LocalCommand:
    """`ports` gives the local port of each container port. Without `arguments` there is nothing to run."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    ports: dict[int, int]


async def resolve(api: NodeApi, pod: Object, container: Object, folder: Path) -> LocalCommand:
    """The command of one container of a pod; its volumes are written below `folder`.

    Raises:
        ContainerConfigError: a ConfigMap, Secret or key is missing, or a field is not supported here.
    """
    sources = _Sources(api, pod["metadata"]["namespace"])
    mounts = {
        mount["mountPath"]: await _volume(sources, pod, mount["name"], folder)
        for mount in container.get("volumeMounts", ())
    }
    environment = await _environment(sources, pod, container)
    arguments = [_expanded(part, environment) for part in (*container.get("command", ()), *container.get("args", ()))]
    arguments = [_remapped(part, mounts) for part in arguments]
    ports = _ports(container)
    given = {name: _remapped(value, mounts) for name, value in environment.items()}
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return LocalCommand(
        _on_this_machine(arguments, ports), {**inherited, "PROCESS_NODE_IMAGE": container["image"], **given}, ports
    )


class _Sources:
    """Reads ConfigMaps and Secrets of one namespace."""

    def __init__(self, api: NodeApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def values(self, plural: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        try:
            found = await self._api.call("GET", f"/api/v1/namespaces/{self._namespace}/{plural}/{name}")
        except NodeApiError as error:
            if error.status != 404:
                raise
            if optional:
                return {}
            raise ContainerConfigError(f'{plural[:-1]} "{name}" not found') from None
        data = found.get("data") or {}
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        return {key: value.encode() for key, value in data.items()}

    async def value(self, plural: str, reference: Object) -> str | None:
        optional = reference.get("optional", False)
        values = await self.values(plural, reference["name"], optional=optional)
        if reference["key"] in values:
            return values[reference["key"]].decode()
        if optional:
            return None
        raise ContainerConfigError(f"couldn't find key {reference['key']} in {plural[:-1]} {reference['name']}")


async def _environment(sources: _Sources, pod: Object, container: Object) -> dict[str, str]:
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        plural, reference = ("secrets", source["secretRef"]) if "secretRef" in source else (
            "configmaps", source["configMapRef"]
        )  # fmt: skip
        values = await sources.values(plural, reference["name"], optional=reference.get("optional", False))
        environment |= {source.get("prefix", "") + key: value.decode() for key, value in values.items()}
    for entry in container.get("env", ()):
        origin = entry.get("valueFrom")
        value: str | None
        if origin is None:
            value = _expanded(entry.get("value", ""), environment)
        elif "secretKeyRef" in origin:
            value = await sources.value("secrets", origin["secretKeyRef"])
        elif "configMapKeyRef" in origin:
            value = await sources.value("configmaps", origin["configMapKeyRef"])
        elif "fieldRef" in origin:
            value = _field(pod, origin["fieldRef"]["fieldPath"])
        else:
            raise ContainerConfigError(f"env {entry['name']}: a process node knows no {next(iter(origin))}")
        if value is not None:
            environment[entry["name"]] = value
    return environment


def _field(pod: Object, path: str) -> str:
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    if path in ("status.podIP", "status.hostIP"):
        return "127.0.0.1"
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, {})
    if not isinstance(value, str):
        raise ContainerConfigError(f"a process node knows no field {path}")
    return value


async def _volume(sources: _Sources, pod: Object, name: str, folder: Path) -> Path:
    """The folder of one volume, with its files."""
    volume = next(one for one in pod["spec"].get("volumes", ()) if one["name"] == name)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for part in volume["projected"]["sources"] if "projected" in volume else [volume]:
        if "secret" in part:
            secret = part["secret"]
            which = secret.get("secretName", secret.get("name"))
            values = await sources.values("secrets", which, optional=secret.get("optional", False))
            _write(place, values, secret.get("items"), secret.get("optional", False))
        elif "configMap" in part:
            config = part["configMap"]
            values = await sources.values("configmaps", config["name"], optional=config.get("optional", False))
            _write(place, values, config.get("items"), config.get("optional", False))
        elif "emptyDir" not in part:
            kind = next(key for key in part if key != "name")
            raise ContainerConfigError(f"volume {name}: a process node has no {kind}")
    return place


def _write(place: Path, values: dict[str, bytes], items: Sequence[Object] | None, optional: bool) -> None:
    wanted = {item["path"]: item["key"] for item in items} if items is not None else {key: key for key in values}
    for path, key in wanted.items():
        if key not in values:
            if optional:
                continue
            raise ContainerConfigError(f"references non-existent secret or config key: {key}")
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}")
        unfinished.write_bytes(values[key])
        unfinished.rename(target)


def _expanded(text: str, environment: dict[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it: an unknown name stays."""
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", lambda found: environment.get(found[1], found[0]), text)


def _remapped(text: str, mounts: dict[str, Path]) -> str:
    """The text with places of this machine for mounted paths. One place may contain another mount's path: `/tmp`."""
    places = {path.rstrip("/"): str(place) for path, place in mounts.items()}
    paths = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    return re.sub(rf"(?<![\w/.])(?:{paths})(?=/|$)", lambda found: places[found[0]], text) if places else text


def _ports(container: Object) -> dict[int, int]:
    """A free local port for each container port."""
    return {port["containerPort"]: free_port() for port in container.get("ports", ())}


def _option(arguments: Sequence[str], name: str) -> str | None:
    return next((value for key, value in itertools.pairwise(arguments) if key == name), None)


def _on_this_machine(arguments: list[str], ports: dict[int, int]) -> tuple[str, ...]:
    if not arguments:
        return ()
    if (port := _option(arguments, "--probe-port")) is not None:
        arguments[arguments.index("--probe-port") + 1] = str(ports.get(int(port), port))
        if "--probe-host" in arguments:
            arguments[arguments.index("--probe-host") + 1] = "127.0.0.1"
        else:
            arguments += ["--probe-host", "127.0.0.1"]
    program, *rest = arguments
    if program == "taskfleet":
        return (sys.executable, "-m", "taskfleet", *rest)
    if program in ("python", "python3"):
        return (sys.executable, *rest)
    return (program, *rest)
