# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The templates of the page that `report` fills: Jinja2 with autoescape."""

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --ink: #1c1d1f; --dim: #63666b;
  --line: #dcdee1; --good: #1f7a4d; --bad: #c23b33; --mark: #2f6fb5; --pale: #a9c4e2; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --card: #1f2226; --ink: #e8e9eb;
  --dim: #a0a4aa; --line: #383c42; --good: #46b57f; --bad: #e2675f; --mark: #6aa6e8;
  --pale: #36506e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
.dim { color: var(--dim); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .8rem; }
.figures b { display: block; font-size: 1.55rem; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; }
tfoot th, tfoot td { border-top: 2px solid var(--line); border-bottom: 0; font-weight: 600; }
.swatch { display: inline-block; width: .85em; height: .85em; border-radius: 3px;
  border: 1px solid var(--line); margin-right: .45em; vertical-align: -.08em; }
.bar { min-width: 7rem; background: linear-gradient(90deg, var(--pale) var(--share),
  transparent var(--share)); }
.matrix td, .matrix th { padding: .28rem .45rem; }
.matrix td { border: 1px solid var(--line); min-width: 1.2rem; text-align: center; }
.matrix .right { background: color-mix(in srgb, var(--good) calc(.55 * var(--share)),
  var(--card)); }
.matrix .wrong { background: color-mix(in srgb, var(--bad) calc(.55 * var(--share)),
  var(--card)); }
.many { font-size: .78rem; }
.many thead th:not(:first-child) { writing-mode: vertical-rl; text-align: left; padding: .5rem 0; }
.matrix.many tbody th { padding: .05rem .5rem .05rem 0; }
.matrix.many td { padding: .05rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  gap: 1rem; }
figure { margin: 0; }
.plots figure { max-width: 36rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px;
  padding: .7rem; }
figcaption { color: var(--dim); font-size: .88rem; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--dim); }
svg .ink { fill: var(--ink); }
svg .bars { fill: var(--mark); }
svg .pale { fill: var(--pale); }
svg .axis { stroke: var(--dim); fill: none; }
svg .ideal { stroke: var(--ink); stroke-dasharray: 4 3; fill: none; }
svg .line { stroke: var(--bad); fill: none; }
.frame { margin: 0 0 1rem; }
.frame > div { display: grid; grid-template-columns: repeat(5, 1fr); gap: .35rem;
  margin-top: .2rem; }
.frame img { display: block; width: 100%; height: auto; border-radius: 4px; background: #000; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
.facts dt { color: var(--dim); }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace;
  font-size: .88rem; }
