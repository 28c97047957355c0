#!/bin/sh
# recipients-diff.sh REPORT COMMAND [ARGUMENT...]: what a configuration would do to the gateway's tables, for a merge request.
#
# COMMAND is rcptsync as it is to be run, for example `rcptsync --config rcptsync.toml`; this adds
# `diff --stored --format markdown`, which asks no directory, publishes nothing, writes nothing and takes no lock. It goes by
# the records and tables below the paths of the configuration: those of the gateway, or a copy of them. REPORT becomes its
# Markdown: short enough for a comment (60,000 octets), and nothing in it is live, whatever an address looks like. On GitHub it
# is added to the summary of the job.
#
# Ends with 0 where the change may go on: the tables stay as they are, or would change. With 65 where changes would be held
# until somebody approves them, with 75 where the records do not have what the configuration asks for (a new source, another
# base: the report is not the whole one), and with the code of rcptsync in every other case; each is told in one line.
set -eu

if [ $# -lt 2 ]; then
  echo "usage: recipients-diff.sh REPORT COMMAND [ARGUMENT...]" >&2
  exit 64
fi
report=$1
shift

code=0
"$@" diff --stored --format markdown >"$report" || code=$?

if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  cat "$report" >>"$GITHUB_STEP_SUMMARY"
fi

# As an annotation where GitHub reads along, and as a line elsewhere.
tell() {
  if [ -n "${GITHUB_ACTIONS:-}" ]; then
    echo "::$1::$2"
  else
    echo "$1: $2"
  fi
}

case $code in
  0)
    tell notice "The tables stay as they are."
    ;;
  2)
    tell notice "The tables would change; see the report."
    exit 0
    ;;
  65) tell error "Changes would be held until somebody approves them; see the report." ;;
  75) tell error "Not everything that the configuration asks for is in the records; the report is not the whole one." ;;
  77) tell error "No permission: configuration, secret or state, or the directory refused the account." ;;
  78) tell error "The configuration or the state directory is wrong." ;;
  *) tell error "rcptsync ended with $code." ;;
esac
exit "$code"
