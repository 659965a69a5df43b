"use strict";
// What all charts of cases share: one case a line, the page's colours and type, a sentence where there is nothing to draw.
const Plots = (() => {
  const { colour } = Format;

  function layout(members, unit, perRow) {
    const narrow = innerWidth < 640;
    const most = narrow ? 20 : 30;
    const short = (text) => (text.length <= most ? text : `${text.slice(0, most / 2 - 1)}…${text.slice(1 - most / 2)}`);
    const axis = { color: colour("muted"), gridcolor: colour("line"), zeroline: false, linecolor: colour("line") };
    return {
      height: 96 + members.length * perRow,
      margin: { l: 8, r: 12, t: 34, b: 44 },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      xaxis: { ...axis, title: { text: unit, standoff: 8, font: { size: 12 } }, rangemode: "tozero", automargin: true },
      yaxis: { ...axis, tickvals: members.map((_, index) => index), ticktext: members.map((row) => Format.markup(short(row.label)) + " "),
        range: [members.length - 0.45, -0.55], automargin: true, showgrid: false, tickfont: { color: colour("ink"), size: 12 } },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", xanchor: "left", traceorder: "normal", font: { size: 12 } },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") } },
      hovermode: "closest",
      dragmode: narrow ? false : "zoom",
    };
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

  function say(id, text) {
    const place = document.getElementById(id);
    Plotly.purge(place);
    const line = document.createElement("p");
    line.textContent = text;
    place.replaceChildren(line);
  }

  function plot(id, traces, made) {
    const place = document.getElementById(id);
    if (place.querySelector("p")) place.replaceChildren();
    return Plotly.react(place, traces, made, config);
  }

  // Dots lie beside each other in a fixed pattern, so that equal samples can be told apart.
  const jitter = (number) => ((number * 0.618) % 1 - 0.5) * 0.36;

  return { layout, plot, say, jitter };
})();
