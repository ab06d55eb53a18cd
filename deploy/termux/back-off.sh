#!/data/data/com.termux/files/usr/bin/sh
# What a service's `finish` does: wait before runit starts it again, longer each time. $1 exit code, $2 signal.
# 5, 10, 20 ... 300 s; a run of ten minutes makes it begin anew. Exit code 2 (wrong configuration) waits longest at once,
# for no restart mends it. A file `again` in the service's folder ends the wait: install.sh and people make it.
code="${1:-0}"
signal="${2:-0}"
longest="${CURUPIRA_LONGEST_PAUSE_S:-300}"
first="${CURUPIRA_FIRST_PAUSE_S:-5}"

# SIGTERM is how sv ends a service: that is no failure
if [ "$code" = 0 ] || [ "$signal" = 15 ]; then
    rm -f failures again
    exit 0
fi
now=$(date +%s)
began=$(date -r started +%s 2>/dev/null || echo "$now")
failures=$(cat failures 2>/dev/null || echo 0)
case "$failures" in '' | *[!0-9]*) failures=0 ;; esac
[ $((now - began)) -lt 600 ] || failures=0
pause="$first"
n=0
while [ "$n" -lt "$failures" ] && [ "$pause" -lt "$longest" ]; do
    pause=$((pause * 2))
    n=$((n + 1))
done
if [ "$code" = 2 ] || [ "$pause" -gt "$longest" ]; then pause="$longest"; fi
echo $((failures + 1)) >failures 2>/dev/null
echo "ended with code $code, signal $signal; starts again in $pause s"
waited=0
while [ "$waited" -lt "$pause" ] && [ ! -e again ]; do
    sleep 1
    waited=$((waited + 1))
done
rm -f again
exit 0
