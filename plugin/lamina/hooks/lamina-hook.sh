#!/bin/sh
# Tells Lamina of one event of an agent's session, and prints what Lamina answers. Whatever happens the session goes on:
# two seconds at most, exit 0, nothing on standard error. docs/droid.md says what is sent.
#
#   lamina-hook.sh AGENT [CONNECTION]
#
# CONNECTION is a file of `npm run connect`, which alone tells where to then; without one the environment does.
{ set +Cefuvx; } 2>/dev/null
( exec 3<&0 4>&1 ) 2>/dev/null || exit 0
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
agent=${1:-droid} connection=$2
LC_ALL=C
export LC_ALL
umask 077

[ "$LAMINA_CAPTURE" != off ] && command -v curl && command -v awk || exit 0
dir=$(mktemp -d "${TMPDIR:-/tmp}/lamina-hook.XXXXXX") || exit 0

# Ends process $1 after $2 seconds, or after $3 where `sleep` takes whole seconds only.
end_after() {
  trap 'kill $!; exit 0' TERM
  sleep "$2" &
  wait $! || { sleep "$3" & wait $!; }
  kill "$1"
}
# Standard input has a deadline, since some hosts never close it, and so has the whole. Both are set before the traps: a
# child that is ended at once must not carry out its parent's.
cat <&3 >"$dir/input" 4>&- & child=$!
end_after "$child" 0.7 1 3<&- 4>&- & late=$!
end_after $$ 1.8 1 3<&- 4>&- & whole=$!
sending=
finish() {
  trap '' HUP INT TERM PIPE
  trap - EXIT
  [ -z "$sending" ] || { send_less; keep; }
  kill $child $late $whole
  rm -rf "$dir"
  exit 0
}
trap finish EXIT HUP INT TERM PIPE

# Runs what may take long beside the shell, since only a waiting shell hears that its time is over.
beside() {
  "$@" 3<&- 4>&- & child=$!
  wait "$child"
  set -- $?
  child=
  return "$1"
}

if wait "$child"; then seconds=1.5; else seconds=0.9; fi
kill "$late"
child= late=
exec 3<&-
[ -s "$dir/input" ] || exit 0

# Reads an object of JSON quote by quote. Tells its own strings (not those of what it holds) as assignments of the shell,
# or with `short` as an object with nothing but its short strings. An object that is cut off is none.
scan='
BEGIN { RS = "\""; escaped["b"] = "\b"; escaped["f"] = "\f"; escaped["n"] = "\n"; escaped["r"] = "\r"; escaped["t"] = "\t" }
!inside {
  isValue = closed == 1 && $0 ~ /^[ \t\r\n]*:[ \t\r\n]*$/
  if (isValue) name = text
  depth += gsub(/[{\[]/, "x") - gsub(/[]}]/, "x")
  inside = 1; text = ""; size = 0
  next
}
{
  size += length($0) + 1
  if (size <= 8192) text = text $0
  if (substr($0, length($0)) == "\\") {
    # Of an odd run of backslashes the last one escapes the quote.
    gsub(/\\\\/, "")
    if (substr($0, length($0)) == "\\") { if (size <= 8192) text = text "\""; next }
  }
  inside = 0; closed = depth
  if (isValue && size <= 8192) {
    if (!(name in strings)) order[++count] = name
    strings[name] = text
  }
}
function hex(digits,   value, at) {
  for (at = 1; at <= 4; at++) value = value * 16 + index("0123456789abcdef", tolower(substr(digits, at, 1))) - 1
  return value
}
function utf8(code) {
  if (code < 128) return sprintf("%c", code)
  if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
  if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
  return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
function assign(variable, name,   rest, value, at, one, code) {
  rest = strings[name]
  while ((at = index(rest, "\\"))) {
    value = value substr(rest, 1, at - 1)
    one = substr(rest, at + 1, 1)
    if (one != "u") {
      value = value (one in escaped ? escaped[one] : one)
      rest = substr(rest, at + 2)
      continue
    }
    code = hex(substr(rest, at + 2, 4))
    rest = substr(rest, at + 6)
    if (code >= 55296 && code < 56320 && substr(rest, 1, 2) == "\\u") {
      code = 65536 + (code - 55296) * 1024 + hex(substr(rest, 3, 4)) - 56320
      rest = substr(rest, 7)
    }
    if (code < 1) { value = rest = ""; break }
    value = value utf8(code)
  }
  value = value rest
  gsub(/\047/, "\047\"\047\"\047", value)
  print variable "=\047" value "\047"
}
END {
  if (depth != 0 || count == 0) exit 1
  if (short) {
    for (at = 1; at <= count; at++) line = line (at > 1 ? "," : "{") "\"" order[at] "\":\"" strings[order[at]] "\""
    print line "}"
    exit
  }
  assign("event", "hook_event_name"); assign("session", "session_id"); assign("transcript", "transcript_path")
  assign("cwd", "cwd"); assign("tool", "tool_name")
}'
read_event() { exec awk "$scan" "$dir/input" >"$dir/event"; }
beside read_event || exit 0
. "$dir/event"
case $event in '' | *[!A-Za-z]*) exit 0 ;; esac
# The agent's own calls of Lamina tell it nothing new.
case $tool in mcp__lamina__* | mcp__plugin_lamina_*) exit 0 ;; esac

