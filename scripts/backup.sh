#!/usr/bin/env bash
# A backup in a folder of its own, named by the time (UTC), and no more of them than are to be kept. For cron:
#
#   15 3 * * *  cd /srv/images && /srv/images/scripts/backup.sh --files
#
# Arguments go to `image-processor backup`. With DATABASE_URL set, pg_dump puts the database beside the rest.
#
#   BACKUPS_PATH     where the folders are made; /backups where it is not set
#   BACKUPS_KEPT     how many complete ones stay, at least 1; 14 where it is not set
#   IMAGE_PROCESSOR  the command; `image-processor` where it is not set
#
# Exit codes: 0 done; 1 made, but something is missing in it, and nothing old was removed; 2 there is no backup;
# 75 another one is being made.
set -euo pipefail
umask 077

BACKUPS_PATH=${BACKUPS_PATH:-/backups}
BACKUPS_KEPT=${BACKUPS_KEPT:-14}
IMAGE_PROCESSOR=${IMAGE_PROCESSOR:-image-processor}
NAMES='[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z'

fail() {
    echo "backup.sh: $2" >&2
    exit "$1"
}

# All folders of ours that are whole, the oldest first: a manifest is written last.
backups() {
    find "$BACKUPS_PATH" -mindepth 2 -maxdepth 2 -path "$BACKUPS_PATH/$NAMES/manifest.json" -printf '%h\n' | sort
}

[[ $BACKUPS_KEPT =~ ^[1-9][0-9]*$ ]] || fail 2 "BACKUPS_KEPT is '$BACKUPS_KEPT', and not a number from 1."
mkdir -p -- "$BACKUPS_PATH" || fail 2 "$BACKUPS_PATH cannot be made."
BACKUPS_PATH=$(cd -- "$BACKUPS_PATH" && pwd -P)

exec 9>"$BACKUPS_PATH/.lock" || fail 2 "$BACKUPS_PATH cannot be written to."
flock --nonblock 9 || fail 75 "Another backup is being made in $BACKUPS_PATH."

folder=$BACKUPS_PATH/$(date -u +%Y-%m-%dT%H%M%SZ)
dump=$BACKUPS_PATH/.postgresql.dump
trap 'rm -f -- "$dump"' EXIT

# First the rows, then the files: every file that a row of the dump knows of was there already.
if [[ -n ${DATABASE_URL:-} ]]; then
    pg_dump --format=custom --file="$dump" --dbname="$DATABASE_URL" || fail 2 "The database could not be dumped."
fi

made=0
"$IMAGE_PROCESSOR" backup "$folder" "$@" 9>&- || made=$?
[[ -f $folder/manifest.json ]] || fail 2 "No backup was made."
if [[ -f $dump ]]; then
    mv -- "$dump" "$folder/postgresql.dump"
elif grep --quiet '"database": null' "$folder/manifest.json"; then
    fail 1 "The backup $folder lacks PostgreSQL's rows: set DATABASE_URL for this script as well."
fi
((made == 0)) || fail 1 "The backup $folder lacks files; nothing old was removed."

backups | head --lines="-$BACKUPS_KEPT" | while IFS= read -r old; do
    rm -rf -- "$old"
    echo "Removed $old."
done
