#!/bin/sh
# Tells Lamina of one event of an agent's session, and prints what Lamina answers. Whatever happens the session goes on:
# two seconds at most, exit 0, nothing on standard error. docs/droid.md says what is sent.
( exec 3<&0 4>&1 ) 2>/dev/null || exit 0
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
agent=${1:-droid}
LC_ALL=C
export LC_ALL
umask 077

[ "$LAMINA_CAPTURE" != off ] && command -v curl && command -v awk || exit 0
dir=$(mktemp -d "${TMPDIR:-/tmp}/lamina.XXXXXX") || exit 0

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
finish() {
  trap '' HUP INT TERM PIPE
  trap - EXIT
  kill $child $late $whole
  rm -rf "$dir"
  exit 0
}
trap finish EXIT HUP INT TERM PIPE

# What may take long is run beside and waited for, since only a waiting shell hears that its time is over.
if wait "$child"; then seconds=1.5; else seconds=0.9; fi
kill "$late"
child= late=
exec 3<&-
[ -s "$dir/input" ] || exit 0

# Reads an object of JSON quote by quote. Tells, a line each: five of its own strings (not those of what it holds), the
# names of all its members, and the object with nothing but its short strings. An object that is cut off is none.
scan='
BEGIN { RS = "\"" }
!inside {
  isName = closed == 1 && $0 ~ /^[ \t\r\n]*:/
  if (isName) { name = text; names = names " " name }
  isValue = isName && $0 ~ /^[ \t\r\n]*:[ \t\r\n]*$/
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
function plain(name,   value) {
  value = strings[name]
  gsub(/\\\//, "/", value)
  if (value !~ /\\/) return value
  gsub(/\\\\/, "\001", value); gsub(/\\"/, "\"", value)
  if (value ~ /\\/) return ""
  gsub(/\001/, "\\", value)
  return value
}
END {
  if (depth != 0 || count == 0 && names == "") exit 1
  print plain("hook_event_name"); print plain("session_id"); print plain("transcript_path")
  print plain("cwd"); print plain("tool_name"); print names " "
  for (at = 1; at <= count; at++) line = line (at > 1 ? "," : "{") "\"" order[at] "\":\"" strings[order[at]] "\""
  print line "}"
}'
awk "$scan" "$dir/input" >"$dir/event" 4>&- & child=$!
wait "$child" || exit 0
child=
{ IFS= read -r event; IFS= read -r session; IFS= read -r transcript; IFS= read -r cwd; IFS= read -r tool; } <"$dir/event"
case $event in '' | *[!A-Za-z]*) exit 0 ;; esac
# The agent's own calls of Lamina tell it nothing new.
case $tool in mcp__lamina__* | mcp__plugin_lamina_*) exit 0 ;; esac

# Where to, and with which token: the environment's, else what `npm run connect` wrote. A token it wrote goes to no other.
state=
if [ -n "$XDG_STATE_HOME" ]; then state=$XDG_STATE_HOME/lamina; elif [ -n "$HOME" ]; then state=$HOME/.local/state/lamina; fi
url= token=
if [ -n "$state" ] && [ -r "$state/connection" ]; then
  { IFS= read -r url; IFS= read -r token; } <"$state/connection"
