"""Expressions and templates that are broken, or odd, one way each: what promtool and we are to judge alike."""

from __future__ import annotations

QUERIES = r"""
up +
up up
up)
(up
up[
up[5m
up{
up{a
up{a=
up{a="b"
up{a=b}
up{a="b" c="d"}
up{a="b",,c="d"}
up{,}
up{a="b",}
{}
{a=""}
{a=~".*"}
{a!="x"}
up{a=~"("}
up{a=~"(?=x)"}
up{a='\q'}
up{a="b}
up{a=`b}
up{a!b}
up{a=="b"}
up{"a-b"="c"}
{"up"}
{"up","down"}
up{"down"}
up{__name__="x"}
up{1a="b"}
up{a-b="c"}
rate(up)
rate(up[5m]) / rate(down)
rate()
rate(up[5m], 3)
rate(up[5m]
rate up[5m]
rates(up[5m])
nosuch(up)
round(up, 1, 2)
label_replace(up, "a", "b")
label_replace(up, "a", "b", "c", "(")
label_replace(up, "1a", "b", "c", "d")
histogram_quantile(up, up)
scalar(1)
abs(1)
absent(up[5m])
absent_over_time(up)
sort_by_label(up, "a")
holt_winters(up[5m], 0.5, 0.5)
double_exponential_smoothing(up[5m], 0.5, 0.5)
info(up)
histogram_avg(up)
sum
sum()
sum(1)
sum(up[5m])
sum(up, up)
sum by (up)
sum by a (up)
sum by (a b) (up)
sum by (1) (up)
sum by ("a") (up)
sum by (a,) (up)
sum by () (up)
sum by (a) (up) by (b)
topk(up)
topk("a", up)
topk(up, 1)
count_values(1, up)
count_values("1a", up)
limitk(1, up)
SUM(up)
foo by (a) (up)
up = 1
up => 1
up === 1
up != = 1
1 > 2
1 > bool 2
up + bool 1
up > bool 1
up and 1
1 or up
up[5m] > 1
up > up[5m]
"a" > 1
"a"
up[5m]
up[5m] offset
up offset 5m
up offset
up offset 5
up offset up
up offset -5m
offset up
up offset 5m offset 5m
rate(up[5m]) offset 5m
sum(up) offset 5m
(up) offset 5m
rate(up[5m] offset 5m)
1 offset 5m
up[5m:]
rate(up[5m:1m])
rate(up[5m:1m:1m])
1[5m:1m]
up[5m][5m]
up[5m:1m][5m]
up[0]
up[0s]
up[-5m]
up[5]
up[5x]
up[m]
up[5m5m]
up[5m1h]
up[1h5m]
up[1.5h]
up[]
up[300y]
up @ start()
up @ start
up @
up @ x
up @ 1 @ 2
up @ nan
up @ 1e100
rate(up @ 1 [5m])
up @ -1
a + on b
a + on (x) group_left (x) b
a and on (x) group_left b
a + group_left b
a + ignoring (x) 1
1 + on (x) 2
a on (x) b
a + on (1x) b
a atan2 b
a atan2
a ^ b ^
a % % b
- up
-"a"
-up[5m]
+ + up
! up
not up
up xor up
up & up
up | up
up; up
up, up
up.down
:up
up:
1up
0x
0x1f
1e
1_000
1__0
5.
1.2.3
Inf
nan
5m
$x
up{a="$x"}
up # comment
# comment
up @ end() offset
sum(rate(up[5m])) by
sum(rate(up[5m])) by (
sum(rate(up[5m]) by (a)
(up]
[up]
up{a="b"}}
{up}
up{}
up{}{}
up{} [5m]
up [5m] {a="b"}
rate({a="b"}[5m])
by
by(up)
on
sum by
count
and
up and
and up
up or or up
rate(up[5m] + 1)
rate((up[5m]))
rate(sum(up)[5m])
avg_over_time(sum(up)[5m:])
up[5m:0]
up[5m:-1m]
max_over_time(rate(up)[5m:])
predict_linear(up[5m], "a")
up unless ignoring a up
ceil(floor(sum(x[5m])))
up{a="b\"}
up{a="\xff"}
up{a="b" or a="c"}
start()
end
fill(1)
a + fill(0) b
sum(up) > 5 or vector("1")
up > 1 > 2
up ~ 1
up =~ "a"
up{a~"b"}
up{a=~b}
up{=~"b"}
up{"a"="b", "c"}
"a" + "b"
rate(up[5m)]
rate(up[5m}
foo{bar="baz"} offset 5m @ 0
sum up
sum 1
sum(up up)
sum(rate(up up))
up "a"
sum[5m
up[5m+1m]
up[5m:x]
up offset 5m+
up offset (5m)
a + bool on(x) b
a + on(x) bool b
sum by (a) up
sum(up) up
up[5m:1m 2]
up[5m:)
sum("veryverylongstringhere" 1)
up @ start(
up @ start(1)
foo(up) up
sum by (a,b
sum by (a,,b) (up)
rate(up[5m],)
rate(,)
foo(,)
up[5m] [
topk(1,2,up)
up offset 1w1y
nosuch(up +
rate(rate(up))
up{a="b",a
offset
up offset -
up @ -
(
()
)
a:b(up)
sum by (a:b) (up)
on(x)
up{a="b"}[5m]{c="d"}
1(up)
"a"(up)
up[5m,1]
sum(up)by
up{"a"
up{"a",}
up{"a" "b"}
up{"a"=}
a == bool
abs(up) offset 5m $
topk(, up)
sum()()
up[[5m]]
up[5m:[1m]]
up{{a="b"}}
up[1d1h1m
up offset 5x
""".strip().split("\n")
"""A line each."""

