"""A Redis URL is used exactly as written, or refused when the queue is made."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from taskfleet import ConfigurationError, TaskQueue
from taskfleet.redis import urls
from taskfleet.redis.connection_options import ConnectionOptions, Timeouts
from taskfleet.redis.tls import Tls
from taskfleet.redis.url_options import UrlOptions
from taskfleet.redis.urls import RedisAddress

SECRET = "hidden"


def place(*hosts: tuple[str, int], **more: object) -> RedisAddress:
    return RedisAddress("standalone", False, hosts, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", place(("h", 6379))),
        ("redis://h/", place(("h", 6379))),
        ("REDIS://h:1/0", place(("h", 1))),
        ("redis://h:1/15", place(("h", 1), database=15)),
        ("redis://h?db=4", place(("h", 6379), database=4, options=UrlOptions(db=4))),
        ("redis://[::1]:7/2", place(("::1", 7), database=2)),
        ("redis://[fd00::7]", place(("fd00::7", 6379))),
        ("redis://:hidden@h", place(("h", 6379), password="hidden")),
        ("redis://u:p%40s%2Fs%3A%5B@h", place(("h", 6379), username="u", password="p@s/s:[")),
        ("redis://u:a:b@h", place(("h", 6379), username="u", password="a:b")),
        ("redis://my_redis.svc-1:6379/0", place(("my_redis.svc-1", 6379))),
        (
            "redis://h?protocol=3&client_name=shop",
            place(("h", 6379), options=UrlOptions(protocol=3, client_name="shop")),
        ),
        ("unix:///run/redis.sock", place(path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=3", place(path="/run/redis.sock", database=3, options=UrlOptions(db=3))),
        ("unix://u:p%40@/run/a%20b.sock", place(username="u", password="p@", path="/run/a b.sock")),
        ("unix:///r.sock?password=x", place(password="x", path="/r.sock", options=UrlOptions(password="x"))),
        ("rediss://h", RedisAddress("standalone", True, (("h", 6379),))),
        ("redis+cluster://a:1,b", RedisAddress("cluster", False, (("a", 1), ("b", 6379)))),
        ("redis+cluster://a:1/0", RedisAddress("cluster", False, (("a", 1),))),
        ("redis+sentinel://a,b:1/main", RedisAddress("sentinel", False, (("a", 26379), ("b", 1)), master="main")),
        ("rediss+sentinel://u:p@a/main/3", RedisAddress("sentinel", True, (("a", 26379),), "u", "p", "main", 3)),
    ],
)
def test_a_url_is_read_as_it_says(url: str, expected: RedisAddress) -> None:
    assert urls.parse(url) == expected
    assert TaskQueue(url).url == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        # Databases.
        ("redis://host/x", "database 'x' is not a number"),
        ("redis://host/-1", "database '-1' is not a number"),
        ("redis://host/1x", "database '1x' is not a number"),
        ("redis://host/1.0", "database '1.0' is not a number"),
        ("redis://host/²", "database '²' is not a number"),
        ("redis://host/99999999999", "database '99999999999' is not a number"),
        ("redis://host/" + "9" * 5000, "is not a number"),
        ("redis://host/0/x", "there is more behind the database"),
        ("redis://host/0?db=1", "the path and db= both name a database"),
        ("redis://host?db=x", "database 'x' is not a number"),
        ("redis+cluster://host/3", "a Cluster has no database but 0"),
        ("redis+cluster://host/0/0", "a Cluster has no database but 0"),
        ("redis+sentinel://host/main/x", "database 'x' is not a number"),
        ("redis+sentinel://host/main/0/1", "there is more behind the database"),
        ("redis+sentinel://host", "needs the master's name"),
        # Hosts and ports.
        ("redis://", "there is no host in it"),
        ("redis:///0", "there is no host in it"),
        ("redis://:6379/0", "there is no host in it"),
        ("redis://u:hidden@", "there is no host in it"),
        ("redis://u:hidden@/0", "there is no host in it"),
        ("redis+cluster://a,,b", "there is no host in it"),
        ("redis+cluster://a,", "there is no host in it"),
        ("redis://h:0", "for host 'h': the port is not a number of 1 to 65535"),
        ("redis://h:65536", "the port is not a number of 1 to 65535"),
        ("redis://h:-1", "the port is not a number"),
        ("redis://h:", "the port is not a number"),
        ("redis://h:²", "the port is not a number"),
        ("redis://h:" + "9" * 5000, "the port is not a number"),
        ("redis://a:1,b:2", "redis:// names one host"),
        ("redis://a,b", "redis:// names one host"),
        ("redis://::1", "an IPv6 address stands in brackets"),
        ("redis://::1:6379", "an IPv6 address stands in brackets"),
        ("redis://h:6379:6380", "there is more than one colon in host and port"),
        ("redis://a;b", "the host is neither a name nor an address"),
        ("redis://a..b", "the host is neither a name nor an address"),
        ("redis://" + "a" * 64, "the host is neither a name nor an address"),
        ("redis://" + "a." * 127 + "b", "the host is neither a name nor an address"),
        ("redis://u:hidden@[::1", "its brackets do not match"),
        ("redis://u:hidden@::1]", "is"),
        ("redis://[nothing]:6379", "Redis URL: "),
        ("redis://[::1]x:6379", "Redis URL: "),
        # User names and passwords.
        ("redis://u:hid@hidden@h", "percent-encode it: @ is %40, / is %2F"),
        ("redis://u:hid/hidden@h:6379/0", "percent-encode it"),
        ("redis://u:hid?hidden@h", "percent-encode it"),
        ("redis://u:hid#hidden@h", "percent-encode it"),
        ("redis://u:hidden[@h", "percent-encode it"),
        ("redis://u:%ffhidden@h", "what is percent-encoded in it is not UTF-8"),
        ("redis://u:hidden@h#x", "there is a # in it"),
        ("redis://u:hidden@h?username=v", "it has two times a username"),
        ("redis+cluster://u:hid@hidden@h", "percent-encode it"),
        ("redis+sentinel://u:hid/hidden@h/main", "percent-encode it"),
        # Options.
        ("redis://h?bogus=1", "option 'bogus' is not known; expected one of db, protocol, client_name"),
        ("redis://h?protocl=3", "(did you mean 'protocol'?)"),
        ("redis://h?protocol=4", "protocol='4' is not known; expected 2 or 3"),
        ("redis://h?db=1&db=2", "option 'db' wants one value"),
        ("redis://h?db=", "option 'db' wants one value"),
        ("redis://h?db", "option 'db' wants one value"),
        ("redis://h?socket_timeout=nan", "socket_timeout='nan' is not known; expected seconds, more than 0"),
        ("redis://h?socket_timeout=0", "expected seconds, more than 0, at most 3600"),
        ("redis://h?socket_connect_timeout=-1", "socket_connect_timeout='-1' is not known; expected seconds"),
        ("redis://h?socket_connect_timeout=1e9", "expected seconds, more than 0, at most 3600"),
        ("redis://h?max_connections=0", "max_connections='0' is not known; expected a whole number from 1 to 10000"),
        ("redis://h?health_check_interval=x", "expected a whole number from 0 to 3600"),
        ("redis://h?health_check_intervall=3", "(did you mean 'health_check_interval'?)"),
        ("redis://h?socket_keepalive=false", "socket_keepalive is always on here; leave the option out"),
        ("redis://h?retry_on_timeout=maybe", "retry_on_timeout='maybe' is not known; expected true or false"),
        ("redis://h?decode_responses=true", "option 'decode_responses' is not known"),
        ("redis://h?ssl_cert_reqs=none", "option 'ssl_cert_reqs' is of TLS; write rediss://"),
        ("unix:///r.sock?ssl_ca_certs=/ca.pem", "option 'ssl_ca_certs' is of TLS; write rediss://"),
        ("rediss://h?ssl_cert_reqs=nope", "ssl_cert_reqs='nope' is not known; expected required or none"),
        ("rediss://h?ssl_check_hostname=2", "ssl_check_hostname='2' is not known; expected true or false"),
        ("rediss://h?ssl_keyfile=/k.pem", "option 'ssl_keyfile' needs 'ssl_certfile'"),
        ("rediss+cluster://h?ssl_cert_reqs=none", "TLS are set in [redis]"),
        ("redis+cluster://h?db=0", "option 'db' is not known; it takes none"),
        ("redis+sentinel://h/main?protocol=3", "it takes none"),
        # Schemes and form.
        ("", "it is empty"),
        ("localhost", "it does not begin with a scheme and ://"),
        ("localhost:6379", "it does not begin with a scheme and ://"),
        ("redis:h:6379", "it does not begin with a scheme and ://"),
        ("redis:/h", "it does not begin with a scheme and ://"),
        ("hidden@h:6379", "it does not begin with a scheme"),
        ("hidden@h://x", "it does not begin with a scheme"),
        ("http://h", "scheme 'http' is not known"),
        ("reids://h", "scheme 'reids' is not known (did you mean 'redis'?)"),
        ("redis+sentinels://h/m", "(did you mean 'redis+sentinel'?)"),
        ("memroy://x", "(did you mean 'memory'?)"),
        (" redis://h", "there is white space"),
        ("redis://h:6379/0\n", "there is white space"),
        ("redis://h :6379", "there is white space"),
        ("redis://h\x1b[31m", "there is white space or an unprintable character"),
        ("redis://\udcff", "there is white space or an unprintable character"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        (b"redis://h", "a bytes is no text"),
        (5, "an int is no text"),
    ],
)
def test_a_url_that_means_something_else_is_refused_at_once(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue(url)
    text = str(caught.value)
    assert text.startswith("Redis URL")
    assert problem in text
    assert SECRET not in text
    assert "\n" not in text
    assert text.isprintable()


def test_a_url_from_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://host/x")
    with pytest.raises(ConfigurationError, match="database 'x'"):
        TaskQueue()
    with pytest.raises(ConfigurationError, match="database 'x'"):
        TaskQueue.from_config()


def test_a_url_from_a_secret_may_end_with_a_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://host/1\n")
    assert TaskQueue().url == TaskQueue.from_config().url == "redis://host/1"
    monkeypatch.setenv("REDIS_URL", "redis://host\n/1")
    with pytest.raises(ConfigurationError, match="there is white space"):
        TaskQueue()


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("CLUSTER_ADDRESSES", "a:x", "redis.cluster_addresses for host 'a': the port is not a number"),
        ("CLUSTER_ADDRESSES", "::1:6379", "an IPv6 address stands in brackets"),
        ("CLUSTER_ADDRESSES", "a b:1", "the host is neither a name nor an address"),
        ("CLUSTER_ADDRESSES", '[":1"]', "there is no host in it"),
    ],
)
def test_addresses_are_checked_like_hosts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(f"TASKFLEET_REDIS__{variable}", value)
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue()
    assert problem in str(caught.value)


def test_options_of_the_url_reach_the_connection() -> None:
    options = ConnectionOptions("redis://u:p%40@h:1/3?protocol=2&client_name=shop").for_data_servers()
    assert options == {"username": "u", "password": "p@", "db": 3, "protocol": 2, "client_name": "shop"}
    assert ConnectionOptions("unix:///r.sock?db=1").for_data_servers()["path"] == "/r.sock"
    assert urls.address("unix://u:hidden@/r.sock") == "/r.sock"


def test_options_of_redis_py_stand_over_the_settings_that_say_the_same() -> None:
    url = "redis://h?socket_timeout=2.5&socket_connect_timeout=1&max_connections=7&health_check_interval=30"
    options = ConnectionOptions(
        f"{url}&socket_keepalive=True&retry_on_timeout=yes", pool_size=3, timeouts=Timeouts(9, 9)
    )
    assert (options.timeouts, options.pool_size) == (Timeouts(1, 2.5), 7)
    assert options.for_data_servers() == {"db": 0, "health_check_interval": 30}
    assert ConnectionOptions("redis://h?max_connections=7", timeouts=Timeouts(8, 9)).timeouts == Timeouts(8, 9)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", Tls(server_name="s")),
        ("?ssl_cert_reqs=none", Tls(server_name="s", verify=False)),
        ("?ssl_cert_reqs=CERT_NONE", Tls(server_name="s", verify=False)),
        ("?ssl_cert_reqs=required&ssl_check_hostname=false", Tls(server_name="s", check_hostname=False)),
        (
            "?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            Tls(Path("/ca.pem"), Path("/c.pem"), Path("/k.pem"), "s"),
        ),
    ],
)
def test_options_of_tls_stand_over_the_settings(query: str, expected: Tls) -> None:
    assert ConnectionOptions(f"rediss://h{query}", tls=Tls(server_name="s")).tls == expected


def test_a_certificate_that_is_not_verified_is_not_asked_for_its_name_either() -> None:
    context = Tls(verify=False).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert Tls().context().verify_mode == ssl.CERT_REQUIRED