fi
given=${LAMINA_URL:-${url:-http://127.0.0.1:8787}}
while [ "$given" != "${given%/}" ]; do given=${given%/}; done
[ "$given" = "$url" ] || token=
url=$given
token=${LAMINA_TOKEN:-$token}
case $url in *[!!-~]* | *[\"\\]*) exit 0 ;; http://?* | https://?*) ;; *) exit 0 ;; esac
case $token in '' | *[!!-~]*) exit 0 ;; *[\"\\]*) token=$(printf '%s' "$token" | sed 's/["\\]/\\&/g') ;; esac
case $url in http://127.* | http://localhost* | 'http://[::1]'*) direct='noproxy = "*"' ;; *) direct= ;; esac

# The repository's address, without who may read it: the same project on every machine.
remote=
if command -v git; then
  [ -d "$cwd" ] || cwd=.
  git -C "$cwd" config --get-regexp '^remote\..*\.url$' >"$dir/remotes" 3<&- 4>&- & child=$!
  wait "$child"
  child=
  remote=$(awk '
    $1 == "remote.origin.url" || chosen == "" { chosen = substr($0, length($1) + 2) }
    END {
      sub(/[?#].*/, "", chosen)
      if (match(chosen, /^[A-Za-z+]+:\/\//)) {
        scheme = substr(chosen, 1, RLENGTH); chosen = substr(chosen, RLENGTH + 1)
        sub(/^[^\/]*@/, "", chosen)
      }
      chosen = scheme chosen
      if (length(chosen) > 300) exit
      for (code = 1; code < 256; code++) codes[sprintf("%c", code)] = code
      for (at = 1; at <= length(chosen); at++) {
        one = substr(chosen, at, 1)
        printf "%s", one ~ /[A-Za-z0-9._~:\/@-]/ ? one : sprintf("%%%02X", codes[one])
      }
    }' "$dir/remotes")
fi

# How far the transcript was taken, how much goes at a time, and whether that is one long line tried on its own.
usual=1048576 least=65536 most=3145728
offset=0 piece=$usual alone=0 sent=0 marks=
if [ "$LAMINA_CAPTURE" != events ] && [ -f "$transcript" ] && [ -r "$transcript" ]; then
  length=$(($(wc -c <"$transcript")))
  name=$(printf '%s\n' "$url" "$session" "$transcript" | cksum)
  case $session in '' | *[!A-Za-z0-9-]* | ?????????????????????????????????????????????????*) session=session ;; esac
  if [ -n "$state" ] && mkdir -p "$state/sessions"; then
    marks=$state/sessions/$session-${name%% *}
    [ -r "$marks" ] && IFS=' ' read -r offset piece alone <"$marks"
  fi
  for number in "$offset" "$piece" "$alone"; do
    case $number in '' | *[!0-9]* | 0?* | ????????????????*) offset=0 piece=$usual alone=0 ;; esac
  done
  [ "$offset" -le "$length" ] || offset=0
  sent=$((length - offset))
  [ "$sent" -le "$piece" ] || sent=$piece
fi
note() { printf '%s %s %s\n' "$@" >"$marks.$$" && mv -f "$marks.$$" "$marks"; }
if [ -n "$marks" ] && [ "$sent" -gt 0 ]; then
  # What holds unless the call comes back: that it was too much for the time there is, or the one line too long for it.
  half=$((piece / 2))
  [ "$half" -ge "$least" ] || half=$least
  [ "$half" -le "$usual" ] || half=$usual
  if [ "$alone" -eq 1 ]; then note $((offset + piece)) "$half" 0; else note "$offset" "$half" 0; fi
fi

{
  # Of an event that is too large its short strings go.
  if [ "$(($(wc -c <"$dir/input")))" -le 1000000 ]; then tr '\r\n' '  ' <"$dir/input"; else sed 1,6d "$dir/event" | tr -d '\n'; fi
  echo
  [ "$sent" -eq 0 ] || tail -c "+$((offset + 1))" "$transcript" | head -c "$sent"
} >"$dir/body" 3<&- 4>&- & child=$!
wait "$child"
child=

# The token is neither on a command line nor in a file of this script's; the answer has no room to grow.
{
  printf '%s\n' "url = \"$url/v1/events/factory?offset=$offset\"" "header = \"Authorization: Bearer $token\"" "$direct"
  [ -z "$remote" ] || printf 'header = "X-Lamina-Git-Remote: %s"\n' "$remote"
} | (
  trap '' XFSZ
  ulimit -f 1024
  exec curl -q -sfg -K - -m "$seconds" --connect-timeout 0.5 --proto '=http,https' -A "lamina-hook ($agent)" \
    -H 'Content-Type: application/x-ndjson' -H 'Accept: application/json' -H 'Expect:' --data-binary "@$dir/body" \
    -D "$dir/headers" -o "$dir/answer" -w '%{http_code} %{time_connect} %{content_type}' >"$dir/status" 3<&- 4>&-
) & child=$!
wait "$child"
failure=$?
child=
code= connected= type=
IFS=' ' read -r code connected type <"$dir/status"

if [ -n "$marks" ]; then
  taken=
  if [ "$failure" -eq 0 ] && [ "$code" = 200 ]; then
    taken=$(tr -d '\r' <"$dir/headers" | awk '
      tolower($1) == "transcript-offset:" && $2 ~ /^[0-9]+$/ && length($2) < 16 { at = $2 }
      END { print at }')
  fi
  if [ -n "$taken" ]; then
    if [ "$taken" -ne "$offset" ] || [ "$sent" -lt "$piece" ]; then
      offset=$taken alone=0
      piece=$((piece * 2))
      [ "$piece" -le "$usual" ] || piece=$usual
    else
      # A line longer than a piece: the next call takes it whole, unless no call can.
      line=$(tail -c "+$((offset + 1))" "$transcript" | head -n 1 | wc -c)
      line=$((line))
      if [ "$line" -gt "$most" ]; then
        offset=$((offset + line)) piece=$usual
      elif [ "$line" -gt "$piece" ]; then
        piece=$line alone=1
      fi
    fi
    note "$offset" "$piece" "$alone"
  elif [ "$failure" -ne 28 ] && [ "$code" != 413 ] || [ "$connected" = 0.000000 ]; then
    note "$offset" "$piece" "$alone"
  fi
  [ "$event" != SessionStart ] || find "$state/sessions" -type f -mtime +30 -exec rm -f {} +
fi

case $event in SessionStart | UserPromptSubmit) ;; *) exit 0 ;; esac
[ "$failure" -eq 0 ] && [ "$code" = 200 ] || exit 0
case $type in application/json | application/json[\;\ ]*) ;; *) exit 0 ;; esac
[ "$(head -c 1 "$dir/answer")" = '{' ] || exit 0
awk "$scan" "$dir/answer" >"$dir/event" 4>&- & child=$!
wait "$child" || exit 0
# Context is all that a server may add: not a word that blocks a prompt or stops a session.
for name in $(sed -n 6p "$dir/event"); do
  case $name in hookSpecificOutput | suppressOutput) ;; *) exit 0 ;; esac
done
cat "$dir/answer" >&4 & child=$!
wait "$child"
child=
exit 0