ODD_QUERIES = [
    "up == ",
    "",
    "   ",
    "\xfc",
    'up{\xfc="x"}',
    'up{a="\xfc"}',
    "up\xa0> 1",
    "up > \u201c1\u201d",
    "foo\n  bar",
    "sum(\n  rate(foo[5m]),\n)",
]
"""Those that do not stand well in a line."""

TEMPLATES = r"""
{{
{{ }}
{{ . }
{{ $value | nope }}
{{ $labels.a.b }}
{{ $x }}
{{ if }}x{{ end }}
{{ if true }}x
{{ end }}
{{ else }}
{{ range }}{{ end }}
{{ with $labels }}{{ .a }}{{ end }}
{{ template "x" }}
{{ define "x" }}y{{ end }}{{ template "x" }}
{{ humanize }}
{{ humanize $value $value }}
{{ humanize "a" }}
{{ query "up +" }}
{{ query "up" | first | value }}
{{ query `up` }}
{{ printf "%d" }}
{{ printf "%.2f" $value }}
{{ "a }}
{{ 'a' }}
{{ 'ab' }}
{{ 1 + 2 }}
{{ $labels["a"] }}
{{ index $labels "a" }}
{{ /* c */ }}
{{/* c }}
{{- $value -}}
{{ $value.foo }}
{{ .Value }}
{{ .Labels.a }}
{{ .value }}
{{ $value | humanize | humanize }}
{{ $a := 1 }}{{ $a }}
{{ (1 }}
{{ 1) }}
{{ | humanize }}
{{ $value | }}
{{ break }}
{{ range query "up" }}{{ break }}{{ end }}
{{ externalURL }}
{{ $externalLabels.a }}
{{ $externalURL }}
{{ args 1 2 }}
{{ reReplaceAll "(" "a" "b" }}
{{ len $labels }}
{{ $labels | nothing }}
{{ eq 1 }}
{{ index $labels }}
{{ 1x }}
{{ .a.b.c }}
}}
{{ "\q" }}
{{ `a` }}
{{ nil }}
{{ true.x }}
{{ humanize.x }}
{{ block "x" . }}a{{ end }}
{{ $labels.instance
{{ if eq $labels.a "b" }}x{{ else if true }}y{{ end }}
{{ if true }}x{{ else }}y{{ else }}z{{ end }}
{{ toTime $value }}
{{ ($value).x }}
{{ $labels.a-b }}
{{ $value * 100 }}
{{ humanizePercentage ($value) }}
{{ slice "abc" 1 2 }}
{{ html "x" }}
{{ call 1 }}
{{ index 1 2 }}
{{ parseDuration "x" }}
{{ stripPort }}
{{ graphLink "up" }}
{{ safeHtml "x" }}
{{ match "(" "a" }}
{{ first (query "up") }}
{{ sortByLabel "a" (query "up") }}
{{ title 5 }}
""".strip().split("\n")
"""As an annotation."""
