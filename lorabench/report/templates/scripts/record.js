"use strict";
// A whole record in a dialog. All text goes through textContent: names and messages come from files.
const RecordView = (() => {
  const dialog = document.getElementById("record");
  const order = ["case", "memory", "attribution", "latency", "proof", "observations"];
  let closed = () => {};

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  const isPlain = (value) => value === null || typeof value !== "object";
  const inOneLine = (value) => Array.isArray(value) && value.every(isPlain);

  function readable(name, value) {
    if (value === null) return element("dd", {}, "–");
    if (Array.isArray(value)) {
      const kind = Format.kindOf(name);
      const text = value.map((one) => (typeof one === "number" && kind === "seconds" ? Format.time(one) : String(one))).join(", ");
      return element("dd", {}, text || "–");
    }
    if (typeof value === "number") {
      const kind = Format.kindOf(name);
      if (kind === "number") return element("dd", {}, Number.isInteger(value) ? Format.number(value) : String(value));
      const text = kind === "bytes" ? Format.size(value) : Format.time(value);
      return element("dd", {}, text, element("span", { className: "raw" }, kind === "bytes" ? `${Format.number(value)} B` : `${value} s`));
    }
    return element("dd", {}, String(value));
  }

  function tree(data) {
    const list = element("dl", { className: "tree" });
    for (const [name, value] of Object.entries(data)) {
      const title = element("dt", {}, name.replaceAll("_", " ").replace(/ (bytes|s)$/, ""));
      if (isPlain(value) || inOneLine(value)) list.append(element("div", {}, title, readable(name, value)));
      else if (Object.keys(value).length === 0) list.append(element("div", {}, title, element("dd", {}, "–")));
      else list.append(element("div", { className: "nested" }, title, element("dd", {}, tree(value))));
    }
    return list;
  }

  function section(name, value, open) {
    return element("details", { open }, element("summary", {}, name), tree(value));
  }

  // The timeline is drawn, not listed; the rest of what was attributed is a section of its own.
  function attributed(record, body) {
    const { timeline, ...rest } = record.observations.attribution;
    const { attribution, ...observations } = record.observations;
    if (Timeline.known(timeline)) {
      const place = element("div", { className: "timeline" });
      body.append(element("details", { open: true }, element("summary", {}, "memory through one step"), place));
    }
    return { ...record, observations, attribution: rest };
  }

  function content(row, record) {
    const body = element("div", { className: "content" });
    const error = record?.error;
    if (error) {
      body.append(element("p", { className: "alert" }, `${record.status}${error.phase ? ` in ${error.phase}` : ""}: ${error.type}: ${error.message}`));
    }
    if (record === null) {
      body.append(element("p", { className: "capped" }, "This record did not fit the page whole. This is what the table knows of it; the results file has the rest."));
      const { text, place, index, label, where, names, ...known } = row;
      body.append(tree(Object.fromEntries(Object.entries(known).filter(([, value]) => value !== null))));
      return body;
    }
    const { also, ...rest } = record;
    if (also?.length) rest.also = also.map((other) => other.name);
    const parts = Object.fromEntries(Object.entries(rest).filter(([, value]) => isPlain(value) || Array.isArray(value)));
    body.append(section("identity", parts, true));
    if (record.observations?.attribution) record = attributed(record, body);
    for (const name of order) {
      const value = record[name];
      if ( value && Object.keys(value).length) body.append(section(name, value, name === "memory" || name === "case"));
    }
    body.append(section("environment", Data.settings.environments[record.environment], false));
    return body;
  }

  async function open(row, whenClosed) {
    closed = whenClosed;
    const record = await Data.record(row);
    const close = element("button", { type: "button", className: "quiet", onclick: () => dialog.close() });
    close.setAttribute("aria-label", "Close");
    close.innerHTML = '<svg class="icon" aria-hidden="true"><use href="#icon-close"/></svg>';
    const title = element("h2", { id: "record-title" }, row.name);
    const place = element("p", {}, [row.id, row.device, row.file].filter(Boolean).join(" · "));
    dialog.replaceChildren(element("header", {}, element("div", {}, title, place), close), content(row, record));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    // Only what is shown has a width to draw in.
    const chart = dialog.querySelector(".timeline");
    if (chart) await Timeline.draw(chart, record.observations.attribution.timeline);
  }

  dialog.addEventListener("close", () => closed());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  return { open, close: () => dialog.close(), get isOpen() { return dialog.open; } };
})();
