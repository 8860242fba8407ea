#!/bin/sh
# shellcheck disable=SC2317,SC2329  # the undo functions are called by name, through undo()
# create snapshot before-upgrade of web01
#
# plan      5afa1f132d2211ec41c284b4852587e48ad26792f5f451ca99ab5c21225aecbd
# spec      0dee441db2435022cf04d83282a38ff9c34c6064e4a7b7e35d36c72c8dd68d94
# host      dom0
# domain    web01, domain 7, pvh, UUID bbe9b839-51d1-4ac0-8ea2-25778e7005b1
# observed  2026-11-23T07:34:00Z
# destroys  nothing
#
# usage: sh THIS-FILE [--check]
#
# Run it as root on the plan's host. --check runs the checks that come before the first
# change, and changes nothing.
#
# exit status: 0 done; 1 a check failed or wrong usage, nothing changed; 3 the domain is
# not the one that was planned for: plan again; 4 locked; 5 failed, everything undone;
# 6 failed, attention needed: what is left is said; 128+n ended by signal n
set -uf
umask 077
LC_ALL=C
PATH=${DOMSNAP_PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export LC_ALL PATH

plan=5afa1f132d2211ec41c284b4852587e48ad26792f5f451ca99ab5c21225aecbd
total=0
folder=/var/lib/domsnap/web01
lock=${DOMSNAP_RUN:-/run/domsnap}/bbe9b839-51d1-4ac0-8ea2-25778e7005b1.lock
journal=/var/lib/domsnap/web01/journal

title='the preparations'
armed=
final=
committed=no
mode=run
work=
signal=

# What is said goes to 3: a signal can come while the standard error of this very shell goes to a file.
exec 3>&2

say() {
  printf '%s\n' "$*" >&3
}

# Programs run in a session of their own: a Ctrl-C is for this script, which then undoes what was done; an xl that is
# interrupted by it would leave the guest suspended. They get neither the lock nor the pipes below.
# Their input is 5: nothing, but in a pipeline.
quietly() {
  setsid -w "$@" <&5 3>&- 5>&- 7>&- 8>&- 9>&-
}

run() {
  quietly "$@" >&3 2>&3
}

probe() {
  quietly "$@" >/dev/null 2>&1
}

matches() {
  grep -Eq -e "$1" "$2"
}

# expect STATUS PRINTS LACKS TOLERATES WITHIN PROGRAM...: the program must exit with STATUS; a line of its output must match
# PRINTS and none LACKS; a failure is as good as a success if a line of its errors matches TOLERATES; tried for WITHIN seconds.
expect() {
  status=$1
  prints=$2
  lacks=$3
  tolerates=$4
  end=$(($(date +%s) + $5))
  shift 5
  while :; do
    got=0
    quietly "$@" >"$work/out" 2>"$work/err" || got=$?
    fine=yes
    [ "$got" -eq "$status" ] || fine=no
    if [ -n "$prints" ] && ! matches "$prints" "$work/out"; then fine=no; fi
    if [ -n "$lacks" ] && matches "$lacks" "$work/out"; then fine=no; fi
    if [ "$fine" = no ] && [ -n "$tolerates" ] && matches "$tolerates" "$work/err"; then fine=yes; fi
    [ "$fine" = no ] || return 0
    [ "$(date +%s)" -lt "$end" ] || break
    sleep 1
  done
  say "  not as expected (exit status $got): $*"
  tail -n 5 "$work/err" >&3
  tail -n 5 "$work/out" >&3
  return 1
}

# write FILE TEXT: a new file, made durable.
write() {
  (
    set -C
    printf '%s' "$2" >"$1"
  ) || return 1
  run sync -- "$1"
}

# rename FROM TO: over what is there. Two names of one file are left as they are, as rename(2) does; mv would refuse.
rename() {
  # shellcheck disable=SC3013  # dash, busybox and bash know -ef
  [ "$1" -ef "$2" ] || run mv -f -T -- "$1" "$2"
}

note() {
  [ "$mode" = run ] || return 0
  printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$plan" "$*" >>"$journal" || return 1
  probe sync -- "$journal"
}
begin() {
  title=$2
  say "[$1/$total] $2"
  note "step $1 begins: $2"
}

# What is armed is undone when anything fails from here on: the step itself too, however far it came.
arm() {
  if [ "$mode" = check ]; then
    say 'the checks have passed; nothing was changed'
    exit 0
  fi
  armed="$armed $1"
}

# Before the last point of return, but this step itself has no way back.
no_return() {
  final="$final $1"
}

end() {
  note "step $1 is done"
}

# undo STEP FUNCTION NEEDS...: undo a step if it was armed, unless the undo of a step it needs has failed.
undo() {
  step=$1
  action=$2
  shift 2
  case "$armed " in
  *" $step "*) ;;
  *) return 0 ;;
  esac
  for need in "$@"; do
    case "$bad " in
    *" $need "*)
      say "  step $step is left as it is: it needs the undo of step $need"
      bad="$bad $step"
      note "step $step is not undone"
      return 0
      ;;
    *) ;;
    esac
  done
  say "  undoing step $step"
  if "$action"; then
    note "step $step is undone"
  else
    bad="$bad $step"
    note "step $step could not be undone"
  fi
}

