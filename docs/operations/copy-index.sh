#!/bin/sh
# Copies an index, with the model that made it, out of a home that may be served, edited and rebuilt meanwhile:
#
#     copy-index.sh HOME INDEX TARGET
#
# TARGET is a folder that becomes a home of its own, or is one; it may lie on another disk. Needs flock and GNU cp.
set -eu
[ $# -eq 3 ] || { echo "usage: copy-index.sh HOME INDEX TARGET" >&2; exit 2; }
home=$1 index=$2 target=$3
[ ! -e "$target/indexes/$index" ] || { echo "$target/indexes/$index is there already; name another TARGET" >&2; exit 2; }

links=$home/indexes/.copying-$index.$$  # on the same disk; no index has such a name
trap 'rm -rf "$links" "$target/indexes/$index.$$"' EXIT
mkdir -p "$target/indexes" "$target/artifacts"
mkdir "$links"

# Writers wait for this lock (edits, swaps, pruning); readers never look at it. Hard links take moments, whatever the
# size: a generation and the originals never change. The log grows in place, so it alone is copied here.
flock "$home/indexes/$index" sh -eu -c '
    cd "$1"
    number=$(sed -n "s/.*\"generation\": *\([0-9]*\).*/\1/p" CURRENT)
    cp -al CURRENT "$(printf generation-%06d "$number")" "$2"
    [ ! -d items ] || cp -al items "$2"
    [ ! -d log ] || cp -a log "$2"
' sh "$home/indexes/$index" "$(realpath "$links")"

cp -a "$links" "$target/indexes/$index.$$"
artifact=$(sed -n 's/.*"artifact": *"\([^"]*\)".*/\1/p' "$links/CURRENT")
[ -e "$target/artifacts/$artifact" ] || cp -a "$home/artifacts/$artifact" "$target/artifacts/"
sync
mv "$target/indexes/$index.$$" "$target/indexes/$index"
echo "copied; now check it: CROSSBIT_HOME=$target crossbit doctor"
