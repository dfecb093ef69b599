"""Addresses as they are written in the registry file: `listen`, URLs of instances, origins of web pages.

Every reader raises ValueError with what to write instead, and never repeats the text it was given: a URL
with a password in it must not reach a log through its own error.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_PATH = re.compile(r"(/[A-Za-z0-9._~%+-]+)*")
_ENDPOINTS = re.compile(r"/(v1|health|props|metrics|slots|completion|chat)(/.*)?$")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_listen(text: str) -> str:
    """Check HOST:PORT and return it unchanged; `split_listen` takes it apart.

    Port 0 is allowed and means any free port. A name other than an IP address is resolved when the server
    starts.
    """
    if "://" in text:
        raise ValueError("is a URL; write only an address and a port, such as 127.0.0.1:8000")
    host, colon, port = text.rpartition(":")
    if not colon or not host or text.endswith("]"):
        raise ValueError("is not HOST:PORT; write an address and a port, such as 127.0.0.1:8000 or [::1]:8000")
    if ":" in host and not host.startswith("["):
        raise ValueError(
            "has more than one colon; write HOST:PORT, such as 127.0.0.1:8000, with an IPv6 address in brackets: "
            "[::1]:8000"
        )
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("has no port from 0 to 65535 after the colon; write one, such as 127.0.0.1:8000")
    if host.startswith("["):
        if not host.endswith("]") or not _is_ip(host[1:-1], version=6):
            raise ValueError("has no IPv6 address in its brackets; write one, such as [::1]:8000")
    elif not _is_host(host):
        raise ValueError(
            "has no valid address before the port; write an IP address or a host name, 0.0.0.0 for every address"
        )
    return text


def split_listen(listen: str) -> tuple[str, int]:
    """Take a checked `listen` apart into host, without brackets, and port."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`. A name other than localhost counts as reachable."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def read_url(text: str) -> str:
    """Check the URL of an instance; return it with scheme and host in lower case and no slash at the end."""
    parts = _split_url(text)
    if _ENDPOINTS.search(parts.path):
        raise ValueError("ends in a path of the API; leave it out, the router adds it: http://HOST:PORT")
    return _joined(parts)


def read_metrics_url(text: str) -> str:
    """Check the URL of an exporter, which may have any path."""
    return _joined(_split_url(text))


def read_origin(text: str) -> str:
    """Check the origin of a web page as browsers send it: scheme, host and port only; or `*` for all."""
    if text == "*":
        return text
    parts = _split_url(text)
    if parts.path.rstrip("/"):
        raise ValueError('has a path; an origin is only scheme, host and port: "https://chat.example.org"')
    return _joined(parts)


def derived_id(url: str) -> str:
    """Make an instance id from a checked URL: host, port and prefix, with `-` for what an id cannot hold."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    readable = f"{parts.hostname or ''}-{port}{parts.path}".lower()
    return re.sub(r"[^a-z0-9.]+", "-", readable).strip("-.")[:64]


def _split_url(text: str) -> SplitResult:
    if any(character <= " " or character > "~" for character in text):
        raise ValueError("has a space or a character outside ASCII; write a plain URL, such as http://rig1:8080")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("has no valid address or port; write a URL such as http://rig1:8080") from None
    if parts.scheme not in _DEFAULT_PORTS or not text[len(parts.scheme) :].startswith("://"):
        raise ValueError("is not an http URL; write http:// or https:// before the address")
    if "@" in parts.netloc:
        raise ValueError('has a user or password in it; write api_key: "${NAME}" instead')
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment; leave out everything from ? or # on")
    host = parts.hostname or ""
    if not (_is_host(host) or (":" in host and _is_ip(host, version=6))):
        raise ValueError("has no valid host; write a name or an IP address, such as http://rig1:8080")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("has no port from 1 to 65535 after the colon; write one, such as http://rig1:8080")
    if not _PATH.fullmatch(parts.path.rstrip("/")):
        raise ValueError("has an odd path; write a plain prefix, such as http://rig1:8080/llama, or none")
    return parts


def _joined(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _is_host(host: str) -> bool:
    if not _HOSTNAME.fullmatch(host):
        return False
    looks_numeric = re.fullmatch(r"[0-9.]+", host) is not None
    return not looks_numeric or _is_ip(host, version=4)


def _is_ip(host: str, *, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False