state=
if [ -n "$connection" ]; then
  state=${connection%/connections/*}
  [ -r "$connection" ] || exit 0
  { IFS= read -r url; IFS= read -r token; } <"$connection"
else
  if [ -n "$XDG_STATE_HOME" ]; then state=$XDG_STATE_HOME/lamina; elif [ -n "$HOME" ]; then state=$HOME/.local/state/lamina; fi
  url=${LAMINA_URL:-http://127.0.0.1:8787} token=$LAMINA_TOKEN
fi
while [ "$url" != "${url%/}" ]; do url=${url%/}; done
case $url in *[!!-~]* | *[\"\\]*) exit 0 ;; http://?* | https://?*) ;; *) exit 0 ;; esac
# What RFC 6750 lets a token have.
case $token in '' | *[!A-Za-z0-9._~+/=-]*) exit 0 ;; esac
case $url in http://127.* | http://localhost* | 'http://[::1]'*) direct='noproxy = "*"' ;; *) direct= ;; esac

# The repository's address, without who may read it: the same project on every machine. What is left with an @ in it may be
# part of a password.
read_remotes() { exec git -C "$cwd" config --get-regexp '^remote\..*\.url$' >"$dir/remotes"; }
print_remote() {
  exec awk '
    $1 == "remote.origin.url" || chosen == "" { chosen = substr($0, length($1) + 2) }
    END {
      sub(/^[A-Za-z0-9+.-]+::/, "", chosen)
      if (match(chosen, /^[A-Za-z][A-Za-z0-9+.-]*:\/\//)) {
        scheme = substr(chosen, 1, RLENGTH); chosen = substr(chosen, RLENGTH + 1)
        sub(/^[^\/]*@/, "", chosen)
      } else sub(/^[^\/:@]*@/, "", chosen)
      if (index(chosen, "@")) exit
      sub(/[?#].*/, "", chosen)
      chosen = scheme chosen
      if (length(chosen) > 300) exit
      for (code = 1; code < 256; code++) codes[sprintf("%c", code)] = code
      for (at = 1; at <= length(chosen); at++) {
        one = substr(chosen, at, 1)
        printf "%s", one ~ /[A-Za-z0-9._~:\/-]/ ? one : sprintf("%%%02X", codes[one])
      }
      print ""
    }' "$dir/remotes" >"$dir/remote"
}
remote=
if command -v git; then
  [ -d "$cwd" ] || cwd=.
  beside read_remotes
  beside print_remote && IFS= read -r remote <"$dir/remote"
