#!/usr/bin/python3
"""The table as a script with ldap3 makes it: paged_search, a set of addresses, a sorted text, postmap.

usage: ldap3_script.py URI BASE FILTER TABLE DOMAIN...
"""
import subprocess
import sys

from ldap3 import NONE, Connection, Server

uri, base, search_filter, table, *domains = sys.argv[1:]
listed = set(domains)
addresses = set()

# Without reading the schema, which saves this side some time.
connection = Connection(Server(uri, get_info=NONE), auto_bind=True)
for entry in connection.extend.standard.paged_search(
    base,
    search_filter,
    attributes=["proxyAddresses", "objectGUID", "msExchRecipientTypeDetails", "msExchRequireAuthToSendTo"],
    paged_size=1000,
    generator=True,
):
    if entry["type"] != "searchResEntry":
        continue
    attributes = entry["attributes"]
    if attributes.get("msExchRequireAuthToSendTo") == ["TRUE"]:
        continue
    for value in attributes.get("proxyAddresses", []):
        kind, _, address = value.partition(":")
        if kind.lower() == "smtp":
            address = address.lower()
            if address.rpartition("@")[2] in listed:
                addresses.add(address)
connection.unbind()

with open(table, "w", encoding="utf-8") as text:
    for address in sorted(addresses):
        text.write(address + " OK\n")
subprocess.run(["postmap", "cdb:" + table], check=True)
