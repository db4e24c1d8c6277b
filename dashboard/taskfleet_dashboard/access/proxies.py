"""Access by the headers of a proxy that has asked an identity provider, as OIDC proxies set them.

Only requests that come from one of the trusted addresses are believed. Who reaches the dashboard past the proxy would
else be whoever they say they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection

from taskfleet.errors import ConfigurationError
from taskfleet_dashboard.access.visitor import AccessDenied, Visitor

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """An address or a network. Errors: `ConfigurationError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ConfigurationError(f"--trusted-proxy {text!r} is no address and no network, such as 10.0.0.0/8") from None


class ProxyAccess:
    """The user's name is in one header, the groups in another, with commas between them.

    With `edit_groups`, their members may change something, else everybody whom the proxy lets through; with
    `view_groups`, only their members and those of `edit_groups` may look.
    """

    login: str | None = None

    def __init__(
        self,
        user_header: str,
        groups_header: str,
        trusted: Sequence[Network],
        *,
        edit_groups: Sequence[str] = (),
        view_groups: Sequence[str] = (),
    ) -> None:
        if not trusted:
            raise ConfigurationError("--proxy-user-header needs --trusted-proxy: who else could send that header?")
        if (edit_groups or view_groups) and not groups_header:
            raise ConfigurationError("--edit-group and --view-group need --proxy-groups-header")
        self._user_header = user_header
        self._groups_header = groups_header
        self._trusted = tuple(trusted)
        self._edit_groups = frozenset(edit_groups)
        self._view_groups = frozenset(view_groups) | self._edit_groups if view_groups else frozenset[str]()

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped if mapped is not None else address
        return any(address.version == each.version and address in each for each in self._trusted)

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it, as the proxy says. Errors: `AccessDenied`."""
        if request.client is None or not self._is_trusted(request.client.host):
            raise AccessDenied("this dashboard is reached through its proxy only", status=403)
        users = request.headers.getlist(self._user_header)
        if len(users) != 1 or not users[0].strip():
            raise AccessDenied(f"the proxy has sent no {self._user_header}: log in there")
        groups = set[str]()
        if self._groups_header:
            values = request.headers.getlist(self._groups_header)
            if len(values) > 1:
                # A proxy that adds its header to that of the request lets everybody choose a group.
                raise AccessDenied(
                    f"{self._groups_header} has come several times: the proxy has to replace it", status=403
                )
            groups = {group.strip() for value in values for group in value.split(",") if group.strip()}
        if self._view_groups and not groups & self._view_groups:
            raise AccessDenied("none of your groups may see this dashboard", status=403)
        may_change = not self._edit_groups or bool(groups & self._edit_groups)
        return Visitor(users[0].strip(), may_change=may_change)

    async def of_token(self, token: str) -> Visitor:
        """There are no tokens."""
        raise AccessDenied("this dashboard has no login of its own: log in at its proxy", status=404)

    def is_ambient(self, request: HTTPConnection) -> bool:
        """The proxy knows its users by a cookie."""
        return True
