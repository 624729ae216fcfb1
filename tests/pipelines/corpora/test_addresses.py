"""Which addresses are public."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.pipelines.corpora.addresses import is_public

PUBLIC = "8.8.8.8 1.1.1.1 172.32.0.1 100.128.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1"
OTHERS = """
    127.0.0.1 127.255.0.1 10.1.1.1 172.31.0.1 192.168.0.1 169.254.169.254 100.64.0.1 100.127.255.255 0.0.0.0 192.0.0.8
    198.18.0.1 203.0.113.1 224.0.0.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1::1 2001::1 2001:db8::1
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", OTHERS.split())
def test_addresses_of_this_machine_a_local_network_or_nobody(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_no_more_is_public_than_the_standard_library_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(str(address)):
        assert address.is_global or address in ipaddress.ip_network("192.0.0.0/24")
        assert not address.is_multicast
