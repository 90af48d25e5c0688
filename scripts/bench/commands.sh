#!/bin/sh
# 500 commands, as a configure script runs them: short ones, one after the other, some in pipes.
set -eu
i=0
while [ "$i" -lt 50 ]; do
    i=$((i + 1))
    expr "x$i" : 'x\([0-9]*\)' >/dev/null
    sed 's/^/#define /' /etc/hostname >/dev/null
    uname -m | tr '[:lower:]' '[:upper:]' >/dev/null
    grep -q root /etc/passwd
    basename "/usr/lib/lib$i.so" .so >/dev/null
    cat /etc/hostname /etc/passwd | sort >/dev/null
    dirname "/usr/lib/lib$i.so" >/dev/null
    mkdir -p /tmp
done
