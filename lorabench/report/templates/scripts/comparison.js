"use strict";
// Base and head on shared axes: the base on the upper line of each case, pale or hollow, the head on the lower, filled.
(async () => {
  const { layout, plot, say, jitter } = Plots;
  const { colour } = Format;
  const select = document.getElementById("chart-scenario");
  if (!select) return;
  const note = document.getElementById("chart-note");
  if (typeof DecompressionStream === "undefined") {
    note.textContent = "This browser cannot unpack the charts: use a current one. The table below has the numbers.";
    return;
  }
  const phaseSelect = document.getElementById("chart-phase");
  const mostCases = 60;
  const sides = [["base", -0.2, 0.4], ["head", 0.2, 1]];
  const told = await unpack(document.getElementById("comparison").textContent);
  let drawn = 0;

  const known = (value) => value !== null && value !== undefined;

  // One side's bars of one kind of bytes.
  function bars(cases, side, offset, opacity, kind, label, shade, scale) {
    const values = cases.map((one) => one[side][kind] ?? null);
    return {
      type: "bar", orientation: "h", name: `${side}, ${label}`, width: 0.34, marker: { color: Format.seeThrough(colour(shade), opacity) },
      y: cases.map((_, index) => index + offset),
      x: values.map((value) => (known(value) ? value / scale.divisor : null)),
      customdata: cases.map((one, index) => [Format.markup(one.label), known(values[index]) ? Format.number(values[index]) : ""]),
      hovertemplate: `<b>%{customdata[0]}</b><br>${side}, ${label} %{x:.2f} ${scale.unit}<br>%{customdata[1]} B<extra></extra>`,
    };
  }

  function memory(cases) {
    const peaks = cases.flatMap((one) => sides.map(([side]) => one[side].peak ?? null));
    if (!peaks.some(known)) return say("chart-memory", "No memory was measured.");
    const scale = Format.scale("bytes", peaks);
    const traces = sides.flatMap(([side, offset, opacity]) => [
      bars(cases, side, offset, opacity, "static", "static", "series-1", scale),
      bars(cases, side, offset, opacity, "dynamic", "dynamic", "series-5", scale),
    ]);
    const both = sides.map(([side, offset]) => bars(cases, side, offset, 1, "peak", "peak", "ink", scale));
    traces.push({
      type: "scatter", mode: "markers", name: "peak", marker: { color: colour("ink"), symbol: "diamond", size: 7 },
      x: both.flatMap((one) => one.x), y: both.flatMap((one) => one.y), customdata: both.flatMap((one) => one.customdata),
      hovertemplate: `<b>%{customdata[0]}</b><br>peak %{x:.2f} ${scale.unit}<br>%{customdata[1]} B<extra></extra>`,
    });
    return plot("chart-memory", traces, { ...layout(cases, `allocated, ${scale.unit}`, 46), barmode: "stack" });
  }

  function reserved(cases) {
    const values = cases.flatMap((one) => sides.map(([side]) => one[side].reserved ?? null));
    // A CPU has no caching allocator that reserves memory.
    document.getElementById("chart-reserved").parentElement.hidden = !values.some(known);
    if (!values.some(known)) return null;
    const scale = Format.scale("bytes", values);
    const traces = sides.map(([side, offset, opacity]) => bars(cases, side, offset, opacity, "reserved", "reserved", "series-6", scale));
    return plot("chart-reserved", traces, { ...layout(cases, `peak reserved, ${scale.unit}`, 46), barmode: "stack" });
  }

  function timings(cases, side, phase) {
    return cases.map((one, index) => [one, index, one[side].times[phase]]).filter(([, , timing]) => timing);
  }

  function samples(cases, side, offset, phase, scale) {
    const points = timings(cases, side, phase).flatMap(([one, index, timing]) => timing.samples.map((sample, number) => ({
      x: sample / scale.divisor, y: index + offset + jitter(number) / 2, customdata: [Format.markup(one.label), number + 1],
    })));
    return {
      type: "scatter", mode: "markers", name: `${side}, sample`, x: points.map((one) => one.x), y: points.map((one) => one.y),
      customdata: points.map((one) => one.customdata),
      marker: { color: colour(side === "base" ? "series-5" : "series-1"), size: 6, opacity: 0.8, symbol: side === "base" ? "circle-open" : "circle" },
      hovertemplate: `<b>%{customdata[0]}</b><br>${side}, sample %{customdata[1]}: %{x:.4g} ${scale.unit}<extra></extra>`,
    };
  }

  function medians(cases, phase, scale) {
    const found = sides.flatMap(([side, offset]) => timings(cases, side, phase).map(([one, index, timing]) => ({ one, timing, side, y: index + offset })));
    const scaled = (value) => value / scale.divisor;
    return {
      type: "scatter", mode: "markers", name: "median, 95% interval", x: found.map(({ timing }) => scaled(timing.median)), y: found.map(({ y }) => y),
      marker: { color: colour("ink"), symbol: "line-ns-open", size: 12, line: { width: 2 } },
      error_x: { type: "data", symmetric: false, array: found.map(({ timing }) => scaled(timing.high - timing.median)),
        arrayminus: found.map(({ timing }) => scaled(timing.median - timing.low)), color: colour("ink"), thickness: 2, width: 0 },
      customdata: found.map(({ one, timing, side }) => [Format.markup(one.label), side, Format.number(scaled(timing.low)),
        Format.number(scaled(timing.high)), timing.unstable ? "<br>unstable" : ""]),
      hovertemplate: `<b>%{customdata[0]}</b><br>%{customdata[1]}, median %{x:.4g} ${scale.unit}<br>95% interval %{customdata[2]} to %{customdata[3]} ${scale.unit}%{customdata[4]}<extra></extra>`,
    };
  }

  function time(cases, phase) {
    if (!phase) return say("chart-time", "Nothing was timed: a prediction knows bytes alone.");
    const all = sides.flatMap(([side]) => timings(cases, side, phase).map(([, , timing]) => timing.median));
    const scale = Format.scale("seconds", all);
    const traces = sides.map(([side, offset]) => samples(cases, side, offset, phase, scale)).filter((trace) => trace.x.length);
    return plot("chart-time", [...traces, medians(cases, phase, scale)], layout(cases, `${phase}, ${scale.unit}`, 46));
  }

  async function draw() {
    const group = told.groups[Number(select.value) || 0];
    const cases = group.cases.slice(0, mostCases);
    const phases = [...new Set(cases.flatMap((one) => sides.flatMap(([side]) => Object.keys(one[side].times))))];
    const phase = phases.includes(phaseSelect.value) ? phaseSelect.value : phases[0];
    phaseSelect.replaceChildren(...phases.map((name) => new Option(name, name, false, name === phase)));
    phaseSelect.parentElement.hidden = phases.length < 2;
    const said = [];
    if (group.cases.length > cases.length) said.push(`The first ${cases.length} of ${Format.number(group.cases.length)} cases.`);
    if (!told.sampled) said.push("The samples did not fit this page: medians and intervals are drawn.");
    note.textContent = said.join(" ");
    await Promise.all([memory(cases), time(cases, phase), reserved(cases)]);
    drawn += 1;
    document.getElementById("charts").dataset.drawn = drawn;
  }

  told.groups.forEach((group, index) => select.append(new Option(`${group.title} (${group.cases.length})`, index)));
  select.addEventListener("change", draw);
  phaseSelect.addEventListener("change", draw);
  Theme.listen(draw);
  await draw();
})();