fi

# Of file $1 the $3 bytes from byte $2 on, or what there is of them; reads little else of it, however large it is.
bytes_of() {
  dd if="$1" bs=65536 skip=$(($2 / 65536)) count=$((($2 % 65536 + $3) / 65536 + 1)) |
    tail -c "+$(($2 % 65536 + 1))" | head -c "$3"
}

# How far the transcript was taken, and how much goes at a time: less after a call that was too slow for it, down to
# `least`, and more after one that was not. A line that is longer goes alone, and `alone` counts how often that was tried;
# one above `most` is left out, of one above `far` so much. `before` tells the bytes before `offset`, since the transcript may
# be another one by now.
usual=1048576 least=65536 most=3145728 far=50331648 triesMax=3
offset=0 piece=$usual alone=0 before=- found= sent=0 marks=
read_piece() { bytes_of "$transcript" "$offset" "$piece" >"$dir/piece"; }
read_before() {
  from=0
  [ "$offset" -le 64 ] || from=$((offset - 64))
  bytes_of "$transcript" "$from" $((offset - from)) | cksum >"$dir/before"
}
read_line() { bytes_of "$transcript" "$offset" "$far" | head -n 1 | wc -lc >"$dir/line"; }
keep() {
  [ -z "$marks" ] || { echo "$offset $piece $alone $before" >"$marks.$$" && mv -f "$marks.$$" "$marks"; }
}
send_less() {
  if [ "$alone" -eq 0 ]; then
    piece=$((piece / 2))
    [ "$piece" -ge "$least" ] || piece=$least
  elif [ "$alone" -lt "$triesMax" ]; then
    alone=$((alone + 1))
  else
    offset=$((offset + piece)) piece=$least alone=0 before=-
  fi
}
if [ "$LAMINA_CAPTURE" != events ] && [ -f "$transcript" ] && [ -r "$transcript" ]; then
  name=$({ echo "$url"; echo "$session"; echo "$transcript"; } | cksum)
  case $session in '' | *[!A-Za-z0-9-]* | ?????????????????????????????????????????????????*) session=session ;; esac
  if [ -n "$state" ] && mkdir -p "$state/sessions"; then
    marks=$state/sessions/$session-${name%% *}
    [ -r "$marks" ] && IFS=' ' read -r offset piece alone before <"$marks"
  fi
  for number in "$offset" "$piece" "$alone" "1${before#-}"; do
    case $number in '' | *[!0-9]* | 0?* | ????????????????*) offset=0 piece=$usual alone=0 before=- ;; esac
  done
  [ "$piece" -gt 0 ] && [ "$piece" -le "$most" ] || piece=$usual
  if [ "$before" != - ]; then
    beside read_before && IFS=' ' read -r found rest <"$dir/before"
    [ "$found" = "$before" ] || offset=0 piece=$usual alone=0 before=-
  fi
  beside read_piece
  sent=$(($(wc -c <"$dir/piece")))
fi

# Of an event that is too large its short strings go.
write_body() {
  if [ -n "$(find "$dir/input" -size +1000000c)" ]; then
    awk "$scan" short=1 "$dir/input"
  else
    tr '\r\n' '  ' <"$dir/input"
    echo
  fi
  [ "$sent" -eq 0 ] || cat "$dir/piece"
}
print_body() { write_body >"$dir/body"; }
beside print_body

