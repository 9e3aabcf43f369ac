# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Rows of the tables in docs/TOKENS.md for one token, from what tests/matrix/matrix found.
def list: if length == 0 then "none" else join(", ") end;
def rounded: if . >= 1000 then . / 100 | round * 100 else round end;
def yes_or_no: if . then "yes" else "no" end;
def by_mechanism(f): .mechanisms | to_entries[] | f;

def structure: [
  $token,
  ([by_mechanism(select(.value.works) | .key)] | list),
  .chosen // "refused",
  (.resident.works | yes_or_no),
  (if .import.works then .import.by else "no" end),
  (.anchor.works | yes_or_no),
  (.random | yes_or_no),
  (if .sessions >= 256 then "256 or more" else .sessions end),
  ([.attacks // {} | to_entries[] | select(.value.refused | not) | .key] | list),
  $options];

def figures: by_mechanism(select(.value.works)
  | [$token, $version, .key, (.value.wraps_per_second, .value.unwraps_per_second | rounded)]);

def refusals: by_mechanism(select(.value.works | not)
  | [$token, .key, (.value.why | sub("^the token cannot[^:]*: [^:]*: "; ""))]);

if $table == "structure" then structure elif $table == "figures" then figures else refusals end
| "| " + (map(tostring) | join(" | ")) + " |"
