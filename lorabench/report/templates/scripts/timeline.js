"use strict";
// What is allocated through one steady step, stacked by category; zoomable, with the phases marked.
const Timeline = (() => {
  // In the order of lorabench.measure.attribution.categories: what stays lies below what comes and goes.
  const shades = {
    base_weights: ["series-1", 0.85], quantization_state: ["series-1", 0.45], adapter_weights: ["series-3", 0.85], optimizer_state: ["series-3", 0.45],
    library_workspaces: ["muted", 0.55], inputs: ["muted", 0.25], gradients: ["series-4", 0.85], kv_cache: ["series-6", 0.85],
    activations: ["series-5", 0.85], logits_and_loss: ["series-2", 0.85], temporaries: ["series-2", 0.4], allocator_slack: ["muted", 0.75], unattributed: ["ink", 0.85],
  };
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

  const known = (value) => value !== null && typeof value === "object" && Array.isArray(value.at) && Array.isArray(value.phases);

  // Every category's values at every point. Files may hold anything: what is no number counts as none.
  function amounts(told) {
    const found = {};
    for (const name of Object.keys(shades)) {
      const varying = told.varying_bytes?.[name], constant = told.constant_bytes?.[name];
      if (Array.isArray(varying)) found[name] = told.at.map((_, index) => Number(varying[index]) || 0);
      else if (constant) found[name] = told.at.map(() => Number(constant) || 0);
    }
    return found;
  }

  function traces(told, found, scale) {
    return Object.entries(found).map(([name, values]) => {
      const [shade, opacity] = shades[name];
      const colour = Format.seeThrough(Format.colour(shade), opacity);
      return {
        type: "scatter", mode: "lines", stackgroup: "bytes", name: name.replaceAll("_", " "), x: told.at, y: values.map((value) => value / scale.divisor),
        line: { width: 0.5, color: colour }, fillcolor: colour, customdata: values.map((value) => Format.size(value)), hovertemplate: "%{customdata}",
      };
    });
  }

  function marks(told) {
    const line = Format.colour("muted");
    const starts = told.phases.filter((phase) => Number.isFinite(phase?.from));
    return {
      shapes: starts.map((phase) => ({ type: "line", x0: phase.from - 0.5, x1: phase.from - 0.5, y0: 0, y1: 1, yref: "paper", line: { color: line, width: 1, dash: "dot" } })),
      annotations: starts.map((phase) => ({
        x: phase.from - 0.5, y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, text: Format.markup(String(phase.name)), font: { size: 12, color: line },
      })),
    };
  }

  function draw(place, told) {
    const found = amounts(told);
    const totals = told.at.map((_, index) => Object.values(found).reduce((sum, values) => sum + values[index], 0));
    const scale = Format.scale("bytes", totals);
    const highest = totals.indexOf(Math.max(...totals));
    const axis = { color: Format.colour("muted"), gridcolor: Format.colour("line"), linecolor: Format.colour("line"), zeroline: false };
    const peak = {
      type: "scatter", mode: "markers", name: "peak", x: [told.at[highest]], y: [totals[highest] / scale.divisor], customdata: [Format.size(totals[highest])],
      hovertemplate: "%{customdata}", marker: { color: Format.colour("ink"), symbol: "diamond", size: 9 },
    };
    return Plotly.newPlot(place, [...traces(told, found, scale), peak], {
      height: 420,
      margin: { l: 8, r: 12, t: 30, b: 44 },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: Format.colour("ink") },
      xaxis: { ...axis, title: { text: "operators of one steady step", standoff: 8, font: { size: 12 } }, automargin: true, showgrid: false,
        // Found by itself, the range would make room for the longest phase's name.
        range: [told.at[0], told.at.at(-1)] },
      yaxis: { ...axis, title: { text: `allocated, ${scale.unit}`, font: { size: 12 } }, rangemode: "tozero", automargin: true },
      legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", traceorder: "normal", font: { size: 12 } },
      hoverlabel: { bgcolor: Format.colour("raised"), bordercolor: Format.colour("line"), font: { color: Format.colour("ink") } },
      hovermode: "x unified",
      dragmode: innerWidth < 640 ? false : "zoom",
      ...marks(told),
    }, config);
  }

  return { known, draw };
})();
