#!/usr/bin/env bash
# One nightly retraining; for cron, see the crontab beside it. Settings are variables, below with their defaults.
# Exit status: 0 promoted, 3 refused by a gate (the champion stays; look at the report in the morning), 1 or 2 failed.
set -uo pipefail
: "${ONEPIXEL:=onepixel}" "${CONFIG:?a configuration, such as camvid or /srv/onepixel/fleet.yaml}"
: "${FRAMES:?the folder of new frames, such as that of serve --collect}" "${MLFLOW_TRACKING_URI:?the address of MLflow}"
: "${OUT:=/var/lib/onepixel/retrain}" "${LOGS:=/var/log/onepixel}"
export MLFLOW_TRACKING_URI

mkdir -p "$LOGS" "$OUT"
log="$LOGS/retrain-$(date +%Y-%m-%d).log"
report="$LOGS/last.json.part.$$"
trap 'rm -f "$report"' EXIT
status=0
nice -n 10 "$ONEPIXEL" retrain "$CONFIG" --frames "$FRAMES" --out "$OUT" --json >"$report" 2>>"$log" || status=$?
case $status in
0) outcome="promoted" ;;
3) outcome="refused by a gate" ;;
*)
    echo "onepixel retrain failed with status $status; see $log" >&2 # cron mails what is written here
    exit $status
    ;;
esac
mv "$report" "$LOGS/last.json" && echo "$outcome: $LOGS/last.json" >>"$log"
exit $status
