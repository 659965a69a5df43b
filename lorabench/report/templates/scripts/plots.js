"use strict";
// What all charts of cases share: one case a line, the page's colours and type, a sentence where there is nothing to draw.
const Plots = (() => {
  const { colour } = Format;

  function shortened(text, most) {
    const head = Math.floor((most - 1) / 2);
    return text.length <= most ? text : `${text.slice(0, head)}…${text.slice(head + 1 - most)}`;
  }

  function onTwoLines(text, most) {
    const space = text.lastIndexOf(" ", most);
    const end = space > 0 ? space : most;
    return `${text.slice(0, end)}\n${shortened(text.slice(end).trim(), most)}`;
  }

  const whole = (text, most) =>
    (text.match(new RegExp(`\\S.{0,${most - 1}}(?=\\s|$)|\\S.{0,${most - 1}}`, "gs")) ?? [text]).join("\n");

  // Cut as in the figures of claims (shortened_apart in canvas.py): on two lines where two that differ would look the same; and
  // whole, on as many as it takes, where they still would.
  function shortenedApart(texts, most) {
    return [onTwoLines, whole].reduce((labels, cut) => {
      const told = new Map();
      texts.forEach((text, index) => told.set(labels[index], (told.get(labels[index]) ?? new Set()).add(text)));
      return labels.map((label, index) => (told.get(label).size > 1 ? cut(texts[index], most) : label));
    }, texts.map((text) => shortened(text, most)));
  }

  function layout(members, unit, perRow) {
    const narrow = innerWidth < 640;
    const labels = shortenedApart(members.map((row) => row.label), narrow ? 20 : 30).map((label) => label.split("\n"));
    const lines = Math.max(...labels.map((label) => label.length));
    const axis = { color: colour("muted"), gridcolor: colour("line"), zeroline: false, linecolor: colour("line") };
    return {
      height: 96 + members.length * Math.max(perRow, 20 * lines),
      margin: { l: 8, r: 12, t: 34, b: 44 },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      xaxis: { ...axis, title: { text: unit, standoff: 8, font: { size: 12 } }, rangemode: "tozero", automargin: true },
      yaxis: { ...axis, tickvals: members.map((_, index) => index), ticktext: labels.map((label) => label.map((line) => Format.markup(line) + " ").join("<br>")),
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