rollback() {
  bad=
  :
  if [ -z "$bad$final" ]; then
    say 'everything was undone'
    return 0
  fi
  if [ -n "$final" ]; then
    say "what could be undone is undone; these steps cannot be, look at the domain and plan again:$final"
    [ -n "$bad" ] || return 1
  fi
  say 'not everything could be undone; finish by hand, in this order, each line only when the one before it has worked:'
  :
  return 1
}

# What is left to do when a step after the commit fails.
rest() {
  say 'nothing is undone any more; plan again, or finish by hand, each line only when the one before it has worked:'
  :
}

fail() {
  trap '' HUP INT TERM
  say "step $1 of $total failed: $title"
  note "step $1 failed"
  if [ "$committed" = yes ]; then
    rest "$1"
    exit 6
  fi
  if [ -z "$armed" ]; then
    if [ "${2:-1}" -eq 3 ]; then
      say 'nothing was changed; the domain is not the one that was planned for: plan again'
    else
      say 'nothing was changed'
    fi
    exit "${2:-1}"
  fi
  rollback || exit 6
  exit 5
}

interrupted() {
  trap '' HUP INT TERM
  signal=$1
  say "interrupted by signal $signal during: $title"
  note "interrupted by signal $signal"
  if [ "$committed" = yes ]; then
    rest "$2"
    exit 6
  fi
  if [ -n "$armed" ]; then
    rollback || exit 6
  fi
  exit $((128 + signal))
}

# Signals wait until the guest runs again.
hold_signals() {
  trap 'signal=1 woken=yes' HUP
  trap 'signal=2 woken=yes' INT
  trap 'signal=15 woken=yes' TERM
}

catch() {
  [ -z "$signal" ] || interrupted "$signal" "$((current + 1))"
  trap 'interrupted 1 "$current"' HUP
  trap 'interrupted 2 "$current"' INT
  trap 'interrupted 15 "$current"' TERM
}

clean_up() {
  [ -z "$work" ] || rm -rf -- "$work"
}

current=1
case ${1:-} in
'') ;;
--check) mode=check ;;
-h | --help)
  cat <<'END_OF_HELP'
usage: sh web01-before-upgrade.sh [--check]

Run it as root on the plan's host. --check runs the checks that come before the first
change, and changes nothing.

exit status: 0 done; 1 a check failed or wrong usage, nothing changed; 3 the domain is
not the one that was planned for: plan again; 4 locked; 5 failed, everything undone;
6 failed, attention needed: what is left is said; 128+n ended by signal n
END_OF_HELP
  exit 0
  ;;
*)
  say "unknown argument: $1 (try --help)"
  exit 1
  ;;
esac

# A reader of the messages that goes away, or a Ctrl-\ or Ctrl-Z, must not end or stop this script while the guest
# stands still.
trap woken=yes PIPE QUIT TSTP
catch
mkdir -p -- "$(dirname -- "$lock")" || exit 1
if [ "$mode" = run ]; then
  mkdir -p -- "$folder" || exit 1
fi
(: >>"$lock") || exit 1
exec 9>>"$lock"
if ! flock -n 9; then
  say "locked: $(cat -- "$lock")"
  exit 4
fi
printf 'process %s runs plan %s since %s\n' "$$" "$plan" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$lock"
# Not in /tmp: that can be the file system which the memory fills. Who holds the lock may remove what a killed one left.
rm -rf -- "$lock.work" && mkdir -- "$lock.work" || exit 1
work=$lock.work
trap clean_up EXIT
exec 5</dev/null

say 'done'
exit 0
