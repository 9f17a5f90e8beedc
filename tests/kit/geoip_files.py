"""MaxMind databases, written for a test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet


def write_database(
    path: Path, records: Mapping[str, dict[str, Any]], ip_version: int = 6, kind: str = "Test-Country"
) -> Path:
    """Write a database with a record for each network."""
    writer = MMDBWriter(ip_version, kind, languages=["en"], description="test", ipv4_compatible=ip_version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def located(code: str) -> dict[str, Any]:
    """The record of an address in this country."""
    return {"country": {"iso_code": code, "names": {"en": f"Country {code}"}}, "continent": {"code": "EU"}}
