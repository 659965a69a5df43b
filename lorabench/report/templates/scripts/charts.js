"use strict";
// Memory and time of one scenario's cases, to hover over and zoom into.
const Charts = (() => {
  const { colour } = Format;
  const { layout, plot, say, jitter } = Plots;
  const mostCases = 60;
  const select = document.getElementById("chart-scenario");
  const phaseSelect = document.getElementById("chart-phase");
  let groups = new Map();
  let phases = [];
  let drawn = 0;

  // Bars of some columns of bytes; in one unit, with the exact bytes when hovered over.
  function bars(members, kinds, scale) {
    return kinds.map(([name, label, shade]) => ({
      type: "bar", orientation: "h", name: label, marker: { color: colour(shade) },
      y: members.map((_, index) => index),
      x: members.map((row) => (row[name] ?? null) === null ? null : row[name] / scale.divisor),
      customdata: members.map((row) => [Format.markup(row.label), (row[name] ?? null) === null ? "" : Format.number(row[name])]),
      hovertemplate: `<b>%{customdata[0]}</b><br>${label} %{x:.2f} ${scale.unit}<br>%{customdata[1]} B<extra></extra>`,
    }));
  }

  function memory(members) {
    if (members.every((row) => (row.memory_peak_allocated_bytes ?? null) === null)) return say("chart-memory", "No memory was measured.");
    const scale = Format.scale("bytes", members.map((row) => row.memory_peak_allocated_bytes));
    const traces = bars(members, [["memory_static_bytes", "static", "series-1"], ["memory_dynamic_bytes", "dynamic", "series-5"]], scale);
    const [peak] = bars(members, [["memory_peak_allocated_bytes", "peak", "ink"]], scale);
    traces.push({ ...peak, type: "scatter", mode: "markers", orientation: undefined, marker: { color: colour("ink"), symbol: "diamond", size: 8 } });
    return plot("chart-memory", traces, { ...layout(members, `allocated, ${scale.unit}`, 28), barmode: "stack", bargap: 0.32 });
  }

  function allocator(members) {
    if (members.every((row) => (row.memory_peak_reserved_bytes ?? null) === null)) {
      return say("chart-allocator", "Only allocated bytes are known here: a CPU has no caching allocator that reserves memory, and no driver that tells what a process uses of the device.");
    }
    const kinds = [["memory_peak_allocated_bytes", "allocated", "series-1"], ["memory_peak_reserved_bytes", "reserved", "series-6"],
      ["memory_device_used_bytes", "device used", "series-4"]];
    const scale = Format.scale("bytes", members.flatMap((row) => kinds.map(([name]) => row[name] ?? null)));
    return plot("chart-allocator", bars(members, kinds, scale), { ...layout(members, `peak, ${scale.unit}`, 44), barmode: "group", bargap: 0.25 });
  }

  async function time(members, phase) {
    const median = `${phase}_median_s`;
    if (!phase) return say("chart-time", "Nothing was timed: a prediction knows bytes alone.");
    const scale = Format.scale("seconds", members.map((row) => row[median] ?? null));
    const records = await Promise.all(members.map(Data.record));
    const samples = { x: [], y: [], customdata: [] };
    members.forEach((row, index) => {
      (records[index]?.latency[phase]?.samples_s ?? []).forEach((sample, number) => {
        samples.x.push(sample / scale.divisor);
        samples.y.push(index + jitter(number));
        samples.customdata.push([Format.markup(row.label), number + 1]);
      });
    });
    const timed = members.map((row, index) => [row, index]).filter(([row]) => (row[median] ?? null) !== null);
    const end = (row, name) => Math.abs(row[`${phase}_${name}`] - row[median]) / scale.divisor;
    return plot("chart-time", [
      { type: "scatter", mode: "markers", name: "sample", ...samples, marker: { color: colour("series-6"), size: 6, opacity: 0.75 },
        hovertemplate: `<b>%{customdata[0]}</b><br>sample %{customdata[1]}: %{x:.4g} ${scale.unit}<extra></extra>` },
      { type: "scatter", mode: "markers", name: "median, 95% interval", x: timed.map(([row]) => row[median] / scale.divisor), y: timed.map(([, index]) => index),
        marker: { color: colour("ink"), symbol: "line-ns-open", size: 13, line: { width: 2 } },
        error_x: { type: "data", symmetric: false, array: timed.map(([row]) => end(row, "ci95_high_s")), arrayminus: timed.map(([row]) => end(row, "ci95_low_s")),
          color: colour("ink"), thickness: 2, width: 0 },
        customdata: timed.map(([row]) => [Format.markup(row.label), Format.number(row[`${phase}_ci95_low_s`] / scale.divisor),
          Format.number(row[`${phase}_ci95_high_s`] / scale.divisor), row[`${phase}_unstable`] ? "<br>unstable" : ""]),
        hovertemplate: `<b>%{customdata[0]}</b><br>median %{x:.4g} ${scale.unit}<br>95% interval %{customdata[1]} to %{customdata[2]} ${scale.unit}%{customdata[3]}<extra></extra>` },
    ], layout(members, `${phase}, ${scale.unit}`, 28));
  }

  const timedPhases = (members) => phases.filter((phase) => members.some((row) => (row[`${phase}_median_s`] ?? null) !== null));

  function note(all, members) {
    const lacking = members.filter((row) => !row.place).length;
    const parts = [];
    if (all.length > members.length) parts.push(`The first ${members.length} of ${Format.number(all.length)} cases.`);
    if (lacking) parts.push(`Samples of ${Format.number(lacking)} cases did not fit this page: their medians and intervals are drawn.`);
    document.getElementById("chart-note").textContent = parts.join(" ");
  }

  async function draw() {
    const all = groups.get(select.value) ?? [];
    const members = all.slice(0, mostCases);
    const available = timedPhases(members);
    const wanted = State.get("phase");
    const phase = available.includes(wanted) ? wanted : available[0];
    phaseSelect.replaceChildren(...available.map((name) => new Option(name, name, false, name === phase)));
    phaseSelect.parentElement.hidden = available.length < 2;
    note(all, members);
    await Promise.all([memory(members), allocator(members), time(members, phase)]);
    drawn += 1;
    document.getElementById("charts").dataset.drawn = drawn;
  }

  function apply() {
    const wanted = State.get("chart");
    if (wanted !== null && groups.has(wanted)) select.value = wanted;
    return draw();
  }

  function start({ rows, listed, columns }) {
    if (!select) return;
    // The step, the prefill and the decoding before what they are made of.
    const first = ["step", "prefill", "decode"];
    const timed = columns.map((column) => column.name).filter((name) => name.endsWith("_median_s")).map((name) => name.replace("_median_s", ""));
    phases = [...first.filter((name) => timed.includes(name)), ...timed.filter((name) => !first.includes(name))];
    const several = new Set(rows.map((row) => row.where)).size > 1;
    for (const row of listed) {
      if (row.status === "invalid") continue;
      if ((row.memory_peak_allocated_bytes ?? null) === null && !timed.some((phase) => (row[`${phase}_median_s`] ?? null) !== null)) continue;
      const name = several ? `${row.scenario} on ${row.where}` : row.scenario;
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    }
    for (const [name, members] of groups) select.append(new Option(`${name}: ${members.length} case${members.length === 1 ? "" : "s"}`, name));
    select.addEventListener("change", () => {
      State.write("charts", { chart: select.value, phase: null });
      draw();
    });
    phaseSelect.addEventListener("change", () => {
      State.write("charts", { phase: phaseSelect.value });
      draw();
    });
    State.listen(apply);
    // Drawn when the reader comes near: the verdicts are there at once.
    const watcher = new IntersectionObserver((seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      watcher.disconnect();
      apply();
    }, { rootMargin: "600px" });
    watcher.observe(document.getElementById("charts"));
  }

  return { start, redraw: () => { if (drawn) draw(); } };
})();