# The token is on no command line, since every shell has `echo` in it, and in no file of this script's. The answer has no
# room to grow.
sending=$sent
[ "$sent" -gt 0 ] || sending=
{
  echo "url = \"$url/v1/events/factory?offset=$offset\""
  echo "header = \"Authorization: Bearer $token\""
  echo "$direct"
  [ -z "$remote" ] || echo "header = \"X-Lamina-Git-Remote: $remote\""
} | (
  trap '' XFSZ
  ulimit -f 1024
  exec curl -q -sfg -K - -m "$seconds" --connect-timeout 0.5 --proto '=http,https' -A "lamina-hook ($agent)" \
    -H 'Content-Type: application/x-ndjson' -H 'Accept: application/json' -H 'Expect:' --data-binary "@$dir/body" \
    -D "$dir/headers" -o "$dir/answer" -w '%{http_code} %{time_connect} %{content_type}' >"$dir/status" 3<&- 4>&-
) & child=$!
wait "$child"
failure=$?
child= sending=
code= connected= type=
IFS=' ' read -r code connected type <"$dir/status"

read_taken() {
  tr -d '\r' <"$dir/headers" | awk '
    tolower($1) == "transcript-offset:" && $2 ~ /^[0-9]+$/ && length($2) < 16 { at = $2 }
    END { print at }' >"$dir/taken"
}
if [ -n "$marks" ] && [ "$failure" -eq 0 ] && [ "$code" = 200 ]; then
  beside read_taken
  IFS= read -r taken <"$dir/taken"
  if [ -z "$taken" ]; then
    : # It tells nothing.
  elif [ "$taken" -ne "$offset" ] || [ "$sent" -lt "$piece" ]; then
    if [ "$taken" -ne "$offset" ] || [ "$before" = - ]; then
      offset=$taken
      beside read_before && IFS=' ' read -r before rest <"$dir/before"
    fi
    piece=$((piece * 2)) alone=0
    [ "$piece" -le "$usual" ] || piece=$usual
    keep
  else
    # Nothing was taken, since not a whole line of it was there.
    beside read_line
    ends=0 line=0
    IFS=' ' read -r ends line <"$dir/line"
    if [ "$line" -gt "$most" ]; then
      offset=$((offset + line)) piece=$usual alone=0 before=-
    elif [ "$ends" -gt 0 ] && [ "$line" -gt "$piece" ]; then
      piece=$line alone=1
    elif [ "$ends" -gt 0 ] && [ "$alone" -gt 0 ]; then
      send_less
    fi
    keep
  fi
elif [ "$sent" -gt 0 ] && { [ "$failure" -eq 28 ] || [ "$code" = 413 ]; } && [ "$connected" != 0.000000 ]; then
  send_less
  keep
fi

# What is old goes: what was known of sessions, and what hooks that were killed have left.
forget() {
  [ -z "$marks" ] || find "$state/sessions" -type f -mtime +30 -exec rm -f {} +
  find "${TMPDIR:-/tmp}"/lamina-hook.??????/input -type f -mtime +0 -exec sh -c 'rm -rf "${1%/input}"' - {} \;
}
[ "$event" != SessionStart ] || beside forget

case $event in SessionStart | UserPromptSubmit) ;; *) exit 0 ;; esac
[ "$failure" -eq 0 ] && [ "$code" = 200 ] || exit 0
case $type in application/json | application/json[\;\ ]*) ;; *) exit 0 ;; esac
# Context is all that a server may add: an answer that has a byte more than what Lamina writes there is none.
read_answer() {
  [ "$(tr -d '\000-\037' <"$dir/answer" | wc -c)" -eq "$(wc -c <"$dir/answer")" ] || exit 1
  exec awk '
    BEGIN { tail = "\"}}" }
    {
      head = "{\"hookSpecificOutput\":{\"hookEventName\":\"" event "\",\"additionalContext\":\""
      text = substr($0, length(head) + 1, length($0) - length(head) - length(tail))
      isShape = NR == 1 && $0 == head text tail
      gsub(/\\(["\\\/bfnrt]|u[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f])/, "", text)
      isGood = isShape && text !~ /["\\]/
    }
    END { exit !isGood }' event="$event" "$dir/answer"
}
beside read_answer || exit 0
print_answer() { exec cat "$dir/answer" >&4; }
print_answer & child=$!
wait "$child"
child=
exit 0
