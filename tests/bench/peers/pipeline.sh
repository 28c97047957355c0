#!/bin/bash
# The table as a shell pipeline makes it, as a careful administrator writes one.
# usage: pipeline.sh URI BASE FILTER TABLE DOMAIN...
#
# Values that ldapsearch writes in Base64 (addresses outside ASCII) are left out: awk cannot decode them.
set -euo pipefail
export LC_ALL=C
uri=$1 base=$2 filter=$3 table=$4
shift 4
ldapsearch -x -H "$uri" -b "$base" -LLL -o ldif-wrap=no -E pr=1000/noprompt "$filter" \
    proxyAddresses objectGUID msExchRecipientTypeDetails msExchRequireAuthToSendTo |
awk -v domains="$*" '
    BEGIN { domains_count = split(domains, list, " "); for (i = 1; i <= domains_count; i++) listed[list[i]] = 1 }
    function entry_ends(    i) {
        if (!internal_only) for (i = 1; i <= count; i++) print addresses[i] " OK"
        count = 0; internal_only = 0
    }
    /^proxyAddresses: [Ss][Mm][Tt][Pp]:/ {
        address = tolower(substr($0, 22))
        if (substr(address, index(address, "@") + 1) in listed) addresses[++count] = address
        next
    }
    $0 == "msExchRequireAuthToSendTo: TRUE" { internal_only = 1; next }
    $0 == "" { entry_ends() }
    END { entry_ends() }
' | sort -u > "$table"
postmap "cdb:$table"
