"""Which IP addresses are of the public internet. A list of URLs may name any host, and a host's owner any address.

After the registries of special-purpose addresses of IANA (RFC 6890 and its later entries).
"""

from __future__ import annotations

import ipaddress

NOT_PUBLIC = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out of IPv6
NOT_PUBLIC_6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
CARRIES_IPV4 = (  # network, and how far from the right an IPv4 address is in it
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)


def is_public(address: str) -> bool:
    """Whether an address, as a socket is given it, is of the public internet.

    An IPv6 address that carries one of IPv4 (mapped, NAT64, 6to4) is as public as that.

    Raises:
        ValueError: it is no IP address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in NOT_PUBLIC)
    for network, shift in CARRIES_IPV4:
        if found in network:
            return is_public(str(ipaddress.IPv4Address(int(found) >> shift & 0xFFFFFFFF)))
    return found in UNICAST and not any(found in network for network in NOT_PUBLIC_6)