@media (max-width: 40rem) { body { padding: .8rem; } .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .45rem; } .frame > div { grid-template-columns: repeat(2, 1fr); } }
@media print { :root { color-scheme: light; --back: #fff; --card: #fff; --ink: #000; --dim: #444;
  --line: #bbb; --good: #1f7a4d; --bad: #c23b33; --mark: #2f6fb5; --pale: #a9c4e2; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, tr, .figures, .facts { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } th { white-space: normal; } th, td { padding: .2rem .35rem; }
  .bar { min-width: 4rem; } .many { font-size: 7pt; }
  .frame > div { grid-template-columns: repeat(5, 1fr); } }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>""" + _STYLE + """</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{% if 'protocol' in facts %}
<p>Protocol <b>{{ facts.protocol.name }}</b>: {{ facts.protocol.description }}.</p>
{% endif %}
{% if facts.get('lost') %}
<p>Scored without <b>{{ facts.lost }}</b>, as after the failure of its sensor.</p>
{% endif %}
{% if notes %}
<dl class="facts">
{% for name, text in notes.items() %}
<dt>{{ name }}</dt><dd>{{ text }}</dd>
{% endfor %}
</dl>
{% endif %}
</header>
<main>
{% if parts %}
<div class="figures">
<div><b>{{ facts.mean.iou | percent }}</b>mean IoU, %</div>
<div><b>{{ facts.mean.recall | percent }}</b>mean accuracy, %</div>
<div><b>{{ facts.pixel_accuracy | percent }}</b>pixel accuracy, %</div>
<div><b>{{ facts.mean.f1 | percent }}</b>mean F1, %</div>
<div><b>{{ facts.mean.boundary | percent }}</b>boundary F, %</div>
<div><b>{{ facts.calibration_error | percent }}</b>calibration error, %</div>
<div><b>{{ facts.pairs }}</b>pairs, {{ facts.labelled }} with a label</div>
</div>

<section>
<h2>Classes</h2>
<p class="dim">Percent; – where there is nothing to score.</p>
<div class="scroll"><table>
<thead><tr><th scope="col">class</th><th scope="col">IoU</th><th scope="col">recall</th>
<th scope="col">precision</th><th scope="col">F1</th><th scope="col">boundary F</th>
{% if facts.boxes %}
<th scope="col">boxes</th><th scope="col">found</th><th scope="col">pixels inside</th>
{% endif %}
</tr></thead>
<tbody>
{% for label in labels %}
{% set row = facts.classes[label.name] %}
{% set box = facts.boxes.get(label.name) %}
<tr><th scope="row"><span class="swatch" style="background: rgb{{ label.color }}"></span>
{{- label.name }}{% if 'protocol' in facts and
label.name not in facts.protocol.classes %}
 <span class="dim">(not in the means)</span>{% endif %}</th>
<td class="bar" style="--share: {{ '%.1f' % (100 * (row.iou or 0)) }}%">
{{- row.iou | percent }}</td>
<td>{{ row.recall | percent }}</td><td>{{ row.precision | percent }}</td>
<td>{{ row.f1 | percent }}</td><td>{{ row.boundary | percent }}</td>
{% if box %}
<td>{{ box.boxes }}</td><td>{{ box.found | percent }}</td><td>{{ box.inside | percent }}</td>
{% elif facts.boxes %}
<td>–</td><td>–</td><td>–</td>
{% endif %}
</tr>
{% endfor %}
</tbody>
<tfoot><tr><th scope="row">mean</th><td>{{ facts.mean.iou | percent }}</td>
<td>{{ facts.mean.recall | percent }}</td><td>{{ facts.mean.precision | percent }}</td>
<td>{{ facts.mean.f1 | percent }}</td><td>{{ facts.mean.boundary | percent }}</td>
{% if facts.boxes %}
<td></td><td></td><td></td>
{% endif %}
</tr></tfoot>
</table></div>
</section>

{% if parts | length > 1 %}
<section>
<h2>Day and night</h2>
<p class="dim">Percent; below the means the IoU of each class.</p>
<div class="scroll"><table>
<thead><tr><th scope="col">frames</th>
{% for name in parts %}
<th scope="col">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
<tr><th scope="row">pairs</th>
{% for part in parts.values() %}
<td>{{ part.pairs }}</td>
{% endfor %}
</tr>
{% for title, score in (('mean IoU', 'iou'), ('mean accuracy', 'recall'), ('mean F1', 'f1')) %}
<tr><th scope="row">{{ title }}</th>
{% for part in parts.values() %}
<td>{{ part.mean[score] | percent }}</td>
{% endfor %}
</tr>
{% endfor %}
{% for title, score in (('pixel accuracy', 'pixel_accuracy'),
('calibration error', 'calibration_error')) %}
<tr><th scope="row">{{ title }}</th>
{% for part in parts.values() %}
<td>{{ part[score] | percent }}</td>
{% endfor %}
</tr>
{% endfor %}
{% for label in labels %}
<tr><th scope="row"><span class="swatch" style="background: rgb{{ label.color }}"></span>
{{- label.name }}</th>
{% for part in parts.values() %}
<td>{{ part.classes[label.name].iou | percent }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
</section>
{% endif %}

<section>
<h2>Confusion</h2>
<p class="dim">Of the pixels of a row's class, the share that the mask gives to each column,
percent.</p>
<div class="scroll"><table class="matrix{{ ' many' if labels | length > 8 }}">
<thead><tr><th scope="col">label</th>
{% for name in confusion[0] %}
<th scope="col">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for name, cells in confusion[1] %}
<tr><th scope="row">{{ name }}</th>
{% for share, count, right in cells %}
<td class="{{ 'right' if right else 'wrong' }}" style="--share: {{ '%.1f' % (100 * share) }}%"
title="{{ name }} as {{ confusion[0][loop.index0] }}: {{ count }} pixels">
{{- '%.1f' % (100 * share) if with_numbers and count else '' }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
</section>
{% endif %}

{% if latency or reliability %}
<section>
<h2>Time and confidence</h2>
<div class="plots">
{% if latency %}
<figure>{{ latency | safe }}</figure>
{% endif %}
{% if reliability %}
<figure>{{ reliability | safe }}</figure>
{% endif %}
</div>
</section>
{% endif %}

{% for end, frames in (('lowest', gallery.worst()), ('highest', gallery.best())) %}
{% if frames %}
<section>
<h2>Frames of the {{ end }} {{ gallery.score }}</h2>
{% if loop.first %}
<p class="dim">
{% for label in labels %}
<span class="swatch" style="background: rgb{{ label.color }}"></span>{{ label.name }}&ensp;
{% endfor %}
{% if frames[0].pictures.errors is defined %}
Grey has no label. In the map of errors, red is wrong and blue has no label.
{% endif %}
</p>
{% endif %}
{% for frame in frames %}
<figure class="frame">
<figcaption><b>{{ frame.name }}</b>, {{ gallery.score }} {{ frame.score | percent }} %</figcaption>
<div>
{% for kind, pixels in frame.pictures.items() %}
<figure><img src="{{ pixels | uri(kind) }}" width="{{ pixels.shape[1] }}"
height="{{ pixels.shape[0] }}" alt="{{ kind }} of {{ frame.name }}"><figcaption>{{ kind }}
</figcaption></figure>
{% endfor %}
</div>
</figure>
{% endfor %}
</section>
{% endif %}
{% endfor %}

<section>
<h2>Made by</h2>
<dl class="facts">
{% for name, text in facts.made_by.items() %}
<dt>{{ name }}</dt><dd>{{ text }}</dd>
{% endfor %}
</dl>
</section>
</main>
</body>
</html>
"""

# Plots are 420 x 230 units: the axes end at x 40..410 and y 10..190.
HISTOGRAM = """<svg viewBox="0 0 420 230" role="img"
aria-label="Histogram of the time of {{ count }} frames">
{% for frames, left, right in bars %}
{% set x = 40 + 370 * (left - low) / (high - low) %}
{% if frames %}
<rect class="bars" x="{{ '%.1f' % x }}" y="{{ '%.1f' % (190 - 165 * frames / top) }}"
width="{{ '%.1f' % (370 / bars | length - 1) }}"
height="{{ '%.1f' % (165 * frames / top) }}"><title>
{{- '%.1f' % left }} to {{ '%.1f' % right }} ms: {{ frames }} frames</title></rect>
{% endif %}
{% endfor %}
<path class="axis" d="M40 10V190H410"/>
<text x="36" y="30" text-anchor="end">{{ top }}</text>
<text x="36" y="193" text-anchor="end">0</text>
{% for tick in ticks %}
{% set x = '%.1f' % (40 + 370 * (tick - low) / (high - low)) %}
<path class="axis" d="M{{ x }} 190v4"/>
<text x="{{ x }}" y="207" text-anchor="middle">{{ '%g' % tick }}</text>
{% endfor %}
{% for name, value in lines %}
{% set x = '%.1f' % (40 + 370 * (value - low) / (high - low)) %}
<path class="line" d="M{{ x }} 12V190"/>
{% set left = value < (low + high) / 2 %}
<text class="ink" x="{{ x }}" y="{{ 10 if loop.first else 22 }}" dx="{{ 4 if left else -4 }}"
text-anchor="{{ 'start' if left else 'end' }}">{{ name }} {{ '%.1f' % value }} ms</text>
{% endfor %}
<text x="225" y="225" text-anchor="middle">ms from frames to mask in memory; longest
{{ '%.1f' % longest }}</text>
</svg>
<figcaption>Frames by their time; those above the 99th percentile are in the last bar.</figcaption>
"""

RELIABILITY = """<svg viewBox="0 0 420 230" role="img"
aria-label="Share of right pixels over confidence">
{% for row in rows %}
<rect class="pale" x="{{ '%.1f' % (40 + 370 * row.left) }}"
y="{{ '%.1f' % (190 - 180 * row.share) }}" width="{{ '%.1f' % (370 * row.width - 1) }}"
height="{{ '%.1f' % (180 * row.share) }}"><title>confidence
{{ '%.3f' % row.confidence }}: {{ '%.2f' % (100 * row.share) }} % of the pixels</title></rect>
{% endfor %}
<path class="axis" d="M40 10V190H410"/>
<path class="ideal" d="M40 190L410 10"/>
<polyline class="line" points="{% for row in rows %}{{ '%.1f,%.1f' % (
40 + 370 * row.confidence, 190 - 180 * row.right) }} {% endfor %}"/>
{% for row in rows %}
<circle class="bars" r="3.5" cx="{{ '%.1f' % (40 + 370 * row.confidence) }}"
cy="{{ '%.1f' % (190 - 180 * row.right) }}"><title>confidence {{ '%.3f' % row.confidence }}:
{{ '%.1f' % (100 * row.right) }} % right</title></circle>
{% endfor %}
{% for i in range(0, 6) %}
<text x="{{ 40 + 74 * i }}" y="207" text-anchor="middle">{{ '%g' % (i / 5) }}</text>
<text x="36" y="{{ 194 - 36 * i }}" text-anchor="end">{{ '%g' % (i / 5) }}</text>
{% endfor %}
<text x="225" y="225" text-anchor="middle">confidence</text>
</svg>
<figcaption>Share of right pixels over confidence (points, ideal on the dashed line) and share of
all pixels with that confidence (bars).</figcaption>
"""
